"""A client of HTTP/1.1 that sends what it is told, and reads what a server may say."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from integration.fuzzing.corpus import HttpRequest

WAIT_S = 20.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Closed(Exception):
    """The server closed the connection where an answer should have begun."""


class Http1:
    """One connection, made again when it is needed.

    Args:
        port: On this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: HttpRequest) -> Answer:
        """Sends a request and reads its answer.

        Raises:
            Closed: There is none.
        """
        head = [f"{request.method} {request.path} HTTP/1.1", "host: localhost", f"content-length: {len(request.body)}"]
        head += [f"{name}: {value}" for name, value in request.headers]
        data = "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + request.body
        is_reused = self._writer is not None
        try:
            return await asyncio.wait_for(self._exchange(data), WAIT_S)
        except (Closed, ConnectionError):
            await self.close()
            if not is_reused:
                raise
            # The one before may have been the connection's last.
            return await asyncio.wait_for(self._exchange(data), WAIT_S)

    async def _exchange(self, data: bytes) -> Answer:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        self._writer.write(data)
        with suppress(ConnectionError):  # refused before all of it was sent; the answer may be there
            await self._writer.drain()
        answer = await read_answer(self._reader)
        if answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer.

    Raises:
        Closed: There is none.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as e:
        raise Closed(f"closed after {e.partial!r}") from None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    status = int(first.split(" ", 2)[1])
    if 100 <= status < 200:
        return await read_answer(reader)
    try:
        if headers.get("transfer-encoding") == "chunked":
            body = await _read_chunks(reader)
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif status in {204, 304}:
            body = b""
        else:
            body = await reader.read()
    except asyncio.IncompleteReadError as e:
        raise AssertionError(f"an answer of status {status} ends after {len(e.partial)} bytes of its body") from None
    return Answer(status, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(parts)
