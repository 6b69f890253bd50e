"""The demo's server: ``bentoml serve`` of its project with two workers, on free ports, and the worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from load_tests.bench.asking import get
from load_tests.bench.procfs import PROC
from load_tests.bench.servers import RunningServer, free_port
from load_tests.demo.project import Project
from load_tests.demo.promises import WORKERS

_WORKER: Final = b"_bentoml_impl.worker.service"


class Serving:
    """A server that runs from its making until `stop`.

    Args:
        project: What it serves.
        webhook: Where it tells of alerts and rollouts.

    Attributes:
        url: Its address.
        log: The file with what it says.
    """

    def __init__(self, project: Project, webhook: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = project.root / "serve.log"
        more = {
            "EKIBEN_WORKERS": str(WORKERS),
            "EKIBEN_DRAIN_S": "0.5",
            "EKIBEN_DATA_PORT": str(free_port()),
            "EKIBEN_DATA_HOST": "127.0.0.1",
            "EKIBEN_WEBHOOK_URL": webhook,
        }
        command = [sys.executable, "-m", "bentoml", "serve", "service:svc", "--host", "127.0.0.1", "--port", str(port)]
        self._server = RunningServer(command, environ={**project.environ, **more}, folder=project.root, log=self.log)

    def wait(self) -> None:
        """Waits until it is ready.

        Raises:
            ServerFailed: It did not become so.
        """
        self._server.wait_until_answers(lambda: get(f"{self.url}/readyz"))

    def workers(self, proc: Path = PROC) -> list[int]:
        """Process ids of those that serve."""
        return sorted(pid for pid in self._server.pids() if _WORKER in _command(proc / str(pid)))

    def kill_worker(self) -> int:
        """Kills one, as a machine without memory would, without a word; returns its process id."""
        worker = self.workers()[0]
        os.kill(worker, signal.SIGKILL)
        return worker

    def stop(self) -> None:
        """Ends it, and all that it started; who is impatient and presses Ctrl-C again does not keep it from that."""
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._server.stop()
        finally:
            signal.signal(signal.SIGINT, former)


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
