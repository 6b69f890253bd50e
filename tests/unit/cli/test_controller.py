import json
import logging
import os
import signal
import threading

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.state import memory_control


@pytest.fixture(autouse=True)
def _logging_as_before():
    loggers = [logging.getLogger(name) for name in ("ekiben.controller", "ekiben.webhooks")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture
def control(monkeypatch):
    """A control database in memory; the process gets a signal as soon as something is asked of the lease."""
    made = memory_control()
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: made)
    return made


def run(control, *options, number=signal.SIGTERM):
    acquire, former = control.leases.acquire, signal.getsignal(number)

    def acquired(name, holder, ttl_s):
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        return acquire(name, holder, ttl_s)

    control.leases.acquire = acquired
    done = CliRunner().invoke(main, ["controller", *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert signal.getsignal(number) is former
    return done.stdout.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_that_it_works_until_a_signal_and_gives_the_lease_back(control, number):
    lines = run(control, number=number)
    assert f":{os.getpid()} carries out rollouts" in lines[0]
    assert lines[-1].endswith(" stopped")
    assert control.leases.holder("controller") is None


def test_it_says_that_it_waits_while_another_one_works(control):
    control.leases.acquire("controller", "other", 60)
    assert "waits: another process carries out rollouts" in run(control)[0]
    assert control.leases.holder("controller") == "other"


def test_json_lines(control):
    lines = [json.loads(line) for line in run(control, "--json")]
    assert (lines[0]["level"], lines[0]["logger"]) == ("info", "ekiben.controller")
    assert "carries out rollouts" in lines[0]["message"]
    assert lines[-1]["message"] == "stopped"
