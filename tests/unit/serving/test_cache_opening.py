"""Models with a cache in a running server: what each way of asking gets, and what is recorded of it."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from ekiben.guards.cache import MemoryRows
from ekiben.guards.redis_cache import SharedRows
from ekiben.model.guard_spec import CacheSpec
from ekiben.monitoring.cache_metrics import CacheMetrics
from ekiben.monitoring.log_table import head_of, table_of
from ekiben.serving.cache_opening import open_store
from ekiben.state.routes import Arm, Shadow, SlotRange

V1 = "/v1/models/tiny:predict"
V2 = "/v2/models/tiny/infer"
ROW = [0.1, 0.2, None, 0.4]
CACHED = CacheSpec(enabled=True)


@pytest.fixture
def tiny(start, registry, tiny_artifact, another):
    """Versions 1 and 2, which remember."""
    for version in ("1", "2"):
        registry.register(another(tiny_artifact, version, cache=CACHED).path, tag=f"tiny:{version}")
    return start("tiny")


def ask(serving, *rows, request_id="r", status=200, path=V1, **headers):
    answer = serving.post(path, json={"instances": [*rows]}, headers={"x-request-id": request_id, **headers})
    assert answer.status_code == status, answer.text
    return answer


def results(serving, version="1"):
    return tuple(
        serving.metric("ekiben_cache_requests_total", model="tiny", version=version, result=result) for result in ("hit", "miss", "joined")
    )


def computed(serving, version="1"):
    return serving.metric("ekiben_predicted_rows_total", model="tiny", version=version)


def logged(serving) -> list[dict]:
    files = sorted((serving.server.host._log.folder / "tail").rglob("*.arrows"))
    tables = [table_of(raw, head_of(raw.schema)) for raw in (pa.ipc.open_stream(file.read_bytes()).read_all() for file in files)]
    return sorted((r for table in tables for r in table.to_pylist()), key=lambda r: (r["request_id"], r["row"]))


def test_json_by_name_and_order_and_binary_tensors_get_one_computed_row(tiny):
    first = ask(tiny, ROW)
    assert ask(tiny, dict(zip("abcd", ROW, strict=True))).json() == first.json()
    assert ask(tiny, dict(zip("dcba", reversed(ROW), strict=True))).json() == first.json()
    data = np.array([ROW], np.float64).astype(np.float32)
    tensors = [{"name": n, "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}} for n in "abcd"]
    head = json.dumps({"inputs": tensors}).encode()
    body = head + b"".join(data[:, n].tobytes() for n in range(4))
    binary = tiny.post(V2, content=body, headers={"inference-header-content-length": str(len(head))})
    assert binary.status_code == 200, binary.text
    (label,) = (o["data"] for o in binary.json()["outputs"] if o["name"] == "prediction")
    assert label == [first.json()["predictions"][0]["prediction"]]
    assert (computed(tiny), results(tiny)) == (1, (3, 1, 0))
    assert tiny.metric("ekiben_cache_entries", model="tiny") == 1
    assert tiny.metric("ekiben_cache_bytes", model="tiny") > 0


def test_a_remembered_answer_is_counted_and_logged_as_any_other(tiny):
    first, second = ask(tiny, ROW, [1, 2, 3, 4], request_id="a"), ask(tiny, ROW, [1, 2, 3, 4], request_id="b", **{"x-routing-key": "ann"})
    assert first.json()["predictions"] == second.json()["predictions"]
    rows = logged(tiny)
    assert [(r["request_id"], r["row"], r["cached"], r["arm"], r["version"]) for r in rows] == [
        ("a", 0, False, "champion", "1"),
        ("a", 1, False, "champion", "1"),
        ("b", 0, True, "champion", "1"),
        ("b", 1, True, "champion", "1"),
    ]
    assert [r["features"] for r in rows[:2]] == [r["features"] for r in rows[2:]]
    assert [r["outputs"] for r in rows[:2]] == [r["outputs"] for r in rows[2:]]
    assert 0 < rows[2]["latency_s"] < 60
    assert tiny.metric("ekiben_predictions_total", model="tiny", status="ok") == 2
    assert sum(tiny.metric("ekiben_prediction_distribution", model="tiny", **{"class": c}) for c in ("no", "yes")) == 4
    tiny.thread.run(tiny.server.recorder.write())
    window = tiny.control.windows.sum("tiny", 0, 1e12)["1", "champion"]
    assert (window.ok, window.latency.n, window.compute.n) == (2, 2, 1)


def test_a_request_whose_key_was_said_is_logged_with_it(tiny):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),))
    for request_id in ("a", "b"):
        ask(tiny, ROW, request_id=request_id, **{"x-routing-key": "ann"})
    ask(tiny, ROW, request_id="c")
    assert [(r["cached"], r["arm"], r["key"]) for r in logged(tiny)] == [
        (False, "challenger", "ann"),
        (True, "challenger", "ann"),
        (True, "challenger", None),
    ]


def test_arms_and_pinned_requests_of_a_version_share_what_is_remembered_and_versions_do_not(tiny):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),))
    assert ask(tiny, ROW).headers["x-model-version"] == "2"
    assert ask(tiny, ROW, path="/v1/models/tiny/versions/2:predict").headers["x-model-version"] == "2"
    assert ask(tiny, ROW, path="/v1/models/tiny/versions/1:predict").headers["x-model-version"] == "1"
    assert (results(tiny, "2"), results(tiny, "1")) == ((1, 1, 0), (0, 1, 0))


def test_a_promoted_version_never_answers_out_of_the_old_ones_cache(tiny, registry):
    """Requests go on while the champion changes; each is answered by one version, and each version has computed the row itself."""

    async def asked():
        seen = []
        end = time.monotonic() + 20
        while time.monotonic() < end and "2" not in seen:
            await asyncio.sleep(0.001)
            answer = await tiny._client.post(V1, json={"instances": [ROW]})
            assert answer.status_code == 200
            seen.append(answer.headers["x-model-version"])
            if len(seen) == 5:
                await asyncio.to_thread(registry.aliases.set, "tiny", "champion", "2")
        return seen

    seen = tiny.thread.run(asked())
    assert (seen[0], seen[-1]) == ("1", "2")
    assert computed(tiny, "2") == 1
    hits, misses, _ = results(tiny, "2")
    assert (hits, misses) == (0, 1)
    assert ask(tiny, ROW).headers["x-model-version"] == "2"
    assert results(tiny, "2")[0] == 1


def test_a_shadow_gets_what_was_computed_and_not_what_was_remembered(tiny, eventually):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), shadows=(Shadow("2"),))
    for _ in range(5):
        ask(tiny, ROW)
    ask(tiny, [5, 6, 7, 8])
    eventually(lambda: tiny.metric("ekiben_shadow_rows_total", model="tiny", version="2", result="agreed") == 2)
    assert results(tiny) == (4, 2, 0)


def test_errors_are_not_remembered(tiny):
    for _ in range(2):
        ask(tiny, [0.1, 0.2, 0.3, 1e9], status=422)
    assert tiny.metric("ekiben_cache_entries", model="tiny") == 0
    assert tiny.metric("ekiben_predictions_total", model="tiny", status="invalid") == 2


@pytest.mark.parametrize("value", ["true", '"1"', "1e400", "1e39", "[1]", "NaN", "Infinity", "-1e309"])
def test_what_looks_like_a_remembered_row_is_refused_as_ever(tiny, value):
    ask(tiny, [1, 1, 1, 1])
    for _ in range(2):
        answer = tiny.post(V1, content=f'{{"instances": [[1, 1, {value}, 1]]}}', headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
    assert tiny.metric("ekiben_cache_entries", model="tiny") == 1


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("is_binary", [True, False])
def test_tensors_are_remembered_and_encoded_as_ever(start, registry, grid_artifact, another, log, is_binary):
    registry.register(another(grid_artifact, "cached", cache=CACHED).path, tag="grid:1")
    serving = start("grid", log=log)
    data = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    head = {
        "id": "r",
        "inputs": [{"name": "image", "shape": [2, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": data.nbytes}}],
        "parameters": {"binary_data_output": is_binary},
    }
    text = json.dumps(head).encode()
    answers = [
        serving.post("/v2/models/grid/infer", content=text + data.tobytes(), headers={"inference-header-content-length": str(len(text))})
        for _ in range(3)
    ]
    assert {a.status_code for a in answers} == {200}, answers[0].text
    assert len({a.content for a in answers}) == 1
    assert serving.metric("ekiben_cache_requests_total", model="grid", result="hit") == 2
    assert serving.metric("ekiben_predicted_rows_total", model="grid") == 2


def test_minus_zero_is_computed_by_itself(tiny):
    for zero in (0.0, -0.0, 0, 0.0):
        ask(tiny, [zero, 1, 1, 1])
    assert results(tiny) == (2, 2, 0)


def test_a_broken_versions_probe_that_is_answered_from_memory_leaves_its_place_to_another(tiny):
    ask(tiny, ROW)
    breaker = tiny.server.host.find("tiny", None).breaker
    breaker.state, breaker.is_closed, breaker._tickets, breaker._probing_until = 1, False, 1, time.monotonic() + 60
    for _ in range(3):
        ask(tiny, ROW)
    assert breaker.state == 1
    assert results(tiny)[0] == 3


def test_principals_are_kept_apart_where_the_spec_says_so(start, registry, tiny_artifact, another):
    registry.register(another(tiny_artifact, "own", cache=CacheSpec(enabled=True, per_principal=True)).path, tag="tiny:1")
    serving = start("tiny")
    plane = serving.server.plane

    def infer(principal):
        call = plane.admit("tiny", None, received=time.monotonic(), timeout_ms=None)
        call.principal = principal
        signature = call.served.predictor.signature
        return serving.thread.run(plane.infer(call, signature.parse_rows([ROW]))).rows()

    assert infer("ann") == infer("bob") == infer("ann")
    assert results(serving) == (1, 2, 0)


def test_without_a_cache_there_is_none(serving):
    assert serving.server.host.find("tiny", None).cache is None
    ask(serving, ROW)
    ask(serving, ROW)
    assert (computed(serving), results(serving)) == (2, (0, 0, 0))


def test_what_is_unloaded_is_forgotten(tiny):
    ask(tiny, ROW)
    old = tiny.server.host.find("tiny", None)
    assert tiny.metric("ekiben_cache_entries", model="tiny", version=old.version) == 1
    tiny.stop()
    assert tiny.metric("ekiben_cache_entries", model="tiny", version=old.version) == 0
    assert old.cache._store.entries == 0


# which store ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def counts():
    return CacheMetrics(CollectorRegistry()).of("tiny", "1")


def shared(tiny_spec, **cache):
    import msgspec

    return msgspec.structs.replace(tiny_spec, cache=CacheSpec(enabled=True, **cache))


def test_answers_are_shared_where_that_is_wanted_and_possible(tiny_spec, counts, caplog):
    async def opened(url, **cache):
        store = open_store(shared(tiny_spec, **cache), counts, url)
        await store.close()
        return type(store)

    assert asyncio.run(opened("redis://127.0.0.1:1", shared=True)) is SharedRows
    assert asyncio.run(opened("redis://127.0.0.1:1")) is MemoryRows
    assert not caplog.records
    assert asyncio.run(opened("", shared=True)) is MemoryRows
    assert "not shared: EKIBEN_REDIS_URL is not set" in caplog.text
    assert asyncio.run(opened("nonsense", shared=True)) is MemoryRows
    assert len(caplog.records) == 2


def test_size_and_time_are_the_specs(tiny_spec, counts):
    store = open_store(shared(tiny_spec, max_mb=0.5, ttl="90s"), counts, "")
    assert (store._max_bytes, store._ttl_s) == (500_000, 90)
