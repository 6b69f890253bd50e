"""One running server: started, checked, measured, and ended by the ids of its own processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from load_tests.bench.asking import NoGoodAnswer, Reply
from load_tests.bench.procfs import CpuTimes, marked_processes, read_cpu_times

MARKER: Final = "BENCH_RUN_ID"
READY_S: Final = 90.0
_POLL_S: Final = 0.1
_IDLE_S: Final = 15.0
_IDLE_WINDOW_S: Final = 0.4
_IDLE_SHARE: Final = 0.15
_STOP_S: Final = 10.0
_KILLED_S: Final = 5.0
_LOG_TAIL: Final = 600


class ServerFailed(Exception):
    """A server did not start, or has ended by itself."""


class RunningServer:
    """A server process with its workers.

    Its processes are those that carry a mark of their own in their environment, so that no other process is ever measured
    or ended.

    Args:
        command: What to run; it stays in the foreground.
        environ: Its whole environment.
        folder: Its working directory.
        log: Where its output goes.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], folder: Path, log: Path) -> None:
        self._mark = f"{MARKER}={uuid.uuid4().hex}"
        self._log = log
        name, _, value = self._mark.partition("=")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command), env={**environ, name: value}, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def pids(self) -> set[int]:
        """The ids of its processes that are alive."""
        main = {self._process.pid} if self._process.poll() is None else set()
        return main | marked_processes(self._mark)

    def cpu_times(self, *, clients: Iterable[int] = ()) -> CpuTimes:
        """The clocks now; see `procfs`.

        Args:
            clients: Load generators that are under way.
        """
        return read_cpu_times(self.pids(), clients=clients)

    def check_alive(self) -> None:
        """Makes sure that its main process runs.

        Raises:
            ServerFailed: It has ended; the message has the end of its output.
        """
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-_LOG_TAIL:]
            raise ServerFailed(f"the server ended with code {self._process.returncode}; the end of its output: {tail}")

    def wait_until_answers(self, ask: Callable[[], Reply], seconds: float = READY_S) -> Reply:
        """Asks until there is a good answer.

        Args:
            ask: Asks once.
            seconds: How long to go on.

        Returns:
            Its first good answer.

        Raises:
            ServerFailed: It ended, or gave no good answer in time.
        """
        end = time.monotonic() + seconds
        last = "no answer"
        while time.monotonic() < end:
            self.check_alive()
            try:
                return ask()
            except NoGoodAnswer as e:
                last = str(e)
            time.sleep(_POLL_S)
        raise ServerFailed(f"no good answer in {seconds:g} s; the last one: {last}")

    def wait_until_idle(self) -> None:
        """Waits until all its workers have finished starting: until it uses little CPU, at most 15 s."""
        end = time.monotonic() + _IDLE_S
        used = self.cpu_times().server
        while time.monotonic() < end:
            time.sleep(_IDLE_WINDOW_S)
            before, used = used, self.cpu_times().server
            if used - before < _IDLE_SHARE * _IDLE_WINDOW_S:
                return

    def stop(self) -> None:
        """Ends its processes: asks the first one, then the others, and kills what is left after 10 s."""
        if self._process.poll() is None:
            self._process.terminate()
        end = time.monotonic() + _STOP_S
        asked = False
        while self.pids() and time.monotonic() < end:
            time.sleep(_POLL_S)
            if self._process.poll() is not None and not asked:
                asked = True
                _signal_all(self.pids(), signal.SIGTERM)
        _signal_all(self.pids(), signal.SIGKILL)
        self._process.wait()
        # A killed process is there until the kernel has cleared it away, and holds its port until then.
        end = time.monotonic() + _KILLED_S
        while self.pids() and time.monotonic() < end:
            time.sleep(_POLL_S / 10)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
    return port


def server_environ(extra: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a server: ours without Ekiben's and BentoML's variables, one thread for every numeric library.

    Args:
        extra: What the server needs on top.
        environ: Ours.
    """
    foreign = ("EKIBEN_", "BENTOML_", "BENTO_", "BENCH_", "PROMETHEUS_", "OTEL_", "UVICORN_", "PYTHONPATH")
    kept = {name: value for name, value in environ.items() if not name.startswith(foreign)}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **extra}


def _signal_all(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
