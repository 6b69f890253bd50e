"""HTTP/2 by hand: frames of any shape, and a client of one call at a time that tells how the call ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
INTERNAL_ERROR = 2
WAIT_S = 20.0
Header = tuple[str | bytes, str | bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """A frame; ``length`` is what it says of its payload's size where that is a lie."""
    size = len(payload) if length is None else length
    return (size % 2**24).to_bytes(3) + bytes((kind & 255, flags & 255)) + (stream % 2**32).to_bytes(4) + payload


def settings(values: Iterable[tuple[int, int]] = ()) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(key.to_bytes(2) + (value % 2**32).to_bytes(4) for key, value in values))


BEGIN = PREFACE + settings([(4, 2**24)]) + frame(WINDOW_UPDATE, payload=(2**30).to_bytes(4))


def header_block(headers: Sequence[Header]) -> bytes:
    """Fields as literals, which takes whatever they are."""
    return b"".join(b"\x10" + _string(name) + _string(value) for name, value in headers)


def _string(text: str | bytes) -> bytes:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    parts = bytearray(b"\x7f")
    size -= 127
    while size > 127:
        parts.append(size & 127 | 128)
        size >>= 7
    parts.append(size)
    return bytes(parts) + data


class Frame(NamedTuple):
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Ended(NamedTuple):
    """How a call ended.

    Attributes:
        headers: The answer's fields, those of its trailers among them; empty where there was none.
        body: What came.
        reset: The error code of RST_STREAM or GOAWAY; None where neither came.
        closed: Whether the connection ended.
    """

    headers: dict[str, str]
    body: bytes
    reset: int | None = None
    closed: bool = False


class Http2:
    """One connection.

    Args:
        port: On this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream = -1
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._decoder = hpack.Decoder()
        self._is_finished = False

    async def open(self, *, begin: bytes = BEGIN) -> Self:
        """Connects, and sends the preface, a SETTINGS frame and large windows where nothing else is to be first."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        self._decoder = hpack.Decoder()
        self._stream = -1
        self._is_finished = False
        self.send(begin)
        return self

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._writer is not None

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        assert self._writer is not None
        self._writer.write(data)

    def finish(self) -> None:
        """Half-closes the connection."""
        assert self._writer is not None
        if self._writer.can_write_eof():
            self._is_finished = True
            with suppress(OSError):
                self._writer.write_eof()

    async def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None

    async def read(self) -> Frame | None:
        """The next frame; None where the connection ended. A SETTINGS frame is acknowledged."""
        assert self._reader is not None
        try:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        found = Frame(head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF, payload)
        if found.kind == SETTINGS and not found.flags & ACK and not self._is_finished:
            self.send(frame(SETTINGS, ACK))
        return found

    async def call(self, headers: Sequence[Header], chunks: Sequence[bytes], *, end: bool = True) -> Ended:
        """Sends a request and reads until it ended.

        Args:
            headers: All fields, pseudo fields too.
            chunks: Its DATA frames' payloads.
            end: Whether to end the stream; without, it is reset when the answer is there.
        """
        if self._writer is None or self._stream > 2**30:
            await self.close()
            await self.open()
        self._stream += 2
        stream = self._stream
        block = header_block(headers)
        last = END_STREAM if end and not chunks else 0
        parts = [block[at : at + 16000] for at in range(0, len(block), 16000)] or [b""]
        data = b"".join(
            frame(HEADERS if n == 0 else CONTINUATION, (last if n == 0 else 0) | (END_HEADERS if n == len(parts) - 1 else 0), stream, part)
            for n, part in enumerate(parts)
        )
        for n, chunk in enumerate(chunks):
            data += frame(DATA, END_STREAM if end and n == len(chunks) - 1 else 0, stream, chunk)
        self.send(data)
        return await asyncio.wait_for(self._read_call(stream), WAIT_S)

    async def _read_call(self, stream: int) -> Ended:
        headers: dict[str, str] = {}
        body = b""
        while True:
            found = await self.read()
            if found is None or found.kind == GOAWAY:
                await self.close()
                return Ended(headers, body, int.from_bytes(found.payload[4:8]) if found else None, closed=True)
            if found.kind == HEADERS:
                assert found.flags & END_HEADERS, "the test's client takes no CONTINUATION"
                # Every block must be decoded, of whatever stream: the table is the connection's.
                fields = self._decoder.decode(found.payload)
                if found.stream == stream:
                    headers |= {_text(name): _text(value) for name, value in fields}
            if found.stream != stream:
                continue
            if found.kind == DATA:
                body += found.payload
                if found.payload:
                    self.send(frame(WINDOW_UPDATE, payload=len(found.payload).to_bytes(4)))
            if found.kind == RST_STREAM:
                code = int.from_bytes(found.payload)
                # NO_ERROR behind a whole answer only says that the rest of the request is not wanted.
                return Ended(headers, body, None if code == 0 and headers else code)
            if found.kind in {DATA, HEADERS} and found.flags & END_STREAM:
                return Ended(headers, body)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
