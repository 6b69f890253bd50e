"""`ekiben controller` in real processes: one works, another goes on when it is killed, and nothing is skipped or done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from unit.rollout.world import MODEL, World, plan

from ekiben.rollout.status import LEASE
from ekiben.state.database import Database
from ekiben.state.sql_control import sql_control

pytestmark = pytest.mark.processes

ANALYSIS = {"interval": "1s", "metrics": [{"name": "errorRate"}], "minRequests": 20}
PLAN = plan(
    {"shadow": {}},
    {"pause": "1s"},
    {"setWeight": 20},
    {"pause": "2s"},
    {"setWeight": 50},
    {"pause": "2s"},
    {"setWeight": 100},
    {"pause": "1s"},
    analysis=ANALYSIS,
)


class Now(World):
    """The world in real time: its workers speak and its users ask in a thread."""

    def __enter__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)

    def wall(self):
        return time.time()

    def _live(self):
        second = int(time.time())
        while not self._stop.is_set():
            self.speak()
            while second < int(time.time()):
                self.answer(second)
                second += 1
            self._stop.wait(0.2)

    def speak(self):
        self.now = time.time()
        super().speak()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path / 'control.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture
def world(tmp_path, url):
    with Now(tmp_path, control=sql_control(Database(url))) as world:
        yield world


@pytest.fixture
def controllers(tmp_path, url):
    """Starts controllers; all that still run end with the test."""
    started = []

    def start():
        keep = {k: v for k, v in os.environ.items() if not k.startswith("EKIBEN_")}
        with (tmp_path / f"controller-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ekiben", "controller", "--json"],
                env={**keep, "EKIBEN_HOME": str(tmp_path / "home"), "EKIBEN_DATABASE_URL": url, "BENTOML_HOME": str(tmp_path / "bentoml")},
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def wait_until(condition, seconds):
    """Waits, and says how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def pid_of_holder(world):
    holder = world.control.leases.holder(LEASE)
    return int(holder.rpartition(":")[2]) if holder else 0


def test_killed_again_and_again_it_goes_through_every_step_once(world, controllers):
    running = {process.pid: process for process in (controllers(), controllers())}
    wait_until(lambda: pid_of_holder(world) in running, 20)
    world.operations().start(MODEL, "v2", plan=PLAN)
    for step in (1, 3, 5):
        wait_until(lambda step=step: world.rollout.step >= step, 20)
        victim = pid_of_holder(world)
        running.pop(victim).kill()
        successor = controllers()
        running[successor.pid] = successor
        wait_until(lambda victim=victim: pid_of_holder(world) not in (0, victim), 10)
    wait_until(lambda: world.rollout.status == "Completed", 40)
    assert [(r.step, r.outcome) for r in world.control.rollouts.steps("tiny-1")] == [(n, "done") for n in range(8)]
    pauses_and_steps = ["step", "pause-over"] * 4
    assert world.kinds() == ["started", "loaded", *pauses_and_steps, "promoted"]
    assert world.control.aliases.get(MODEL) == {"champion": "v2", "previous": "v1"}


def test_told_to_end_it_hands_over_at_once(world, controllers, tmp_path):
    first = controllers()
    wait_until(lambda: pid_of_holder(world) == first.pid, 20)
    second = controllers()
    wait_until(lambda: "waits: another process" in (tmp_path / "controller-1.log").read_text(), 20)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    # Sooner than the lease would have run out.
    assert wait_until(lambda: pid_of_holder(world) == second.pid, 20) < 4
    lines = [json.loads(line) for line in (tmp_path / "controller-0.log").read_text().splitlines()]
    assert lines[0]["message"].endswith("carries out rollouts")
    assert lines[-1]["message"] == "stopped"
    assert {line["level"] for line in lines} == {"info"}


def test_a_version_that_gets_worse_goes_back_while_nobody_looks(world, controllers):
    controllers()
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}, analysis=ANALYSIS))
    wait_until(lambda: any(m.outcome == "Successful" for m in world.control.measurements.find("tiny-1")), 30)
    world.error_rates["v2"] = 0.9
    wait_until(lambda: world.rollout.status == "RolledBack", 20)
    assert world.weight == 0
    assert world.control.events.find(model=MODEL)[-1].details["measurements"][0]["outcome"] == "Failed"
