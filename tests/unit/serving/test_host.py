import asyncio
import gc
import shutil
import threading
import time
import weakref

import pytest
from prometheus_client import CollectorRegistry
from unit.serving.inprocess import SeenRuntime

from ekiben.errors import NotReady, UnknownModel
from ekiben.model.artifact import MANIFEST
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.host import Host, Snapshot

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


def corrupt(version, file="model.onnx"):
    path = version.path / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def version_of(serving, model="tiny"):
    answer = serving.predict(model, [ROW])
    return answer.json()["model_version"] if answer.status_code == 200 else None


@pytest.fixture
def tiny(registry, tiny_artifact):
    """Registers tiny:1."""
    return registry.register(tiny_artifact.path, tag="tiny:1")


@pytest.fixture
def add(registry, another, tiny_artifact):
    """Registers another version of tiny."""

    def register(version, **spec):
        return registry.register(another(tiny_artifact, version, **spec).path, tag=f"tiny:{version}")

    return register


# finding ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_before_it_starts_a_host_says_that_its_models_are_being_loaded(registry):
    host = Host(["tiny"], registry, Metrics(CollectorRegistry()))
    assert host.not_ready() == ["tiny: is being loaded"]
    with pytest.raises(NotReady, match="tiny is not ready: is being loaded") as refusal:
        host.find("tiny", None)
    assert refusal.value.retry_after_s > 0
    with pytest.raises(UnknownModel, match="version '1' of tiny is not loaded; loaded: none"):
        host.find("tiny", "1")
    with pytest.raises(UnknownModel, match="this server has tiny"):
        host.find("ghost", None)


def test_a_host_without_models(registry):
    host = Host([], registry, Metrics(CollectorRegistry()))
    assert "models folder is empty" in host.not_ready()[0]
    with pytest.raises(UnknownModel, match="this server has none"):
        host.find("tiny", None)


def test_a_model_without_problem_or_version_is_not_ready_either(registry):
    host = Host(["tiny"], registry, Metrics(CollectorRegistry()))
    host.snapshot = Snapshot()
    assert host.not_ready() == ["tiny: no version is loaded"]
    with pytest.raises(NotReady, match="no version is loaded"):
        host.find("tiny", None)


# swapping ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_moving_the_champion_swaps_the_version_that_answers(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    old = serving.server.host.find("tiny", None)
    assert version_of(serving) == "1"
    registry.aliases.set("tiny", "champion", "2")
    eventually(lambda: version_of(serving) == "2")
    assert serving.get("/v2/models/tiny").json()["versions"] == ["2"]
    assert serving.post("/v1/models/tiny/versions/1:predict", json={"instances": [ROW]}).status_code == 404
    # What still holds the old version is refused, and told to ask again.
    with pytest.raises(NotReady):
        old.batcher.admit(time.monotonic() + 60)
    assert serving.metric("ekiben_model_load_seconds", model="tiny", version="2") > 0


def test_a_swap_answers_requests_in_flight_with_the_version_that_took_them(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    host = serving.server.host
    old = host.find("tiny", None)
    runtime = SeenRuntime()
    runtime.gate.clear()
    real_run = old.predictor.runtime.run

    def slow_run(feeds, outputs):
        runtime.began.set()
        assert runtime.gate.wait(30)
        return real_run(feeds, outputs)

    old.predictor.runtime.run = slow_run
    old.batcher._inline_s = -1.0
    headers = {"x-request-timeout-ms": "20000"}
    results = []
    askers = [threading.Thread(target=lambda: results.append(serving.predict("tiny", [ROW], headers=headers))) for _ in range(3)]
    askers[0].start()
    assert runtime.began.wait(10)
    for asker in askers[1:]:
        asker.start()
    eventually(lambda: old.batcher.queued_rows == 2)
    registry.aliases.set("tiny", "champion", "2")
    eventually(lambda: host.find("tiny", None).version == "2")
    assert version_of(serving) == "2"
    runtime.gate.set()
    for asker in askers:
        asker.join(10)
    assert [answer.status_code for answer in results] == [200] * 3
    assert {answer.json()["model_version"] for answer in results} == {"1"}
    eventually(lambda: not host._drains)


def test_a_swap_while_a_body_is_read_answers_with_the_version_that_admitted_it(start, registry, tiny, add, eventually):
    import json

    add("2")
    serving = start("tiny")
    host = serving.server.host
    host.find("tiny", None).batcher._inline_s = -1.0
    sent = []
    body = json.dumps({"instances": [ROW]}).encode()

    async def ask():
        began, swapped = asyncio.Event(), asyncio.Event()
        parts = iter([{"type": "http.request", "body": body[:9], "more_body": True}, {"type": "http.request", "body": body[9:]}])

        async def receive():
            part = next(parts)
            if not part.get("more_body"):
                began.set()
                await swapped.wait()
            return part

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/models/tiny:predict", "headers": []}
        asking = asyncio.create_task(serving.server.app(scope, receive, send))
        await began.wait()
        registry.aliases.set("tiny", "champion", "2")
        while host.find("tiny", None).version != "2" or host._drains:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.005)
        swapped.set()
        await asyncio.wait_for(asking, 10)

    serving.thread.run(ask())
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["model_version"] == "1"


