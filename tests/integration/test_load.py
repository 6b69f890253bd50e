"""Load tests as people start them: Locust against a server that runs, and against one that is started for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from integration.running import Project, Running

from load_tests import run

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("REST V1", "REST V2 binary", "gRPC")


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Project:
    """A project that serves only flight_delay, trained on a month."""
    project = Project(tmp_path_factory.mktemp("load") / "project")
    train = ["-m", "training.flight_delay", "--to", "1", "--max-rows", "4000"]
    done = subprocess.run(
        [sys.executable, *train], cwd=ROOT, env=project.env, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.copytree(ROOT / "models" / "flight_delay", project.root / "models" / "flight_delay")
    return project


def _load(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "load_tests.run", *arguments]
    return subprocess.run(command, cwd=ROOT, env=project.env, capture_output=True, text=True, timeout=120, check=False)


def _line(done: subprocess.CompletedProcess[str], kind: str) -> str:
    """The last line on a kind of request, which is that of the table of thresholds."""
    return [line for line in done.stdout.splitlines() if kind in line][-1]


def test_thresholds_decide_the_exit_code(flights):
    with Running(flights, workers=1) as server:
        server.wait()
        address = ("--host", server.url, "--grpc-address", f"127.0.0.1:{server.data_port}", "--users", "9", "--shape", "steady")

        kept = _load(flights, *address, "--seconds", "4", "--max-p95-ms", "5000")
        assert kept.returncode == 0, kept.stdout + kept.stderr
        for kind in KINDS:
            assert _line(kept, kind).rstrip(" │").endswith("yes"), kept.stdout

        slow = _load(flights, *address, "--seconds", "2", "--max-p95-ms", "0.01")
        assert slow.returncode == 1
        assert all("no: p95" in _line(slow, kind) for kind in KINDS), slow.stdout

        one_kind = _load(flights, *address, "--seconds", "2", "--max-p95-ms", "5000", "BinaryPassenger")
        assert one_kind.returncode == 0, one_kind.stdout + one_kind.stderr
        assert not any(kind in one_kind.stdout for kind in ("REST V1", "gRPC"))


def test_requests_that_fail_break_the_run(flights):
    with Running(flights, workers=1) as server:
        server.wait()
        # Nothing listens at the discard port: gRPC fails, and REST goes on.
        address = ("--host", server.url, "--grpc-address", "127.0.0.1:9")

        done = _load(flights, *address, "--users", "6", "--seconds", "2", "--shape", "steady", "--max-p95-ms", "5000")

    assert done.returncode == 1
    assert "no: errors 100.00 % > 0.1 %" in _line(done, "gRPC")
    assert _line(done, "REST V1").rstrip(" │").endswith("yes")


def test_a_server_started_for_a_load_is_gone_after_it(flights, monkeypatch):
    for name in ("BENTOML_HOME", "EKIBEN_HOME"):
        monkeypatch.setenv(name, flights.env[name])
    said = []

    with run.serving(said.append, flights.root) as target:
        assert run.load(target, ["--shape", "spike", "--users", "3", "--run-time", "2s", "--max-p95-ms", "5000"]) == 0
        mine = [p for p in psutil.process_iter() if _serves(p, target)]
        assert mine

    assert not [p for p in mine if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert "stopping the server" in said[-1]
    assert os.environ["EKIBEN_HOME"] == flights.env["EKIBEN_HOME"]


def _serves(process: psutil.Process, target: run.Target) -> bool:
    try:
        return f"EKIBEN_DATA_PORT={target.grpc_address.partition(':')[2]}" in [f"{k}={v}" for k, v in process.environ().items()]
    except psutil.Error:
        return False


def test_a_server_that_does_not_start_ends_the_load_with_another_code(tmp_path):
    broken = Project(tmp_path / "project")

    done = _load(broken, "--seconds", "1")

    assert done.returncode == 2
    assert "did not start" in done.stderr
