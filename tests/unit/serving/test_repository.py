import asyncio
import threading

import pytest
from unit.serving.inprocess import SeenRuntime

from ekiben.errors import Forbidden, InvalidRequest, LoadFailed, NotReady, StateError, UnknownModel
from ekiben.state import MemoryLoads

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


class TroubledLoads(MemoryLoads):
    """Loads whose database cannot be written."""

    def set(self, model, *, loaded):
        raise StateError("the disk is full")


def corrupt(version):
    path = version.path / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def stored(registry, tiny_artifact, plane_artifact):
    """tiny:1 and plane:1 in the store."""
    return {a.spec.name: registry.register(a.path, tag=f"{a.spec.name}:1") for a in (tiny_artifact, plane_artifact)}


@pytest.fixture
def serving(stored, start):
    """Serves tiny; plane is in the store and not in the models folder."""
    return start("tiny", repository_api=True)


def load(serving, model, parameters=None):
    serving.thread.run(serving.server.repository.load(model, parameters or {}))


def unload(serving, model, parameters=None):
    serving.thread.run(serving.server.repository.unload(model, parameters or {}))


def index(serving, **options):
    return [tuple(e.values()) for e in serving.thread.run(serving.server.repository.index(**options))]


# loading and unloading ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_is_not_in_the_folder_is_served_once_it_was_loaded(serving):
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 404
    load(serving, "plane")
    assert serving.predict("plane", [[1, 2, 3]]).json()["predictions"] == [{"prediction": 14.5}]
    assert serving.get("/v2/models/plane").json()["versions"] == ["1"]
    assert serving.get("/v2/models").json() == {"models": ["plane", "tiny"]}
    # BentoML made no typed endpoint for it when the service was built.
    assert serving.post("/plane", json={"instances": [[1, 2, 3]]}).text == "fallback"
    unload(serving, "plane")
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 404


def test_a_model_of_the_folder_that_was_unloaded_is_unknown_and_says_how_to_load_it(serving):
    unload(serving, "tiny")
    for answer in (
        serving.predict("tiny", [ROW]),
        serving.post("/tiny", json={"instances": [ROW]}),
        serving.post("/v2/models/tiny/versions/1/infer", json={}),
        serving.get("/v2/models/tiny/ready"),
        serving.get("/v1/models/tiny"),
    ):
        assert answer.status_code == 404
        assert (
            "tiny was unloaded; `ekiben models load tiny` loads it, and so does POST /v2/repository/models/tiny/load where"
            in answer.json()["error"]
        )
    assert serving.get("/v2/models").json() == {"models": []}
    # Nothing is missing that should be there.
    assert serving.get("/readyz").status_code == 200
    load(serving, "tiny")
    assert serving.predict("tiny", [ROW]).status_code == 200
    assert serving.post("/tiny", json={"instances": [ROW]}).status_code == 200


def test_what_was_asked_for_holds_for_the_next_start(serving, start):
    unload(serving, "tiny")
    load(serving, "plane")
    serving.stop()
    again = start("tiny")
    assert again.server.host.models == ("plane",)
    assert again.predict("plane", [[1, 2, 3]]).status_code == 200
    assert again.get("/readyz").status_code == 200


def test_another_worker_follows(serving, start, eventually):
    other = start("tiny")
    load(serving, "plane")
    eventually(lambda: other.predict("plane", [[1, 2, 3]]).status_code == 200)
    unload(serving, "tiny")
    eventually(lambda: other.predict("tiny", [ROW]).status_code == 404)


def test_asking_twice_changes_nothing(serving):
    served = serving.server.host.find("tiny", None)
    load(serving, "tiny")
    load(serving, "tiny")
    assert serving.server.host.find("tiny", None) is served
    unload(serving, "tiny")
    unload(serving, "tiny")
    assert serving.predict("tiny", [ROW]).status_code == 404


def test_requests_in_flight_are_answered(serving, eventually):
    host = serving.server.host
    old = host.find("tiny", None)
    gate = SeenRuntime()
    gate.gate.clear()
    real_run = old.predictor.runtime.run

    def slow_run(feeds, outputs):
        gate.began.set()
        assert gate.gate.wait(30)
        return real_run(feeds, outputs)

    old.predictor.runtime.run = slow_run
    old.batcher._inline_s = -1.0
    results = []
    asker = threading.Thread(target=lambda: results.append(serving.predict("tiny", [ROW], headers={"x-request-timeout-ms": "20000"})))
    asker.start()
    assert gate.began.wait(10)
    unload(serving, "tiny")
    assert index(serving) == [("plane", "", "UNAVAILABLE", "not loaded"), ("tiny", "1", "UNLOADING", "")]
    gate.gate.set()
    asker.join(10)
    assert results[0].status_code == 200
    eventually(lambda: ("tiny", "", "UNAVAILABLE", "unloaded") in index(serving))


def test_many_that_ask_at_once_leave_what_the_last_one_asked_for(serving):
    async def ask():
        repository = serving.server.repository
        await asyncio.gather(*(repository.load("plane", {}) for _ in range(5)))
        await asyncio.gather(*(repository.unload("tiny", {}) for _ in range(5)))

    serving.thread.run(ask())
    assert serving.server.host.models == ("plane",)
    assert list(serving.server.host.snapshot.loaded) == [("plane", "1")]


# what fails ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_load_that_fails_says_why_and_tries_again_when_asked_again(serving, stored, registry, plane_artifact):
    corrupt(stored["plane"])
    with pytest.raises(LoadFailed, match=r"plane cannot be loaded: plane:1 was refused: plane: model.onnx has changed"):
        load(serving, "plane")
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 503
    # What was loaded beyond the folder takes no server down.
    assert serving.get("/readyz").status_code == 200
    assert ("plane", "1", "UNAVAILABLE") in [entry[:3] for entry in index(serving)]
    (stored["plane"].path / "model.onnx").write_bytes((plane_artifact.path / "model.onnx").read_bytes())
    load(serving, "plane")
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 200