def test_a_version_that_was_unloaded_is_let_go_of(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    model = weakref.ref(serving.server.host.find("tiny", None).predictor)
    serving.predict("tiny", [ROW])
    registry.aliases.set("tiny", "champion", "2")
    eventually(lambda: version_of(serving) == "2" and not serving.server.host._drains)
    # Without the collector's help: what was loaded at the start is frozen, and never collected.
    gc.disable()
    try:
        eventually(lambda: model() is None, seconds=5)
    finally:
        gc.enable()


def test_a_change_that_concerns_no_model_loads_nothing_again(start, registry, tiny, eventually):
    serving = start("tiny")
    host = serving.server.host
    served, snapshot = host.find("tiny", None), host.snapshot
    registry.aliases.set("other", "champion", "7")
    eventually(lambda: host.snapshot is not snapshot)
    assert host.find("tiny", None) is served
    # And without any change there is no new snapshot.
    snapshot = host.snapshot
    time.sleep(0.05)
    assert host.snapshot is snapshot


def test_the_challenger_is_loaded_and_answers_by_its_version(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    registry.aliases.set("tiny", "challenger", "2")
    eventually(lambda: serving.get("/v2/models/tiny/versions/2/ready").status_code == 200)
    assert version_of(serving) == "1"
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1", "2"]
    by_version = serving.post("/v1/models/tiny/versions/2:predict", json={"instances": [ROW]})
    assert by_version.json()["model_version"] == "2"
    registry.aliases.remove("tiny", "challenger")
    eventually(lambda: serving.get("/v2/models/tiny/versions/2/ready").status_code == 404)


def test_champion_and_challenger_may_be_one_version(start, registry, tiny):
    registry.aliases.set("tiny", "challenger", "1")
    serving = start("tiny")
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1"]
    assert version_of(serving) == "1"


def test_the_first_version_of_a_model_is_served_as_soon_as_it_is_registered(start, registry, tiny_artifact, eventually):
    serving = start("tiny")
    assert serving.predict("tiny", [ROW]).status_code == 503
    assert serving.get("/readyz").status_code == 503
    registry.register(tiny_artifact.path, tag="tiny:1")
    eventually(lambda: version_of(serving) == "1")
    assert serving.get("/readyz").status_code == 200


# refusing ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_corrupted_version_is_refused_while_the_old_one_answers_and_the_next_takes_over(start, registry, tiny, add, eventually):
    corrupt(add("bad"))
    add("good")
    serving = start("tiny")
    registry.aliases.set("tiny", "champion", "bad")
    eventually(lambda: serving.get("/v2/models/tiny/versions/bad/ready").status_code == 503)
    refusal = serving.get("/v2/models/tiny/versions/bad/ready").json()["error"]
    assert "tiny:bad is not ready: tiny: model.onnx has changed" in refusal
    assert version_of(serving) == "1"
    assert serving.get("/readyz").status_code == 200
    registry.aliases.set("tiny", "champion", "good")
    eventually(lambda: version_of(serving) == "good")
    assert serving.get("/v2/models/tiny/versions/bad/ready").status_code == 404


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_version_whose_manifest_cannot_be_read_is_refused_like_any_other(start, registry, tiny, add, eventually, alias):
    (add("bad").path / MANIFEST).write_text("{")
    serving = start("tiny")
    registry.aliases.set("tiny", alias, "bad")
    eventually(lambda: serving.get("/v2/models/tiny/versions/bad/ready").status_code == 503)
    assert MANIFEST in serving.get("/v2/models/tiny/versions/bad/ready").json()["error"]
    assert version_of(serving) == "1"


def test_a_challenger_that_cannot_be_read_stops_no_server_from_starting(start, registry, tiny, add):
    (add("bad").path / MANIFEST).write_text("{")
    registry.aliases.set("tiny", "challenger", "bad")
    assert version_of(start("tiny")) == "1"


def test_a_challenger_that_is_refused_leaves_the_champion_alone(start, registry, tiny, add):
    corrupt(add("bad"), "golden.json")
    registry.aliases.set("tiny", "challenger", "bad")
    serving = start("tiny")
    assert version_of(serving) == "1"
    assert serving.get("/readyz").status_code == 200
    assert "golden.json has changed" in serving.get("/v2/models/tiny/versions/bad/ready").json()["error"]


def test_at_the_start_a_corrupted_champion_is_not_ready_and_says_which(start, registry, tiny, plane_artifact):
    corrupt(tiny)
    registry.register(plane_artifact.path, tag="plane:1")
    serving = start("tiny", "plane")
    error = serving.get("/readyz").json()["error"]
    assert error.startswith("not ready: tiny: tiny:1 was refused: tiny: model.onnx has changed")
    assert serving.predict("tiny", [ROW]).status_code == 503
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 200


def test_an_error_that_nobody_expects_refuses_the_version_by_its_name(start, registry, tiny, monkeypatch):
    def fail(*_):
        raise MemoryError("out of it")

    monkeypatch.setattr("ekiben.serving.host.load_checked", fail)
    serving = start("tiny")
    assert "tiny:1 was refused: MemoryError: out of it" in serving.get("/readyz").json()["error"]


def test_a_champion_that_is_gone_from_the_store_goes_on_answering(start, registry, tiny, add, eventually, caplog):
    add("2")
    serving = start("tiny")
    shutil.rmtree(registry.folder_of("tiny:1"))
    shutil.rmtree(registry.folder_of("tiny:2"))
    registry.aliases.set("tiny", "challenger", "2")
    eventually(lambda: "1 goes on answering" in caplog.text)
    assert version_of(serving) == "1"
    assert "no longer in the store" in caplog.text or "there is no model" in caplog.text


# trouble ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [None, OSError("the disk is gone"), RuntimeError("surprise")])
def test_while_the_database_cannot_be_read_serving_goes_on_and_then_catches_up(start, registry, tiny, add, eventually, caplog, error):
    add("2")
    serving = start("tiny")
    registry.aliases.fail(error=error)
    eventually(lambda: "serving goes on unchanged" in caplog.text)
    assert version_of(serving) == "1"
    registry.aliases.set("tiny", "champion", "2")
    assert version_of(serving) == "1"
    registry.aliases.recover()
    eventually(lambda: version_of(serving) == "2")


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_database_that_fails_in_the_middle_of_a_change_loses_no_change(start, registry, tiny, add, eventually, caplog, after):
    add("2")
    serving = start("tiny")
    host = serving.server.host
    challenger = registry.aliases.set("tiny", "challenger", "1")
    assert challenger
    eventually(lambda: host._generation == registry.generation())
    # So many reads succeed, then no more: the generation, and perhaps the champion.
    registry.aliases.set("tiny", "champion", "2")
    registry.aliases.fail(after=after)
    eventually(lambda: "serving goes on unchanged" in caplog.text)
    assert version_of(serving) in ("1", "2")
    registry.aliases.recover()
    eventually(lambda: version_of(serving) == "2")
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1", "2"]


def test_stopping_while_a_version_is_loaded(start, registry, tiny, add, monkeypatch, eventually):
    add("2")
    serving = start("tiny")
    began, gate = threading.Event(), threading.Event()

    def slow(*_):
        began.set()
        gate.wait(30)
        raise RuntimeError("too late")

    monkeypatch.setattr("ekiben.serving.host.load_checked", slow)
    registry.aliases.set("tiny", "champion", "2")
    assert began.wait(10)
    serving.stop()
    gate.set()


def test_a_host_that_never_started_stops(registry):
    asyncio.run(Host(["tiny"], registry, Metrics(CollectorRegistry())).stop())
