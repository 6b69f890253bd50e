"""BentoML's port, where clients may be anybody: uvicorn's protocol with limits that it has none of.

uvicorn reads a head of any size, for as long as a client likes to send it, and waits for ever for a client that reads nothing. BentoML
makes uvicorn's configuration itself and leaves the protocol to uvicorn's table, which is where `guard_uvicorn` puts this one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 100
_LOOK_S: Final = 0.5


def guard_uvicorn(limit_s: float) -> None:
    """Has every uvicorn server that this process starts from now on use the protocol, where its configuration names none.

    Args:
        limit_s: Seconds in which a request must have come whole, and some of its answer been taken.
    """
    made = type("GuardedHere", (GuardedProtocol,), {"limit_s": limit_s, "watch": Watch()})
    HTTP_PROTOCOLS["auto"] = made  # type: ignore[assignment]  # uvicorn takes classes, too


class Watch:
    """Looks at the connections of one server twice a second, for as long as there are any."""

    def __init__(self) -> None:
        self._is_looking = False

    def begin(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Looks after these from now on, if it does not do so already."""
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(_LOOK_S, self._look, connections, loop)

    def _look(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in list(connections):
            if isinstance(connection, GuardedProtocol):  # a WebSocket's is not
                connection.end_if_slow(now)
        self._is_looking = False
        if connections:
            self.begin(connections, loop)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    A head may have `MAX_HEAD_BYTES` and `MAX_FIELDS` fields, and whatever frames a body no more than that between two pieces of it:
    neither extensions of chunks nor trailers without end. Trailers are not read: as fields they could pass for the head's, which a
    proxy has looked at.

    Attributes:
        limit_s: Seconds in which a request must have come whole, and some of its answer been taken.
        watch: Looks at all connections of the server.
    """

    limit_s: float
    watch: Watch

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.began: float | None = time.monotonic()  # of what is being read; None between requests
        self.stuck: float | None = None  # since when the client takes nothing
        self._framing_bytes = 0
        self._unsent_bytes = 0
        self._is_in_head = True
        self._is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Has the connection watched."""
        super().connection_made(transport)
        self.watch.begin(self.connections, self.loop)

    def data_received(self, data: bytes) -> None:
        """Counts what is neither head nor body, and refuses too much of it."""
        if self.began is None:
            self.began = time.monotonic()
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > MAX_HEAD_BYTES:
            self._refuse_size()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, of the head and not of trailers."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: nothing is made of it where it is too large."""
        if self._is_refused:
            return
        size = len(self.url)
        if self._framing_bytes > MAX_HEAD_BYTES:  # it may be the body that is large
            size += sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_FIELDS:
            self._refuse_size()
            return
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._framing_bytes = 0
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; how long its answer takes is not the client's fault."""
        self._framing_bytes = 0
        self.began = None
        if not self._is_refused:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        self.stuck = time.monotonic()

    def resume_writing(self) -> None:
        """It has taken what waited."""
        super().resume_writing()
        self.stuck = None

    def end_if_slow(self, now: float) -> None:
        """Ends a connection whose client takes too long to send, or to take.

        Args:
            now: Monotonic seconds.
        """
        if self.transport.is_closing():
            self.stuck = self.stuck or now
        if self.stuck is not None:
            unsent_bytes = self.transport.get_write_buffer_size()
            if unsent_bytes < self._unsent_bytes:
                self.stuck = now
            self._unsent_bytes = unsent_bytes
            if now - self.stuck > self.limit_s:
                self.transport.abort()
        elif self.began is not None and now - self.began > self.limit_s:
            limit = f"{self.limit_s:g} s (EKIBEN_READ_TIMEOUT_S)"
            self._refuse(b"408 Request Timeout", f"the request did not come whole within {limit}; send it faster, or in smaller parts")

    def _refuse_size(self) -> None:
        limits = f"{MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields"
        self._refuse(b"431 Request Header Fields Too Large", f"the head, or what frames the body, is larger than {limits}")

    def _refuse(self, status: bytes, message: str) -> None:
        """Says so where the answer would be taken for this request's, and reads no more."""
        if self._is_refused:
            return
        self._is_refused = True
        cycle = self.cycle  # that of the request before, while a head is read
        is_next = cycle is None or cycle.response_complete if self._is_in_head else not self.pipeline and not cycle.response_started
        if is_next:
            self.transport.write(_answer(status, message))
        self.transport.close()


def _answer(status: bytes, message: str) -> bytes:
    body = msgspec.json.encode({"error": message})
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
    return head + body
