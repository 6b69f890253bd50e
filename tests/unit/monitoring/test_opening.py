import sys

import pytest
from unit.monitoring.monitor_world import MODEL, World

from ekiben.monitoring.opening import open_checker, open_monitor
from ekiben.settings import load_settings
from ekiben.state.opening import open_control


@pytest.fixture
def settings(tmp_path):
    return load_settings({"EKIBEN_HOME": str(tmp_path / "home")})


def test_a_monitor_of_a_machine_on_which_nothing_happened_yet(settings, tmp_path, caplog):
    world, control = World(tmp_path), open_control(settings)
    monitor = open_monitor(settings, control, world.registry, holder="host:1", models=tmp_path / "models")
    monitor.tick()
    monitor.send()
    assert monitor.is_holding
    monitor.release()
    assert (control.leases.holder("monitor"), control.checks.latest(MODEL), control.alerts.find()) == (None, [], [])
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []
    control.database.close()


def test_a_checker_of_the_same_log(settings, tmp_path):
    world, control = World(tmp_path), open_control(settings)
    [champion] = world.watched.of(MODEL)
    due = open_checker(settings, control).due(champion, world.now)
    assert (due.is_due, due.rows) == (False, 0)


def test_where_pyarrow_is_missing_the_monitor_keeps_the_log_and_leaves_the_lease(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    world, control = World(tmp_path), open_control(settings)
    assert open_checker(settings, control).missing == ["pyarrow"]
    monitor = open_monitor(settings, control, world.registry, holder="host:1", models=tmp_path / "models")
    monitor.tick()
    assert control.leases.holder("monitor") is None
    assert "without pyarrow this monitor ships and prunes this host's log as it is" in caplog.text
    control.database.close()
