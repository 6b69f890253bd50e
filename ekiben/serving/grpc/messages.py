"""gRPC's messages on a stream of bytes: one byte that says whether it is compressed, four of its length, and itself."""

from __future__ import annotations

from typing import Final

from ekiben.errors import InvalidRequest, MethodNotAllowed, PayloadTooLarge, UnsupportedMediaType
from ekiben.serving.compression import ALGORITHMS, SMALLEST_BYTES, deflate, inflate
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.rest.http import Disconnected, Headers, Receive

_PREFIX_BYTES: Final = 5
_IDENTITY: Final = (None, b"identity")


def encoding_of(headers: Headers) -> str | None:
    """What the client's messages may be compressed with; None for nothing.

    Raises:
        UnsupportedMediaType: It is nothing we know.
    """
    given = headers.get(b"grpc-encoding")
    if given in _IDENTITY:
        return None
    name = given.decode("latin-1")
    if name not in ALGORITHMS:
        raise UnsupportedMediaType(f"grpc-encoding is {name!r}; there are {', '.join(ALGORITHMS)} and identity")
    return name


def reply_encoding_of(headers: Headers) -> str | None:
    """What our messages may be compressed with: as the client's are, if it reads that too."""
    given = headers.get(b"grpc-encoding")
    if given in _IDENTITY:
        return None
    name = given.decode("latin-1")
    accepted = headers.get(b"grpc-accept-encoding", b"").decode("latin-1").replace(" ", "").split(",")
    return name if name in accepted and name in ALGORITHMS else None


async def framed(message: bytes, encoding: str | None) -> bytes:
    """A message as it goes on the wire."""
    if encoding is None or len(message) < SMALLEST_BYTES:
        return b"\0" + len(message).to_bytes(4) + message
    packed = await deflate(message, encoding)
    return b"\1" + len(packed).to_bytes(4) + packed


class MessageReader:
    """The messages of one call, each as soon as it is there.

    Args:
        receive: ASGI's.
        encoding: What a message may be compressed with.
        limit: Bytes of a message, at most.
        reads: Ends a message that takes too long to come, once it has begun; None ends none.
    """

    __slots__ = ("_buffer", "_encoding", "_has_more", "_limit", "_reads", "_receive")

    def __init__(self, receive: Receive, encoding: str | None, limit: int, reads: ReadClock | None = None) -> None:
        self._receive = receive
        self._reads = reads
        self._encoding = encoding
        self._limit = limit
        self._buffer = bytearray()
        self._has_more = True

    async def next(self) -> bytes | None:
        """The next message; None when the client has sent its last.

        Raises:
            PayloadTooLarge: It is larger than the limit, by its prefix, or once decompressed.
            InvalidRequest: The stream ends inside it, or it is not what its prefix says.
            ReadTimeout: It began, and took too long.
            Disconnected: The client went away.
        """
        buffer, reads = self._buffer, self._reads
        due: float | None = None
        while True:
            end = self._end_of(buffer)
            if end and len(buffer) >= end:
                is_packed, message = buffer[0], bytes(memoryview(buffer)[_PREFIX_BYTES:end])
                del buffer[:end]
                return await self._unpacked(is_packed, message)
            if not self._has_more:
                if buffer:
                    raise InvalidRequest(f"the call ends inside a message, after {len(buffer)} bytes of it")
                return None
            if not buffer or reads is None:
                event = await self._receive()
            else:
                due = due or reads.due()
                event = await reads.wait(self._receive, due)
            if event["type"] == "http.disconnect":
                raise Disconnected
            part: bytes = event.get("body", b"")
            self._has_more = event.get("more_body", False)
            if part and not buffer and len(part) == self._end_of(part):
                message = part[_PREFIX_BYTES:]
                return message if part[0] == 0 else await self._unpacked(part[0], message)
            buffer += part

    async def only(self) -> bytes:
        """The only message of a call that has one.

        Raises:
            MethodNotAllowed: It has none, or several.
            PayloadTooLarge, InvalidRequest, ReadTimeout, Disconnected: As `next`.
        """
        message = await self.next()
        if message is None:
            raise MethodNotAllowed("the method takes one message, and the call has none", "")
        if (self._has_more or self._buffer) and await self.next() is not None:
            raise MethodNotAllowed("the method takes one message, and the call has several", "")
        return message

    def _end_of(self, data: bytes | bytearray) -> int:
        """Where the message that the data begins with ends; 0 where that is not known yet."""
        if len(data) < _PREFIX_BYTES:
            return 0
        length = int.from_bytes(data[1:_PREFIX_BYTES])
        if length > self._limit:
            raise PayloadTooLarge(f"the message has {length} bytes; the limit is {self._limit} (EKIBEN_MAX_BODY_BYTES)")
        return _PREFIX_BYTES + length

    async def _unpacked(self, is_packed: int, message: bytes) -> bytes:
        if is_packed == 0:
            return message
        if is_packed != 1:
            raise InvalidRequest(f"a message begins with {is_packed}; it must be 0, or 1 where it is compressed")
        if self._encoding is None:
            raise InvalidRequest("a message says it is compressed, and the call has no grpc-encoding that says with what")
        return await inflate(message, self._encoding, self._limit)
