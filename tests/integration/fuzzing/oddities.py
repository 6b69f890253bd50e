"""Requests of HTTP/1.1 that two servers may read in two ways, and what the data port makes of each.

Behind each comes a second request, `SMUGGLED`. Where the first is refused, the second must never be answered: its bytes may be
part of the first, to whoever stands before the server. The refusals with an empty body are the embedded HTTP server's own;
its 501 is what RFC 9112 asks for where a transfer coding, or CONNECT, is not known.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from integration.fuzzing.http1 import Answer, Closed, read_answer

BODY = b'{"instances":[[1,2,3,4]]}'
SMUGGLED = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
HEAD = b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
_IN_CHUNKS = HEAD + b"transfer-encoding: chunked\r\n\r\n"
_QUIET_S = 0.4


class Oddity(NamedTuple):
    """A request.

    Attributes:
        name: What is odd about it.
        data: All that is sent.
        answers: The statuses that come back, one after the other; none where the connection is just closed, or the server waits on.
    """

    name: str
    data: bytes
    answers: tuple[int, ...]


def _lengths(*values: bytes) -> bytes:
    return HEAD + b"".join(b"content-length: %s\r\n" % value for value in values) + b"\r\n" + BODY + SMUGGLED


def _coded(*values: bytes) -> bytes:
    return HEAD + b"".join(b"transfer-encoding: %s\r\n" % value for value in values) + b"\r\n" + CHUNKED + SMUGGLED


ODDITIES = (
    Oddity("length and chunks", HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED, (400,)),
    Oddity("chunks and length", HEAD + b"transfer-encoding: chunked\r\ncontent-length: 99\r\n\r\n" + CHUNKED + SMUGGLED, (400,)),
    Oddity("one length twice", _lengths(b"25", b"25"), (200, 200)),
    Oddity("two lengths", _lengths(b"25", b"0"), (400,)),
    Oddity("a list of lengths", _lengths(b"25, 25"), (400, 200)),  # framed as 25, which it says twice, and refused by the front
    Oddity("signed length", _lengths(b"+25"), (400,)),
    Oddity("negative length", _lengths(b"-1"), (400,)),
    Oddity("length in hex", _lengths(b"0x19"), (400,)),
    Oddity("length beyond 64 bits", _lengths(b"9" * 24), (400,)),
    Oddity("unknown coding", _coded(b"xchunked"), (400,)),
    Oddity("coding behind chunked", _coded(b"chunked, identity"), (400,)),
    Oddity("coding before chunked", _coded(b"gzip, chunked"), (501,)),
    Oddity("chunked twice", _coded(b"chunked", b"chunked"), (400,)),
    Oddity("chunked behind a control character", _coded(b"\x0bchunked"), (400,)),
    Oddity("folded coding", _coded(b"\r\n chunked"), (400,)),
    Oddity("space before the colon", HEAD + b"transfer-encoding : chunked\r\n\r\n" + CHUNKED + SMUGGLED, (400,)),
    Oddity("chunks in HTTP/1.0", _coded(b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1), (400,)),
    Oddity("negative chunk", _IN_CHUNKS + b"-1\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED, ()),
    Oddity("chunk beyond 64 bits", _IN_CHUNKS + b"f" * 19 + b"\r\n" + BODY + SMUGGLED, ()),
    Oddity("chunk of 2**63 bytes", _IN_CHUNKS + b"7" + b"f" * 15 + b"\r\n" + BODY + SMUGGLED, ()),
    Oddity("chunk with 0x", _IN_CHUNKS + b"0x19\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED, ()),
    Oddity("chunk with an extension and trailers", _IN_CHUNKS + b"19;a=b\r\n" + BODY + b"\r\n0\r\nx: y\r\n\r\n" + SMUGGLED, (200, 200)),
    Oddity("chunk with a long extension", _IN_CHUNKS + b"19;" + b"a" * 100_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED, ()),
    Oddity("chunk ended by a bare line feed", _IN_CHUNKS + b"19\n" + BODY + b"\n0\n\n" + SMUGGLED, ()),
    Oddity("chunk longer than it says", _IN_CHUNKS + b"18\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED, ()),
    Oddity("bare line feeds", _lengths(b"25").replace(b"\r\n", b"\n"), (400,)),
    Oddity("bare carriage return", HEAD + b"x: a\rcontent-length: 25\r\n\r\n" + BODY + SMUGGLED, (400,)),
    Oddity("NUL in a field", HEAD + b"x: a\0b\r\ncontent-length: 25\r\n\r\n" + BODY + SMUGGLED, (400,)),
    Oddity("no host", _lengths(b"25").replace(b"host: x\r\n", b"", 1), (400,)),
    Oddity("a field of 2 MB", HEAD + b"x: " + b"a" * 2_000_000 + b"\r\n\r\n", (431,)),
    Oddity("20,000 fields", HEAD + b"x: a\r\n" * 20_000 + b"\r\n", (431,)),
    Oddity("a path of 40 kB", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", (414,)),
    Oddity("unknown version", SMUGGLED.replace(b"1.1", b"9.9"), (400,)),
    Oddity("no version", b"GET /v2/health/live\r\n", ()),
    Oddity("CONNECT", b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", (501,)),
    Oddity("a whole URL as the path", b"GET http://y/v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n", (400,)),
    Oddity("bytes that are not UTF-8 in the type", b"GET /x HTTP/1.1\r\nhost: x\r\ncontent-type: \xff\r\n\r\n", (415,)),
    Oddity("five at once", (HEAD + b"content-length: 25\r\n\r\n" + BODY) * 5 + SMUGGLED, (200,) * 6),
    Oddity("too large and not sent", HEAD + b"content-length: 99999999\r\n\r\n" + BODY + SMUGGLED, (413,)),
    Oddity("a request as the body of GET", SMUGGLED[:-2] + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, (200,)),
    Oddity("an expectation", HEAD + b"expect: 100-continue\r\ncontent-length: 25\r\n\r\n" + BODY, (200,)),
    Oddity("gRPC without HTTP/2", HEAD.replace(b"json", b"grpc") + b"te: trailers\r\ncontent-length: 0\r\n\r\n", (415,)),
)  # fmt: skip


async def answers_to(port: int, data: bytes) -> list[Answer]:
    """All answers to what was sent, until the server is quiet or closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    answers = []
    try:
        with suppress(ConnectionError, Closed, TimeoutError):
            writer.write(data)
            while True:
                answers.append(await asyncio.wait_for(read_answer(reader), _QUIET_S if answers else 3 * _QUIET_S))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return answers
