"""How long a client may take to send what it began: a body that drips in byte by byte holds a place in the server all the while.

One timer a worker looks at all reads under way, because a timer for each read costs a tenth of what a small request costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ekiben.errors import ReadTimeout
from ekiben.serving.rest.http import Message, Receive

_LOOK_S: Final = 0.5
_Task = asyncio.Task[Any]


class ReadClock:
    """Ends reads that take too long.

    Args:
        limit_s: Seconds in which a request, or a message of a stream, must have come whole.
        clock: Monotonic seconds.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._due: dict[_Task, float] = {}
        self._ended: set[_Task] = set()
        self._is_looking = False

    def due(self) -> float:
        """The clock's time by which what begins to be read now must have come."""
        return self._clock() + self._limit_s

    async def wait(self, receive: Receive, due: float) -> Message:
        """The next message of ASGI's.

        Raises:
            ReadTimeout: It did not come by ``due``.
        """
        task = asyncio.current_task()
        assert task is not None  # ASGI apps run in tasks
        self._due[task] = due
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        try:
            return await receive()
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise ReadTimeout(
                f"the request did not come whole within {self._limit_s:g} s (EKIBEN_READ_TIMEOUT_S); send it faster, or in smaller parts"
            ) from None
        finally:
            del self._due[task]
            self._ended.discard(task)

    def timed(self, receive: Receive) -> Receive:
        """The same ``receive``, until the body is whole; what comes behind it, that the client went away, may take its time."""
        due = self.due()
        is_whole = False

        async def receive_in_time() -> Message:
            nonlocal is_whole
            if is_whole:
                return await receive()
            message = await self.wait(receive, due)
            is_whole = not message.get("more_body")
            return message

        return receive_in_time

    def _look(self) -> None:
        now = self._clock()
        for task, due in self._due.items():
            if due <= now and task not in self._ended:
                self._ended.add(task)
                task.cancel()
        self._is_looking = bool(self._due)
        if self._is_looking:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
