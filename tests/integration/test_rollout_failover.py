"""A controller is killed in the middle of a step: another one goes on, and no step is skipped or done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest
from integration.rollout_clients import Load, moved_back
from integration.rollouts import Admin, ekiben, made, plan, register
from integration.running import Project, Running

pytestmark = pytest.mark.processes

STEPS = [{"setWeight": 10}, {"pause": "3s"}, {"setWeight": 50}, {"pause": "4s"}, {"setWeight": 100}, {"pause": "3s"}]
GOES_ON_S = 10.0


@pytest.fixture
def project(tmp_path):
    made_ = Project(tmp_path / "project")
    register(made_, [(made(tmp_path, "taken", "good", seed=1), "v1"), (made(tmp_path, "taken", "good"), "v2")])
    return made_


def rolled_out_though_killed(project, server, *, is_worker):
    """Rolls out under load and kills whoever carries it out in the third step; returns the load and what happened."""
    file = plan(project, *STEPS, analysis={"metrics": [{"name": "errorRate"}, {"name": "quality"}]})
    with Admin(server) as admin, Load(server, model="taken", rate=200) as load:
        time.sleep(1)
        ekiben(project, "rollout", "start", "taken", "--to", "v2", "--plan", file)
        admin.until("taken", is_so=lambda s: s["step"] == 3, seconds=60)
        holder = ekiben(project, "rollout", "status", "taken")["controller"]
        pid = int(holder.split(":")[1])
        assert (pid in server.workers()) is is_worker
        ports = killed(pid)
        at = time.time()
        admin.until("taken", is_so=lambda s: s["controller"] not in (None, holder), seconds=GOES_ON_S)
        taken_over_s = time.time() - at
        done = admin.until_ended("taken", seconds=60)
        time.sleep(1)
    events = ekiben(project, "rollout", "history", "taken")
    pause = next(e["time"] for e in events if e["kind"] == "pause-over" and e["details"]["step"] == 3)
    print(f"\n{load.figures()}\nanother controller after {taken_over_s:.1f} s, its first change {pause - at:.1f} s after the kill")
    assert pause - at <= GOES_ON_S
    assert (done["status"], done["message"]) == ("Completed", "")
    assert [e["kind"] for e in events] == ["started", "loaded", *["step", "pause-over"] * 3, "promoted"]
    assert [e["details"]["step"] for e in events if e["kind"] in ("step", "pause-over")] == list(range(6))
    assert [s["state"] for s in done["steps"]] == ["done"] * 6
    assert moved_back(load.answers, "v2") == []
    return load, ports, at


def killed(pid: int) -> set[int]:
    """Kills a process as `kill -9` does; returns the ports of the clients it was connected to."""
    os.kill(pid, signal.SIGSTOP)
    ports = {c.raddr.port for c in psutil.Process(pid).net_connections("tcp") if c.raddr}
    os.kill(pid, signal.SIGKILL)
    return ports


def test_the_worker_that_carries_a_rollout_out_is_killed(project):
    with Running(project, EKIBEN_ACCESS_LOG_RATE="0") as server:
        server.wait()
        load, ports, at = rolled_out_though_killed(project, server, is_worker=True)
        assert [(a.sent - at, a.detail) for a in load.failures() if a.local_port not in ports] == []
        # One request for each of its connections, at most.
        assert len(load.failures()) <= len(ports)
        end = time.monotonic() + 30
        with Admin(server) as admin:
            while len(found := [w for w in admin.status("taken")["workers"] if w["follows"]]) != 2:
                assert time.monotonic() < end, found
                time.sleep(0.3)
        assert {tuple(w["loaded"]) for w in found} == {("v1", "v2")}  # v1 is kept for a while


def test_one_of_two_controller_processes_is_killed(project):
    with ExitStack() as stack:
        server = stack.enter_context(Running(project, EKIBEN_ACCESS_LOG_RATE="0", EKIBEN_CONTROLLER="off"))
        command = [sys.executable, "-m", "ekiben", "controller"]
        controllers = [
            stack.enter_context(subprocess.Popen(command, cwd=project.root, env=project.env, stdout=subprocess.DEVNULL)) for _ in range(2)
        ]
        for process in controllers:
            stack.callback(process.terminate)
        server.wait()
        load, *_ = rolled_out_though_killed(project, server, is_worker=False)
        assert load.failures() == []
        assert sorted(process.poll() is None for process in controllers) == [False, True]
