import math
import threading
import time

import pytest
from prometheus_client import CollectorRegistry
from unit.monitoring.monitor_world import MODEL, World

from ekiben.errors import StateError
from ekiben.monitoring import check_gauges
from ekiben.monitoring.check_gauges import CheckGauges
from ekiben.state.alerts import Alert
from ekiben.state.checks import Check
from ekiben.state.routes import Arm, Route

DRIFT = {"columns": [{"name": "a", "psi": 0.5}, {"name": "b", "psi": None}]}
QUALITY = {"metrics": {"f1": {"value": 0.8}, "roc_auc": {"value": None}}, "coverage": {"rows": 10, "labelled": 4}}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def gauges(world, registry):
    return CheckGauges(
        registry,
        world.control,
        champion=lambda model: world.registry.aliases.get(model).get("champion"),
        models=[MODEL, "other"],
        wall=world.wall,
    )


def add(world, kind="drift", outcome="bad", version="v1", arm="", time=None, report=None):
    time = world.now if time is None else time
    report = report or (DRIFT if kind == "drift" else QUALITY)
    world.control.checks.add(
        Check(
            model=MODEL,
            version=version,
            kind=kind,
            arm=arm,
            time=time,
            since=0.0,
            until=time,
            rows=9,
            outcome=outcome,
            summary="",
            report=report,
        )
    )


def test_the_latest_checks_are_shown(world, registry, gauges):
    add(world, time=world.now - 60, outcome="ok")
    add(world)
    add(world, "quality")
    add(world, "quality", arm="pinned", report={"metrics": {"f1": {"value": 0.3}}})
    gauges.look()
    of = {"model": MODEL, "version": "v1"}
    assert registry.get_sample_value("ekiben_drift_detected", of) == 1
    assert registry.get_sample_value("ekiben_drift_psi", of | {"column": "a"}) == 0.5
    assert registry.get_sample_value("ekiben_drift_psi", of | {"column": "b"}) is None
    assert registry.get_sample_value("ekiben_quality", of | {"arm": "all", "metric": "f1"}) == 0.8
    assert registry.get_sample_value("ekiben_quality", of | {"arm": "pinned", "metric": "f1"}) == 0.3
    assert registry.get_sample_value("ekiben_quality", of | {"arm": "all", "metric": "roc_auc"}) is None
    assert registry.get_sample_value("ekiben_quality_coverage", of) == 0.4
    for kind in ("drift", "quality"):
        assert registry.get_sample_value("ekiben_check_timestamp_seconds", of | {"kind": kind}) == world.now


def test_a_check_that_knows_nothing_shows_no_figures(world, registry, gauges):
    add(world, outcome="unknown")
    gauges.look()
    of = {"model": MODEL, "version": "v1"}
    assert registry.get_sample_value("ekiben_drift_detected", of) is None
    assert registry.get_sample_value("ekiben_check_timestamp_seconds", of | {"kind": "drift"}) == world.now


def test_only_versions_that_are_watched_are_shown_and_others_no_longer(world, registry, gauges):
    for version in ("v1", "v2"):
        add(world, version=version)
    gauges.look()
    assert registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v2"}) is None
    world.put_route(Route(arms=(Arm("challenger", "v2"),)))
    gauges.look()
    assert registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v2"}) == 1
    world.put_route(Route())
    gauges.look()
    assert math.isnan(registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v2"}))
    assert registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v1"}) == 1


def test_old_checks_say_nothing_of_now(world, registry, gauges):
    add(world, time=world.now - 31 * 86_400)
    gauges.look()
    assert registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v1"}) is None


def test_alerts_that_fire(world, registry, gauges):
    firing = {"model": MODEL, "alert": "drift"}
    world.control.alerts.keep(Alert(model=MODEL, name="drift", state="firing"))
    world.control.alerts.keep(Alert(model=MODEL, name="latency", state="pending"))
    gauges.look()
    assert registry.get_sample_value("ekiben_alerts_firing", firing) == 1
    assert registry.get_sample_value("ekiben_alerts_firing", {"model": MODEL, "alert": "latency"}) == 0
    world.control.alerts.forget(MODEL, "drift")
    gauges.look()
    assert registry.get_sample_value("ekiben_alerts_firing", firing) == 0


@pytest.mark.parametrize("problem", [StateError("away"), ValueError("odd")])
def test_what_goes_wrong_ends_nothing_and_what_was_seen_stays(world, registry, gauges, monkeypatch, problem):
    monkeypatch.setattr(check_gauges, "EVERY_S", 0.01)
    add(world)
    latest, left = world.control.checks.latest, [problem]

    def failing(*args, **kwargs):
        if left:
            raise left.pop()
        return latest(*args, **kwargs)

    monkeypatch.setattr(world.control.checks, "latest", failing)
    stop = threading.Event()
    thread = threading.Thread(target=gauges.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 10
    while registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v1"}) is None and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert registry.get_sample_value("ekiben_drift_detected", {"model": MODEL, "version": "v1"}) == 1