def test_a_load_whose_new_champion_is_refused_names_the_one_that_goes_on(serving, registry, another, tiny_artifact):
    corrupt(registry.register(another(tiny_artifact, "2").path, tag="tiny:2"))
    registry.aliases.set("tiny", "champion", "2")
    with pytest.raises(LoadFailed, match=r"tiny:2 was refused: .*; 1 goes on answering"):
        load(serving, "tiny")
    assert serving.predict("tiny", [ROW]).json()["model_version"] == "1"


def test_a_load_that_somebody_undoes_meanwhile_says_so(serving, registry, monkeypatch):
    class Undone(MemoryLoads):
        def set(self, model, *, loaded):
            super().set(model, loaded=loaded)
            super().set(model, loaded=False)

    registry.loads = Undone()
    with pytest.raises(LoadFailed, match="plane cannot be loaded: it was unloaded meanwhile"):
        load(serving, "plane")


@pytest.mark.parametrize("ask", [load, unload])
def test_a_model_that_nobody_has_is_unknown(serving, registry, ask):
    with pytest.raises(UnknownModel, match=r"there is no model '../tiny' to load or unload; there are plane, tiny"):
        ask(serving, "../tiny")
    assert registry.loads.generation() == 0


@pytest.mark.parametrize("ask", [load, unload])
def test_without_leave_nothing_changes(stored, start, registry, ask):
    serving = start("tiny")
    with pytest.raises(Forbidden, match="EKIBEN_REPOSITORY_API=on allows it"):
        ask(serving, "tiny")
    assert registry.loads.generation() == 0
    assert index(serving) == [("plane", "", "UNAVAILABLE", "not loaded"), ("tiny", "1", "READY", "")]


def test_parameters(serving, registry):
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        with pytest.raises(InvalidRequest, match="is not supported: a version is served as it was registered"):
            load(serving, "tiny", parameters)
    with pytest.raises(InvalidRequest, match="'force' is not supported; there is unload_dependents"):
        unload(serving, "tiny", {"unload_dependents": True, "force": True})
    assert registry.loads.generation() == 0
    unload(serving, "tiny", {"unload_dependents": True})
    assert serving.predict("tiny", [ROW]).status_code == 404


@pytest.mark.parametrize("ask", [load, unload])
def test_a_control_database_that_cannot_be_written_is_said(serving, registry, ask):
    registry.loads = TroubledLoads()
    with pytest.raises(NotReady, match="the disk is full"):
        ask(serving, "tiny")
    assert serving.predict("tiny", [ROW]).status_code == 200


# the index ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_index_has_every_model_and_each_of_its_loaded_versions(stored, start, registry, another, tiny_artifact, eventually):
    registry.register(another(tiny_artifact, "2").path, tag="tiny:2")
    corrupt(registry.register(another(tiny_artifact, "3").path, tag="tiny:3"))
    registry.aliases.set("tiny", "challenger", "2")
    serving = start("tiny", "ghost")
    entries = index(serving)
    assert [entry[:3] for entry in entries] == [
        ("ghost", "", "UNAVAILABLE"),
        ("plane", "", "UNAVAILABLE"),
        ("tiny", "1", "READY"),
        ("tiny", "2", "READY"),
    ]
    assert entries[0][3].startswith("there is no model 'ghost' in the store")
    assert index(serving, ready_only=True) == [("tiny", "1", "READY", ""), ("tiny", "2", "READY", "")]
    registry.aliases.set("tiny", "champion", "3")
    eventually(lambda: ("tiny", "3", "UNAVAILABLE") in [entry[:3] for entry in index(serving)])
    # One entry for what is refused, none beside it for the model.
    assert [entry[:3] for entry in index(serving) if entry[0] == "tiny"] == [
        ("tiny", "1", "READY"),
        ("tiny", "2", "READY"),
        ("tiny", "3", "UNAVAILABLE"),
    ]


def test_what_is_being_loaded_is_told(serving, monkeypatch):
    began, gate = threading.Event(), threading.Event()

    def slow(*_):
        began.set()
        assert gate.wait(30)
        raise RuntimeError("too late")

    monkeypatch.setattr("ekiben.serving.host.load_checked", slow)
    asking = asyncio.run_coroutine_threadsafe(serving.server.repository.load("plane", {}), serving.thread.loop)
    assert began.wait(10)
    assert index(serving) == [("plane", "1", "LOADING", ""), ("tiny", "1", "READY", "")]
    gate.set()
    with pytest.raises(LoadFailed, match="RuntimeError: too late"):
        asking.result(10)
    assert ("plane", "1", "UNAVAILABLE", "RuntimeError: too late") in index(serving)


def test_a_call_that_is_given_up_while_it_loads_is_finished_by_the_watcher(serving, monkeypatch, eventually):
    from ekiben.serving.loading import load_checked

    began, gate = threading.Event(), threading.Event()

    def slow(*arguments):
        began.set()
        assert gate.wait(30)
        return load_checked(*arguments)

    monkeypatch.setattr("ekiben.serving.host.load_checked", slow)
    asking = asyncio.run_coroutine_threadsafe(serving.server.repository.load("plane", {}), serving.thread.loop)
    assert began.wait(10)
    asking.cancel()
    gate.set()
    eventually(lambda: serving.predict("plane", [[1, 2, 3]]).status_code == 200)
    assert serving.server.host.loading == set()
