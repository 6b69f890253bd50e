"""The inference log of real workers: nothing that was answered is missing, whatever ends, and a full disk hurts nobody."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import Self

import httpx
import pytest
from integration.running import Project, Running

from ekiben.monitoring.log_reader import open_log
from ekiben.settings import load_settings

pytestmark = pytest.mark.processes

PATH = "/v1/models/tiny:predict"


@pytest.fixture
def project(tmp_path, tiny_artifact) -> Project:
    project = Project(tmp_path)
    project.register(tiny_artifact, version="1")
    return project


class Clients:
    """Threads that ask rows which say who asked, and note what was answered."""

    def __init__(self, *ports: int, n: int = 8) -> None:
        self.answered: dict[str, tuple[float, str]] = {}
        self.failed = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(k, ports[k % len(ports)])) for k in range(n)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, who: int, port: int) -> None:
        connection, number = None, 0
        while not self._stop.is_set():
            number += 1
            request_id, value = f"{who}-{number}", round((who * 1000 + number) % 997 / 1000, 3)
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("POST", PATH, json.dumps({"instances": [[value, 0.25, 0.5, 0.75]]}), {"X-Request-Id": request_id})
                response = connection.getresponse()
                body = response.read()
                assert response.status == 200, body
                self.answered[request_id] = value, json.loads(body)["predictions"][0]["prediction"]
            except (OSError, http.client.HTTPException):
                self.failed += 1
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def logged(project: Project) -> list[dict]:
    log = open_log(load_settings({k: v for k, v in project.env.items() if k.startswith("EKIBEN_")}))
    return log.read("tiny", since=0, until=time.time() + 60).to_pylist()


def test_a_killed_worker_takes_no_answered_prediction_with_it(project):
    with Running(project, workers=2) as server:
        server.wait()
        with Clients(server.port, server.data_port) as clients:
            for _ in range(3):
                time.sleep(1.5)
                os.kill(server.workers()[0], signal.SIGKILL)
                _until(lambda: len(server.workers()) == 2)
            time.sleep(1.5)
        while_it_runs = {row["request_id"] for row in logged(project)}
    assert clients.answered.keys() <= while_it_runs, "readers see at once what was answered"
    rows = logged(project)
    assert len(clients.answered) > 500
    found = {row["request_id"]: (round(row["features"]["a"], 3), row["outputs"]["prediction"]) for row in rows}
    assert len(found) == len(rows), "nothing is there twice"
    assert {request_id: found.get(request_id) for request_id in clients.answered} == clients.answered
    # Beyond those, what was computed for connections that broke before the answer arrived: no more than were cut.
    assert len(found) - len(clients.answered) <= clients.failed


def test_a_full_disk_stops_the_log_and_no_answer(project):
    folder = project.root / "home" / "inference_log"
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with Running(project, workers=2, EKIBEN_MONITOR="off") as server:
            server.wait()
            with Clients(server.port, server.data_port) as clients:
                _until(lambda: _metric(server, "ekiben_log_rows_total", 'result="dropped"') > 0)
                dropped_at = len(clients.answered)
                assert _metric(server, "ekiben_log_up") == 0
                _until(lambda: len(clients.answered) > dropped_at + 500)
                for file in (folder / "tail").rglob("*.arrows"):
                    with contextlib.suppress(OSError):
                        file.unlink()
                _until(lambda: _metric(server, "ekiben_log_up") == 1, seconds=30)
            time.sleep(1.5)  # the metrics are written twice a second
            assert clients.failed == 0
            kept, dropped = (_metric(server, "ekiben_log_rows_total", f'result="{result}"') for result in ("kept", "dropped"))
            assert kept + dropped == len(clients.answered)
            assert server.log.read_text().count("rows are dropped until it can") <= 4, "a line or two a worker"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _metric(server: Running, name: str, labels: str = "") -> float:
    lines = httpx.get(server.url + "/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and labels in line)


def _until(condition, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
