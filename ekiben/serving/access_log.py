"""The access log: one JSON line a request on standard output, sampled, written off the hot path.

A request costs a counter; only one that is recorded costs more, and its line is formatted and written by a thread.
Requests that failed are always recorded, up to a limit a second, so that a flood of bad requests is no flood of lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_FLUSH_S = 0.25
_MAX_ERRORS = 100
"""Error lines in one flush interval, at most."""
_FIRST_ERROR = 400
_PIPE_BYTES = 4096
"""A pipe takes so much in one piece: several workers write to it, and no line may end up inside another."""

logger = logging.getLogger("ekiben.access")


class AccessLog:
    """Collects lines and writes them in the background.

    Args:
        rate: Share of successful requests to record, 0 to 1.
        sink: Takes the finished lines, as bytes; called in a thread.
        wall: Seconds since the epoch.
    """

    def __init__(self, rate: float, sink: Callable[[bytes], Any], *, wall: Callable[[], float] = time.time) -> None:
        self._rate = rate
        self._credit = 0.0
        self._errors = 0
        self._sink = sink
        self._wall = wall
        self._lines: deque[dict[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._flushing = threading.Lock()

    def wants(self, status: int) -> bool:
        """Whether the request that ended with this status is to be recorded."""
        if status >= _FIRST_ERROR:
            self._errors += 1
            return self._errors <= _MAX_ERRORS
        self._credit += self._rate
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def write(self, *, headers: Mapping[bytes, bytes], seconds: float, **fields: Any) -> None:
        """Records a request that `wants` agreed to."""
        line = {"time": self._wall(), "logger": "ekiben.access", "duration_ms": round(seconds * 1000, 3), **fields}
        if (traceparent := headers.get(b"traceparent")) is not None:
            line["traceparent"] = traceparent.decode("latin-1")
        self._lines.append(line)

    def start(self) -> None:
        """Begins to write; in the event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._errors = 0
            if self._lines:
                await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        """Hands over all lines; not from two threads at once, or the last flush could end before the one it overtakes."""
        encode = msgspec.json.Encoder().encode
        with self._flushing:
            part = b""
            while self._lines:
                line = encode(self._lines.popleft()) + b"\n"
                if part and len(part) + len(line) > _PIPE_BYTES:
                    self._hand_over(part)
                    part = b""
                part += line
            if part:
                self._hand_over(part)

    def _hand_over(self, part: bytes) -> None:
        try:
            self._sink(part)
        except OSError as e:
            logger.warning("access log lines are lost: %s", e)
