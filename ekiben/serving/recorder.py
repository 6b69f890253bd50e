"""What a worker tells the control database: once a second what happened to each arm, what it has loaded and follows.

What cannot be written waits and is written when the database is back. Windows are never lost: while it is away for long, those
of older seconds are added up. Exposures are kept up to `MAX_EXPOSURES`, then the oldest go, which is said and counted.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from ekiben.errors import StateError
from ekiben.serving.arm_record import exposures_of, window_of
from ekiben.serving.host import Host, TakenFrom
from ekiben.state import Control
from ekiben.state.events import Event
from ekiben.state.truth import Exposure
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

logger = logging.getLogger("ekiben.recorder")

MAX_EXPOSURES: Final = 100_000
_MAX_WINDOWS: Final = 2_000
_COARSE_S: Final = 60
_LOOK_S: Final = 0.05
_numbers = itertools.count(1)


def worker_id() -> str:
    """A worker's name: the host, the process, and which server of the process."""
    return f"{socket.gethostname()}:{os.getpid()}:{next(_numbers)}"


class Recorder:
    """Writes what one worker has to say.

    Args:
        host: The loaded versions.
        control: Where it is written.
        wall: Seconds since the epoch.

    Attributes:
        worker: The worker's name.
    """

    def __init__(self, host: Host, control: Control, wall: Callable[[], float]) -> None:
        self.worker = worker_id()
        self._host = host
        self._control = control
        self._wall = wall
        self._taken: deque[tuple[list[TakenFrom], int]] = deque()
        self._windows: dict[WindowKey, Window] = {}
        self._written: frozenset[WindowKey] = frozenset()
        self._exposures: list[Exposure] = []
        self._news: list[Event] = []
        self._taken_at = wall()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ekiben-recorder")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to write, once a second and at once after a change of what is in force."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what is left, if the database takes it, and says that the worker ends."""
        if self._task is not None:
            self._task.cancel()
        await self.write(is_last=True)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        said: object = None
        while True:
            # On the full second, so that a window holds the requests of one.
            saying = (int(self._wall()), self._host.say(self.worker))
            if saying != said:
                said = saying
                await self.write()
            await asyncio.sleep(_LOOK_S)

    async def write(self, *, is_last: bool = False) -> None:
        """Writes everything there is to say, now."""
        # NOTE: kept here and not handed over, so that a write that is cancelled before it begins loses nothing.
        self._taken.append((self._host.take_records(), int(self._taken_at)))
        self._taken_at = self._wall()
        self._news += self._host.take_news(self.worker)
        write = partial(self._write, self._host.say(self.worker), second=int(self._taken_at), is_last=is_last)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write)
        except StateError as e:
            self._host.link.failed("write", e)
        except Exception:
            logger.exception("what happened cannot be written")
        else:
            self._host.link.answered("write")

    def _write(self, state: WorkerState, *, second: int, is_last: bool) -> None:
        """In the thread.

        Args:
            state: What the worker says of itself.
            second: The one that is not over yet.
            is_last: Whether the worker ends.

        Raises:
            StateError: The database is away; what was to be written is kept.
        """
        while self._taken:
            self._gather(*self._taken.popleft())
        control = self._control
        if is_last:
            control.workers.forget(self.worker)
        else:
            control.workers.say(state)
        if self._windows:
            control.windows.add(self.worker, list(self._windows.items()))
            # A second may be written twice, whole each time: what is written replaces what was.
            self._windows = {key: window for key, window in self._windows.items() if key.second >= second}
            self._written = frozenset(self._windows)
        if news := tuple(self._news):
            control.events.append(news)
            del self._news[: len(news)]
        if self._exposures:
            control.truths.expose(self._exposures)
            self._exposures = []

    def _gather(self, taken: list[TakenFrom], second: int) -> None:
        for model, version, arm, happened in taken:
            if happened:
                self._add(WindowKey(model, version, arm, second), window_of(happened))
            if happened.exposed:
                self._exposures += exposures_of(happened, model, version, arm)
        if len(self._windows) > _MAX_WINDOWS:
            self._coarsen(second - _COARSE_S)
        if (surplus := len(self._exposures) - MAX_EXPOSURES) > 0:
            logger.warning("the control database is away for so long that the %d oldest exposures were let go", surplus)
            del self._exposures[:surplus]

    def _coarsen(self, before: int) -> None:
        """Adds the windows of older seconds up, a minute each, under the latest of its seconds.

        One that is in the database already stays by itself: under another second it would count twice.
        """
        windows, self._windows = self._windows, {}
        latest: dict[WindowKey, WindowKey] = {}
        for key in sorted(windows, key=lambda key: -key.second):
            minute = WindowKey(key.model, key.version, key.arm, key.second // _COARSE_S)
            is_joined = key.second < before and key not in self._written
            self._add(latest.setdefault(minute, key) if is_joined else key, windows[key])

    def _add(self, key: WindowKey, window: Window) -> None:
        self._windows[key] = self._windows[key] + window if key in self._windows else window
