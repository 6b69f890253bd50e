import asyncio
import gc
import shutil
import threading
import time
import weakref

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from unit.serving.inprocess import SeenRuntime

from ekiben.errors import NotReady, UnknownModel
from ekiben.model.artifact import MANIFEST
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.control_link import ControlLink
from ekiben.serving.host import Host
from ekiben.serving.snapshot import Snapshot
from ekiben.state import memory_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Arm, HeaderCondition, HeaderRule, Kept, Route, Shadow, SlotRange

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


def host_of(models, registry):
    metrics = Metrics(CollectorRegistry())
    return Host(models, registry, memory_control(aliases=registry.aliases), metrics, link=ControlLink(metrics, metrics.wall))


# finding ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_before_it_starts_a_host_says_that_its_models_are_being_loaded(registry):
    host = host_of(["tiny"], registry)
    assert host.not_ready() == ["tiny: is being loaded"]
    with pytest.raises(NotReady, match="tiny is not ready: is being loaded") as refusal:
        host.find("tiny", None)
    assert refusal.value.retry_after_s > 0
    with pytest.raises(UnknownModel, match="version '1' of tiny is not loaded; loaded: none"):
        host.find("tiny", "1")
    with pytest.raises(UnknownModel, match="this server has tiny"):
        host.find("ghost", None)


def test_a_host_without_models(registry):
    host = host_of([], registry)
    assert "models folder is empty" in host.not_ready()[0]
    with pytest.raises(UnknownModel, match="this server has none"):
        host.find("tiny", None)


def test_a_model_without_problem_or_version_is_not_ready_either(registry):
    host = host_of(["tiny"], registry)
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
    said = "away; serving goes on with the last known routes" if error is None else "serving goes on unchanged"
    eventually(lambda: said in caplog.text)
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
    eventually(lambda: host.in_force == serving.server.control.generation())
    # So many reads succeed, then no more: the generation, and perhaps the champion.
    registry.aliases.set("tiny", "champion", "2")
    registry.aliases.fail(after=after)
    eventually(lambda: "away; serving goes on with the last known routes" in caplog.text)
    assert version_of(serving) in ("1", "2")
    registry.aliases.recover()
    eventually(lambda: version_of(serving) == "2")
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1", "2"]


def test_metrics_that_cannot_be_written_are_logged_and_the_next_ones_are_written(start, tiny, eventually, caplog):
    serving = start("tiny")
    champion = serving.record("tiny", "1", "champion")

    def written(name, **labels):
        return serving.metrics.get_sample_value(name, {"model": "tiny", "version": "1", "arm": "champion", **labels})

    # A class that the spec does not have.
    serving.thread.call(lambda: champion.metrics.classes(np.array([99])))
    eventually(lambda: "the metrics cannot be written" in caplog.text)
    assert "ValueError" in caplog.text
    serving.predict("tiny", [ROW])
    # By the host itself, twice a second.
    eventually(lambda: written("ekiben_predictions_total", status="ok") == 1)
    assert sum(written("ekiben_prediction_distribution", **{"class": label}) for label in ("no", "yes")) == 1


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
    asyncio.run(host_of(["tiny"], registry).stop())


# routes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

TRIAL = {"rollout": "tiny-1", "arms": (Arm("challenger", "2"),)}
ALL = (SlotRange(0, 10_000, "challenger"),)


def arm_of(serving):
    return serving.predict("tiny", [ROW]).headers["x-model-arm"]


class Gate:
    """Holds up the loading of some versions.

    Attributes:
        began: The versions whose loading has begun.
    """

    def __init__(self, load, *held):
        self.began = []
        self._load = load
        self._held = held
        self._open = threading.Event()

    def __call__(self, stored, *others):
        self.began.append(stored.version)
        if stored.version in self._held:
            assert self._open.wait(30)
        return self._load(stored, *others)

    def open(self):
        self._open.set()


@pytest.fixture
def hold(monkeypatch):
    """Holds up the loading of versions until the gate is opened."""
    gates = []

    def held(*versions):
        from ekiben.serving.host import load_checked

        gate = Gate(load_checked, *versions)
        gates.append(gate)
        monkeypatch.setattr("ekiben.serving.host.load_checked", gate)
        return gate

    yield held
    for gate in gates:
        gate.open()


