"""The monitor beside the workers: one process a machine, started by whichever worker finds none, and again when it has ended.

It compacts the inference log, checks for drift and quality, and tells people: work that would take the interpreter from the
event loop. A lock says that there is one. The process inherits it, so that the kernel lets go of it when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

logger = logging.getLogger("ekiben.monitor")

_LOOK_S: Final = 2.0
_ENDS_S: Final = 3.0


class MonitorProcess:
    """Sees to it that this machine has a monitor.

    Args:
        home: ``EKIBEN_HOME``; there is one monitor for each.
        command: What runs it; None takes ``ekiben monitor run``.
    """

    def __init__(self, home: Path, command: list[str] | None = None) -> None:
        self._home = home
        self._command = command or [sys.executable, "-m", "ekiben", "monitor", "run"]
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._is_over = False

    def start(self) -> None:
        """Begins to look, now and every two seconds."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the monitor, if it is this worker's."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.to_thread(self._end)

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look_once)
            except Exception:
                logger.exception("the monitor cannot be started; it is tried again")
            await asyncio.sleep(_LOOK_S)

    def _look_once(self) -> None:
        with self._lock:
            if not self._is_over:
                self._look()

    def _look(self) -> None:
        """Starts the monitor where there is none."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            logger.warning("the monitor ended with code %s", self._process.returncode)
            self._process = None
        self._home.mkdir(parents=True, exist_ok=True)
        file = os.open(self._home / "monitor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The child has the lock as long as it lives: it is of the open file, which both have.
            self._process = subprocess.Popen(  # noqa: S603  our own command
                [*self._command, "--with-parent", str(os.getpid())], stdin=subprocess.DEVNULL, pass_fds=(file,)
            )
        except BlockingIOError:
            pass  # another worker's is there
        finally:
            os.close(file)

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDS_S)
