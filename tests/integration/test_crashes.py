"""Models that take their process down: what is lost, and what is not."""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
import pytest
from integration.rollouts import made, register
from integration.running import Project, Running
from integration.test_breaker import ask, row

from ekiben.model.guard_spec import BreakerSpec

pytestmark = pytest.mark.processes

HANGS, CRASHES, LEAKS = 3.0, 5.0, 6.0
WORKERS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("crashes")
    project = Project(root / "project")
    spec = {"breaker": BreakerSpec(enabled=False), "timeout_ms": 3000.0}
    kinds = {"good": "good", "moody": "moody", "stuck": "stuck"}
    register(project, [(made(root / "made", name, kind, **(spec if name != "good" else {})), "1") for name, kind in kinds.items()])
    with Running(project, workers=WORKERS, EKIBEN_HANG_S="2", EKIBEN_WORKER_MAX_MB="700", EKIBEN_ACCESS_LOG_RATE="0") as running:
        running.wait()
        running.replaced = 0
        _all_there(running)
        yield running


class Users:
    """People who ask ``good`` all the while, each over a connection of their own."""

    def __init__(self, server: Running) -> None:
        self.ends: Counter[object] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server,)) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, server: Running) -> None:
        while not self._stop.is_set():
            with httpx.Client(timeout=10) as client:
                try:
                    while not self._stop.is_set():
                        answer = client.post(f"{server.url}/v1/models/good:predict", json={"instances": [row()]})
                        self.ends[answer.status_code] += 1
                        if answer.headers.get("connection") == "close":
                            break
                        time.sleep(0.005)
                except httpx.TransportError as e:
                    self.ends[type(e).__name__] += 1

    @property
    def lost(self) -> int:
        return sum(n for end, n in self.ends.items() if end != 200)


def test_a_model_that_crashes_takes_only_its_workers_requests_along(server):
    before = set(server.workers())
    with Users(server) as users:
        time.sleep(0.3)
        with pytest.raises(httpx.TransportError):
            ask(server.url, "moody", row(f=CRASHES))
        _all_there(server, gone=1, before=before)
        time.sleep(0.3)
    assert len(before & set(server.workers())) == WORKERS - 1
    # Each of the four has one request under way at most, when the worker of some of them ends.
    assert users.lost <= 4, users.ends
    assert users.ends[200] > 50
    assert ask(server.url, "moody", row()).status_code == 200


def test_a_worker_whose_event_loop_hangs_is_replaced_and_says_where_it_hung(server):
    before = set(server.workers())
    with pytest.raises(httpx.TransportError):
        ask(server.url, "stuck", row(f=HANGS))
    _all_there(server, gone=1, before=before)
    assert ask(server.url, "stuck", row()).status_code == 200
    log = server.log.read_text()
    assert "Timeout (0:00:02)!" in log
    assert "in transform" in log


def test_a_worker_that_leaks_is_replaced_and_nothing_is_lost(server):
    before = set(server.workers())
    with Users(server) as users:
        end = time.monotonic() + 60
        while "has grown to" not in server.log.read_text():
            assert time.monotonic() < end
            assert ask(server.url, "moody", row(f=LEAKS)).status_code == 200
        _all_there(server, gone=1, before=before)
    assert users.lost == 0, users.ends
    assert users.ends[200] > 50


def _all_there(server: Running, *, gone: int = 0, before: set[int] = frozenset()) -> None:
    """Waits until as many workers as there should be say that they are ready, and so many of those before are gone."""
    end = time.monotonic() + 40
    gone_before = server.replaced
    server.replaced += gone
    while True:
        workers = set(server.workers())
        if len(workers) == WORKERS and len(before - workers) >= gone and _starts(server) >= WORKERS + gone_before + gone:
            break
        assert time.monotonic() < end, f"{workers} of {before}\n{server.log.read_text()[-3000:]}"
        time.sleep(0.1)
    for _ in range(10):
        server.wait()


def _starts(server: Running) -> int:
    return server.log.read_text().count("Completed async startup hook")
