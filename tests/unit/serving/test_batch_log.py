"""What the server's answers leave in the inference log."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest

from ekiben.errors import PredictionFailed
from ekiben.model import InputSpec
from ekiben.model.outputs import Outputs
from ekiben.model.signature import Signature
from ekiben.monitoring.log_table import head_of, table_of
from ekiben.serving.batch_log import logged_rows
from ekiben.serving.batch_run import Answer, BatchReport, Pending
from ekiben.state.routes import Arm, Shadow, SlotRange

V1 = "/v1/models/tiny:predict"
ROW = [0.1, 0.2, 0.3, 0.4]


@pytest.fixture
def tiny(start, registry, tiny_artifact, another):
    registry.register(tiny_artifact.path, tag="tiny:1")
    registry.register(another(tiny_artifact, "2").path, tag="tiny:2")
    return start("tiny")


def rows(serving) -> list[dict]:
    files = sorted((serving.server.host._log.folder / "tail").rglob("*.arrows"))
    tables = [table_of(raw, head_of(raw.schema)) for raw in (pa.ipc.open_stream(file.read_bytes()).read_all() for file in files)]
    return sorted((r for table in tables for r in table.to_pylist()), key=lambda r: (r["request_id"], r["row"], r["arm"]))


def ask(serving, request_id, *given, status=200, **headers):
    answer = serving.post(V1, json={"instances": [*given]}, headers={"x-request-id": request_id, **headers})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_each_answered_row_is_there_when_its_answer_is(tiny):
    for n in range(20):
        answered = ask(tiny, f"r-{n:02}", ROW, [0.5, -1, 0.3, 9])
        found = [r for r in rows(tiny) if r["request_id"] == f"r-{n:02}"]
        assert [(r["row"], r["version"], r["arm"], r["key"]) for r in found] == [(0, "1", "champion", None), (1, "1", "champion", None)]
        assert [r["outputs"]["prediction"] for r in found] == [p["prediction"] for p in answered["predictions"]]
        assert 0 < found[0]["latency_s"] < 60


def test_requests_without_an_answer_are_not_there(tiny):
    ask(tiny, "bad", ["no number"], status=422)
    assert rows(tiny) == []


def test_what_shares_a_batch_with_bad_rows_is_logged_with_its_own_inputs(tiny):
    served = tiny.server.host.snapshot.loaded["tiny", "1"]

    async def together():
        plane = tiny.server.plane
        calls = []
        for request_id, a in (("good-1", 1.0), ("bad", 1e9), ("good-2", 2.0)):
            call = plane.admit("tiny", None, received=0.0, timeout_ms=60_000_000)
            payload = served.predictor.signature.parse_rows([[a, 0.2, 0.3, 0.4]])
            plane.identify(call, request_id, payload)
            calls.append(plane.infer(call, payload))
        return await asyncio.gather(*calls, return_exceptions=True)

    results = tiny.thread.run(together())
    logged = {r["request_id"]: r["features"] for r in rows(tiny)}
    answered = [i for i, r in zip(("good-1", "bad", "good-2"), results, strict=True) if not isinstance(r, Exception)]
    assert sorted(logged) == sorted(answered)
    first = served.spec.inputs[0].name
    assert (logged["good-1"][first], logged["good-2"][first]) == (1.0, 2.0)


def test_arms_and_keys(tiny):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),))
    ask(tiny, "a", ROW, **{"x-routing-key": "ann"})
    tiny.post("/v1/models/tiny/versions/1:predict", json={"instances": [ROW]}, headers={"x-request-id": "b"})
    assert [(r["request_id"], r["version"], r["arm"], r["key"]) for r in rows(tiny)] == [
        ("a", "2", "challenger", "ann"),
        ("b", "1", "pinned", None),
    ]


def test_a_request_id_that_is_the_routing_key_is_not_said_twice(tiny):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),))
    ask(tiny, "a", ROW)
    assert [(r["request_id"], r["arm"], r["key"]) for r in rows(tiny)] == [("a", "challenger", None)]


def test_what_the_champion_answered_for_a_failing_arm(tiny, monkeypatch):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),), fallback=True)
    challenger = tiny.server.host.snapshot.loaded["tiny", "2"]

    def fails(_):
        raise PredictionFailed("broken")

    monkeypatch.setattr(challenger.predictor, "run", fails)
    ask(tiny, "a", ROW)
    assert [(r["version"], r["arm"]) for r in rows(tiny)] == [("1", "fallback")]


def test_a_shadows_answers_lie_beside_the_champions(tiny, eventually):
    tiny.route("tiny", rollout="t", salt="s", arms=(Arm("challenger", "2"),), shadows=(Shadow("2"),))
    ask(tiny, "a", ROW)
    eventually(lambda: len(rows(tiny)) == 2)
    champion, shadow = rows(tiny)
    assert (champion["version"], champion["arm"], shadow["version"], shadow["arm"]) == ("1", "champion", "2", "shadow")
    assert shadow["latency_s"] is None
    assert champion["features"] == shadow["features"]
    assert champion["outputs"] == shadow["outputs"]


def test_the_metrics_say_what_became_of_the_rows(tiny, eventually):
    ask(tiny, "a", ROW, ROW)
    eventually(lambda: tiny.metric("ekiben_log_rows_total", model="tiny", version="1", result="kept") == 2)
    assert tiny.metric("ekiben_log_up") == 1
    assert tiny.metric("ekiben_log_bytes_total", model="tiny") > 100
    log = tiny.server.host._log
    log.problem, log._retry_at = "No space left", 1e12
    ask(tiny, "b", ROW)
    eventually(lambda: tiny.metric("ekiben_log_rows_total", model="tiny", version="1", result="dropped") == 1)
    assert tiny.metric("ekiben_log_up") == 0
    tiny.thread.run(tiny.server.recorder.write())
    assert tiny.control.windows.sum("tiny", 0, 1e12)["1", "champion"].unlogged == 1


def test_without_the_setting_nothing_is_logged(start, registry, tiny_artifact, tmp_path):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny", log=False)
    ask(serving, "a", ROW)
    assert not (tmp_path / "inference_log").exists()


def test_rows_that_nobody_waits_for_any_more_are_left_out():
    signature = Signature((InputSpec(name="x", type="float"),))
    batch = signature.batch(signature.parse_rows([{"x": n} for n in range(5)]))
    outputs = Outputs(5, {"prediction": np.arange(5.0)})
    members = [Pending(None, n, received, 9.0, 0.0, None, None) for n, received in ((2, 1.0), (1, 2.0))]
    answers = [Answer(outputs, 0, 2, batch), Answer(outputs, 4, 5, batch)]  # rows 2 and 3 were a request that gave up
    report = BatchReport(5, 2.0, 2.5, 4.0, members, answers, outputs, is_whole=False)
    (rows,) = logged_rows(report, ["champion", "challenger"], 7.0)
    assert rows.batch.columns["x"].tolist() == [0, 1, 4]
    assert rows.outputs.arrays["prediction"].tolist() == [0, 1, 4]
    assert (rows.rows, rows.arms, rows.latencies, rows.time) == ([2, 1], ["champion", "challenger"], [3.0, 2.0], 7.0)


def test_answers_whose_inputs_nobody_kept_are_not_logged():
    outputs = Outputs(1, {"prediction": np.zeros(1)})
    for is_whole in (True, False):
        members = [Pending(None, 1, 0.0, 9.0, 0.0, None, None)]
        assert logged_rows(BatchReport(1, 0.0, 0.0, 0.0, members, [Answer(outputs, 0, 1)], outputs, is_whole), ["champion"], 7.0) == []