def commit(serving, **change):
    """Changes what should be loaded, and leaves it to the server to see it."""
    serving.control.rollouts.commit(Change(model="tiny", **change))


def test_a_slow_load_does_not_hold_up_another_change(start, registry, tiny, add, hold, eventually):
    add("2")
    add("slow")
    serving = start("tiny")
    gate = hold("slow")
    commit(serving, route=Route(kept=(Kept("slow", 0.0),)))
    eventually(lambda: gate.began == ["slow"])
    # A route, another version, a champion, and the way back: all come into force meanwhile.
    commit(serving, route=Route(**TRIAL, slots=ALL, kept=(Kept("slow", 0.0),)))
    eventually(lambda: arm_of(serving) == "challenger")
    commit(serving, route=Route(**TRIAL, kept=(Kept("slow", 0.0),)))
    eventually(lambda: arm_of(serving) == "champion")
    commit(serving, aliases={"champion": "2"})
    eventually(lambda: version_of(serving) == "2")
    host = serving.server.host
    assert host.loading == {("tiny", "slow")}
    # All of it is in force when all of it is loaded.
    assert host.in_force != serving.control.generation()
    gate.open()
    eventually(lambda: host.in_force == serving.control.generation())
    assert ("tiny", "slow") in host.snapshot.loaded


def test_a_load_that_nobody_wants_any_more_is_not_waited_for(start, registry, tiny, add, hold, eventually):
    add("slow")
    serving = start("tiny")
    host = serving.server.host
    gate = hold("slow")
    commit(serving, route=Route(kept=(Kept("slow", 0.0),)))
    eventually(lambda: gate.began)
    commit(serving, route=None)
    eventually(lambda: host.in_force == serving.control.generation())
    assert host.loading == {("tiny", "slow")}
    gate.open()
    eventually(lambda: not host.loading and not host.unloading)
    assert set(host.snapshot.loaded) == {("tiny", "1")}


def test_a_version_is_loaded_once_however_often_it_is_asked_for(start, registry, tiny, add, hold, eventually):
    add("2")
    serving = start("tiny")
    gate = hold("2")
    for n in range(5):
        commit(serving, route=Route(**TRIAL, kept=(Kept("2", float(n)),)))
        eventually(lambda: serving.server.host._wanted.view.generation == serving.control.generation())
    gate.open()
    eventually(lambda: ("tiny", "2") in serving.server.host.snapshot.loaded)
    assert gate.began == ["2"]


def test_the_weight_waits_for_the_challenger(start, registry, tiny, add, hold, eventually):
    add("2")
    serving = start("tiny")
    gate = hold("2")
    commit(serving, route=Route(**TRIAL, slots=ALL), aliases={"challenger": "2"})
    eventually(lambda: gate.began)
    assert arm_of(serving) == "champion"
    assert serving.server.host.say("w").versions == {"tiny": ("1",)}
    gate.open()
    eventually(lambda: arm_of(serving) == "challenger")
    assert serving.server.host.say("w").versions == {"tiny": ("1", "2")}


def test_a_champion_that_takes_long_to_load_answers_when_it_is_there(start, registry, tiny, add, hold, eventually):
    add("2")
    serving = start("tiny")
    gate = hold("2")
    commit(serving, aliases={"champion": "2"})
    eventually(lambda: gate.began)
    assert version_of(serving) == "1"
    gate.open()
    eventually(lambda: version_of(serving) == "2")


def test_an_arm_that_is_refused_is_a_problem_and_replaces_nothing(start, registry, tiny, add, eventually):
    corrupt(add("2"))
    serving = start("tiny")
    host = serving.server.host
    commit(serving, route=Route(**TRIAL, slots=ALL, shadows=(Shadow("2"),)))
    # In force is what was refused, too.
    eventually(lambda: host.in_force == serving.control.generation())
    assert arm_of(serving) == "champion"
    assert "model.onnx has changed" in host.say("w").problems["tiny:2"]
    assert serving.get("/readyz").status_code == 200
    # The way back, and what was refused is no problem any more.
    commit(serving, route=None)
    eventually(lambda: host.say("w").problems == {})


