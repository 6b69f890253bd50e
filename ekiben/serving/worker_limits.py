"""When a worker is better replaced: its event loop hangs, or it has grown too large. BentoML starts another one in its place.

* A model that hangs in its own thread stops nobody else. One whose runs were always short runs in the event loop, and if that one
  hangs, nothing of the worker answers any more, its health checks too. Python's `faulthandler` watches for that, with a thread that
  needs no interpreter: it writes where every thread stands to standard error, and ends the process. What the worker was working on
  is lost.
* A model that leaks would have the kernel kill some process, when memory runs out. Before that, the worker stops as on SIGTERM: it
  answers what it has, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger("ekiben.worker")

_BEAT_S: Final = 1.0
_MEMORY_S: Final = 2.0
_MB: Final = 1024 * 1024


def resident_bytes() -> int:
    """Memory of this process that is in use now, bytes; 0 where the system has no ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class WorkerLimits:
    """Has this worker replaced when it is beyond help.

    Args:
        hang_s: How long the event loop may hang, seconds; 0 for ever.
        max_mb: How large the worker may grow, megabytes; 0 without a limit.
        resident: How large it is, bytes.
        stop: Stops the worker in order.
    """

    def __init__(
        self,
        *,
        hang_s: float,
        max_mb: float,
        resident: Callable[[], int] = resident_bytes,
        stop: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        self._hang_s = hang_s
        self._max_bytes = int(max_mb * _MB)
        self._resident = resident
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to watch; in the event loop."""
        works = ([self._beat()] if self._hang_s else []) + ([self._weigh()] if self._max_bytes else [])
        self._tasks = [asyncio.create_task(work) for work in works]

    def stop(self) -> None:
        """Watches no more."""
        for task in self._tasks:
            task.cancel()

    async def _beat(self) -> None:
        try:
            while True:
                faulthandler.dump_traceback_later(self._hang_s, exit=True, file=sys.__stderr__ or 2)
                await asyncio.sleep(min(_BEAT_S, self._hang_s / 2))
        finally:
            # Also when the loop ends without a stop: nothing beats any more, and whatever the process does then is no hang.
            faulthandler.cancel_dump_traceback_later()

    async def _weigh(self) -> None:
        while (size := self._resident()) <= self._max_bytes:  # noqa: ASYNC110  nobody tells how large a process is
            await asyncio.sleep(_MEMORY_S)
        logger.error(
            "this worker has grown to %d MB, above %d MB (EKIBEN_WORKER_MAX_MB): it answers what it has and is replaced",
            size // _MB,
            self._max_bytes // _MB,
        )
        self._stop()
