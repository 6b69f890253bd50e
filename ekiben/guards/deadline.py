"""Clients that go away while their request waits.

Whoever hangs up is not told of anything any more, so its rows need not be computed. That costs one listener a request, which a
request that is answered at once never pays: only those that have waited for `LISTEN_AFTER_S` are listened for, and only so many
new ones at a time, as an overloaded worker has better things to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

LISTEN_AFTER_S: Final = 0.02
_AT_ONCE: Final = 64

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """The client went away; there is nobody to answer."""


class Caller(Protocol):
    """Whose request it is.

    Attributes:
        receive: ASGI's, of a request whose body is read: what comes next is that the client went away. None where there is
            nothing to listen to, or somebody listens.
    """

    receive: Receive | None


class Waiting(Protocol):
    """A request that waits.

    Attributes:
        queued: Clock since when.
        call: Whose it is; None where nobody can go away.
        future: Where its answer goes.
    """

    queued: float
    call: Caller | None
    future: asyncio.Future[Any]


class Listening:
    """Ends requests whose clients go away.

    A request ends with `Disconnected`; whoever holds the queue finds its future done, and drops it.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, waiting: Iterable[Waiting], now: float) -> None:
        """Listens for those that have waited long enough.

        Args:
            waiting: Requests, those that wait longest first.
            now: The clock.
        """
        begun = 0
        for request in waiting:
            if now - request.queued < LISTEN_AFTER_S or begun == _AT_ONCE:
                return
            if (call := request.call) is not None and (receive := call.receive) is not None:
                call.receive = None
                begun += 1
                task = asyncio.create_task(_listen(receive, request.future))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def __len__(self) -> int:
        """How many it listens for."""
        return len(self._tasks)


async def _listen(receive: Receive, future: asyncio.Future[Any]) -> None:
    listener = asyncio.current_task()
    assert listener is not None  # it is one

    def answered(_: asyncio.Future[Any]) -> None:
        listener.cancel()

    future.add_done_callback(answered)
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        future.remove_done_callback(answered)
        if not future.done():
            future.set_exception(Disconnected())
