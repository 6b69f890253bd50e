import shutil

import msgspec
import pytest
from unit.monitoring.monitor_world import MODEL, MONITOR, SPEC, World

from ekiben.errors import StateError
from ekiben.model.monitor_spec import AlertSpec, DriftSpec
from ekiben.model.spec import dump_spec
from ekiben.state.routes import Arm, Kept, Route, Shadow


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def names(world):
    return [(w.version, w.is_shadow) for w in world.watched.of(MODEL)]


def write(world, spec):
    (world.models / MODEL).mkdir(parents=True, exist_ok=True)
    (world.models / MODEL / "model.yaml").write_text(dump_spec(spec))


def test_the_champion_comes_first_and_then_what_is_on_trial(world):
    assert names(world) == [("v1", False)]
    world.control.aliases.set(MODEL, "champion", "v3")
    world.put_route(Route(arms=(Arm("challenger", "v2"),), shadows=(Shadow("v1"), Shadow("v2"), Shadow("v3")), kept=(Kept("v9", 1.0),)))
    assert names(world) == [("v3", False), ("v1", True), ("v2", False)]


def test_a_model_that_there_is_not_is_not_watched_and_of_one_without_champion_the_version_that_serves(world):
    assert world.watched.of("other") == []
    world.control.aliases.remove(MODEL, "champion")
    assert names(world) == [("v3", False)]
    assert world.watched.models() == [MODEL]


def test_a_version_on_trial_that_is_gone_stops_nothing_and_is_told_once(world, caplog):
    world.put_route(Route(arms=(Arm("challenger", "v9"),)))
    assert names(world) == names(world) == [("v1", False)]
    assert caplog.text.count("v9") == 1


def test_what_the_models_folder_says_of_the_monitor_is_in_force_at_once(world):
    [before] = world.watched.of(MODEL)
    assert before.spec.monitor == MONITOR
    alerts = (AlertSpec(when="drift"),)
    changed = msgspec.structs.replace(MONITOR, alerts=alerts, drift=DriftSpec(ignore=("a", "new")), segments=("new", "b"))
    inputs = (*SPEC.inputs, msgspec.structs.replace(SPEC.inputs[0], name="new"))
    write(world, msgspec.structs.replace(SPEC, monitor=changed, inputs=inputs, latency_budget_ms=1.0))
    [after] = world.watched.of(MODEL)
    assert (after.spec.monitor.alerts, after.spec.monitor.drift.ignore, after.spec.monitor.segments) == (alerts, ("a",), ("b",))
    assert after.spec.latency_budget_ms == SPEC.latency_budget_ms


def test_a_model_yaml_with_a_fault_is_told_once_and_the_version_as_registered_holds(world, caplog):
    write(world, SPEC)
    (world.models / MODEL / "model.yaml").write_text("monitor: {every: never}")
    for _ in range(2):
        assert world.watched.of(MODEL)[0].spec.monitor == MONITOR
    assert caplog.text.count("until it is mended") == 1


def test_what_is_kept_of_the_log_is_known_while_the_control_database_is_away(world, monkeypatch):
    def away(model):
        raise StateError("away")

    monkeypatch.setattr(world.control.aliases, "get", away)
    assert world.watched.log_spec(MODEL) == SPEC.log
    assert world.watched.log_spec(MODEL) == SPEC.log
    monkeypatch.undo()
    assert world.watched.log_spec(MODEL) == SPEC.log
    shutil.rmtree(world.folder / "store" / MODEL)
    assert world.watched.log_spec(MODEL) is None