def test_a_version_that_was_kept_stays_loaded_until_it_is_not(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    host = serving.server.host
    former = host.find("tiny", None)
    commit(serving, aliases={"champion": "2"}, route=Route(kept=(Kept("1", 0.0),)))
    eventually(lambda: version_of(serving) == "2")
    assert host.find("tiny", "1") is former
    # Back at once, with nothing to load.
    commit(serving, aliases={"champion": "1"}, route=Route(**TRIAL))
    eventually(lambda: version_of(serving) == "1")
    assert host.find("tiny", None) is former
    commit(serving, route=None)
    eventually(lambda: set(host.snapshot.loaded) == {("tiny", "1")})


def test_what_is_in_force_since_when(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    host = serving.server.host
    first = host.say("w")
    assert (first.generation, first.models) == (serving.control.generation(), ("tiny",))
    assert first.follows(serving.control.generation())
    assert abs(first.in_force_at - time.time()) < 60
    commit(serving, route=Route(**TRIAL))
    assert not first.follows(serving.control.generation())
    eventually(lambda: host.say("w").follows(serving.control.generation()))
    assert host.in_force_at >= first.in_force_at


@pytest.mark.parametrize("role", ["arm", "shadow", "champion"])
@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_version_that_was_on_trial_is_let_go_of(start, registry, tiny, add, eventually, role, when):
    add("2")
    add("3")
    arms = (Arm("challenger", "2"),)
    route = Route(rollout="tiny-1", arms=arms, slots=ALL) if role == "arm" else Route(rollout="tiny-1", arms=arms, shadows=(Shadow("2"),))
    control = memory_control(aliases=registry.aliases, loads=registry.loads)
    if when == "at the start":
        control.rollouts.commit(Change(model="tiny", route=route))
    serving = start("tiny", control=control)
    if when == "later":
        commit(serving, route=route)
    host = serving.server.host
    eventually(lambda: ("tiny", "2") in host.snapshot.loaded and host.in_force == serving.control.generation())
    version = "1" if role == "champion" else "2"
    model = weakref.ref(host.snapshot.loaded["tiny", version].predictor)
    for _ in range(3):
        serving.predict("tiny", [ROW])
    host.snapshot.loaded["tiny", "2"].predictor.runtime.run = lambda *_: 1 / 0
    serving.predict("tiny", [ROW])
    if role != "arm":
        eventually(lambda: serving.metric("ekiben_predictions_total", version="2", arm="shadow", status="failed"))
    commit(serving, route=None, aliases={"champion": "3"} if role == "champion" else {})
    eventually(lambda: ("tiny", version) not in host.snapshot.loaded and not host._drains)
    # Without the collector's help: what was loaded at the start is frozen, and never collected.
    gc.disable()
    try:
        eventually(lambda: model() is None, seconds=5)
    finally:
        gc.enable()


def test_what_happened_to_a_version_that_is_gone_is_not_lost(start, registry, tiny, add, eventually):
    add("2")
    serving = start("tiny")
    host = serving.server.host
    serving.predict("tiny", [ROW])
    commit(serving, aliases={"champion": "2"})
    eventually(lambda: set(host.snapshot.loaded) == {("tiny", "2")})

    def written():
        serving.thread.run(serving.server.recorder.write())
        return serving.control.windows.sum("tiny", 0, 1e12).get(("1", "champion"))

    eventually(written)  # it is drained first
    assert written().ok == 1


def test_a_route_that_cannot_be_put_to_use_is_logged_and_serving_goes_on(start, registry, tiny, add, eventually, caplog):
    add("2")
    serving = start("tiny")
    broken = HeaderRule("broken", "challenger", (HeaderCondition("x-beta", "regex", "("),))
    commit(serving, route=Route(**TRIAL, rules=(broken,)))
    eventually(lambda: "tiny:2 is loaded and cannot be put to use" in caplog.text)
    assert version_of(serving) == "1"
    assert serving.server.host.in_force != serving.control.generation()
    commit(serving, route=Route(**TRIAL, slots=ALL))
    eventually(lambda: arm_of(serving) == "challenger")
