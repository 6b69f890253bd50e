import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner
from unit.monitoring.monitor_world import MODEL, World

from ekiben.cli import main
from ekiben.state.alerts import Alert
from ekiben.state.events import Event


@pytest.fixture(autouse=True)
def _logging_as_before():
    loggers = [logging.getLogger(name) for name in ("ekiben.monitor", "ekiben.webhooks", "ekiben.log")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.setenv("EKIBEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: made.control)
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings, control=None: made.registry)
    monkeypatch.setattr("ekiben.monitoring.log_reader.open_log", lambda settings: made.log)
    monkeypatch.setattr(time, "time", made.wall)
    return made


def run(*words, code=0):
    done = CliRunner().invoke(main, ["monitor", *words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


# check and status ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_check_is_made_now_kept_and_printed(world):
    world.answer(300, shift=1.5)
    lines = run("check", MODEL).splitlines()
    assert lines[0].split() == ["VERSION", "CHECK", "ARM", "DONE", "ROWS", "OUTCOME", "WHAT", "WAS", "FOUND"]
    assert "drift" in lines[1]
    assert "bad" in lines[1]
    assert [c.kind for c in world.control.checks.latest(MODEL)] == ["drift", "quality"]
    world.now += 1
    drift, quality = json.loads(run("check", MODEL, "--json"))
    assert (drift["kind"], drift["version"], quality["kind"]) == ("drift", "v1", "quality")


def test_the_status_before_anything_happened(world):
    out = run("status", MODEL)
    assert "none runs" in out
    assert "0 of 100 predictions that a first check needs" in out
    assert "there are no checks yet" in out


def test_the_status_shows_the_latest_checks_what_is_due_and_alerts(world):
    world.control.leases.acquire("monitor", "host:7", 6000)
    world.answer(300)
    run("check", MODEL)
    world.answer(20)
    for name, state in (("drift", "firing"), ("latency", "resolved")):
        world.control.alerts.keep(Alert(model=MODEL, name=name, state=state, since=world.now, to=("slack", "email"), message="a drifted"))
    out = run("status", MODEL)
    assert "host:7" in out
    assert "20 of 500 new predictions, or 10m after the last check" in out
    assert "slack, email" in out
    assert "latency" not in out
    found = json.loads(run("status", MODEL, "--json"))
    assert (found["champion"], found["monitor"], found["next"]["rows"]) == ("v1", "host:7", 20)
    assert [c["kind"] for c in found["checks"]] == ["drift", "quality"]
    assert [a["name"] for a in found["alerts"]] == ["drift"]
    world.answer(600)
    assert "now: 620 new predictions" in run("status", MODEL)


def test_the_status_where_nothing_can_be_checked_says_who_does(world, monkeypatch):
    monkeypatch.setattr("ekiben.monitoring.checking._NEEDED", ("no_such_library",))
    lines = run("status", MODEL).splitlines()
    assert lines[2] == ("next check  checks are made where 'ekiben[monitor]' is installed; here no_such_library is missing")
    assert json.loads(run("status", MODEL, "--json"))["next"] is None


def test_a_model_that_is_not_there_is_said(world):
    assert "there is no model 'other'" in run("check", "other", code=1)


def test_where_nobody_has_named_a_champion_the_version_that_serves_is_shown(world):
    world.control.aliases.remove(MODEL, "champion")
    assert "tiny:v3" in run("status", MODEL)


# run ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_once_it_does_what_is_due_and_ends(world):
    world.answer(300)
    out = run("run", "--once")
    assert "checks models and tells of alerts" in out
    assert "tiny:v1: drift: no drift in 300 rows" in out
    assert world.control.leases.holder("monitor") is None


def test_json_lines_hold_the_checks(world):
    world.answer(300)
    lines = [json.loads(line) for line in run("run", "--once", "--json").splitlines()]
    assert [line["check"]["kind"] for line in lines if "check" in line] == ["drift", "quality"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_gives_the_lease_back(world, number):
    acquire, former = world.control.leases.acquire, signal.getsignal(number)
    timers = [threading.Timer(0.05, os.kill, (os.getpid(), number))]

    def acquired(name, holder, ttl_s):
        while timers:
            timers.pop().start()
        return acquire(name, holder, ttl_s)

    world.control.leases.acquire = acquired
    assert run("run").splitlines()[-1].endswith(" stopped")
    assert signal.getsignal(number) is former
    assert world.control.leases.holder("monitor") is None


def test_it_ends_with_the_process_that_it_is_to_end_with_and_leaves_others_the_processor(world, monkeypatch):
    niced = []
    monkeypatch.setattr(os, "nice", niced.append)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        threading.Timer(0.3, other.kill).start()
        # What nobody has waited for is there still, so wait for it beside.
        threading.Thread(target=other.wait, daemon=True).start()
        began = time.monotonic()
        out = run("run", "--with-parent", str(other.pid))
    assert out.splitlines()[-1].endswith(" stopped")
    assert time.monotonic() - began < 10
    assert niced == [10]


def test_a_child_ends_when_it_is_no_longer_its_parents(world, monkeypatch):
    parents = [77, 77, 77]
    monkeypatch.setattr(os, "nice", lambda by: None)
    monkeypatch.setattr(os, "getppid", lambda: parents.pop() if parents else 1)
    assert run("run", "--with-parent", "77").splitlines()[-1].endswith(" stopped")


def test_what_is_given_up_is_said(world):
    event = Event(id=1, time=world.now, who="monitor", model=MODEL, kind="alert", message="drift")
    world.control.alerts.keep(Alert(model=MODEL, name="drift", state="firing", to=("slack",), told=world.now), event=event)
    assert "the channel slack did not get 'alert' in 1 try: EKIBEN_SLACK_URL_FILE is not set" in run("run", "--once")
