"""Gzip and deflate, both ways, for HTTP bodies and gRPC messages; never more inflated than a limit."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from ekiben.errors import InvalidRequest, PayloadTooLarge

GZIP: Final = "gzip"
DEFLATE: Final = "deflate"
ALGORITHMS: Final = (GZIP, DEFLATE)
SMALLEST_BYTES: Final = 1024
"""What is smaller is not worth compressing: it fits a packet anyway."""

_LEVEL: Final = 1
_FIRST_STEP_BYTES: Final = 16 * 1024
_IN_LOOP_BYTES: Final = 64 * 1024
_WINDOW_BITS: Final = {GZIP: 16 + zlib.MAX_WBITS, DEFLATE: zlib.MAX_WBITS}


def deflated(data: bytes, algorithm: str) -> bytes:
    """The data, compressed."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[algorithm])
    return packer.compress(data) + packer.flush()


def inflated(data: bytes, algorithm: str, limit: int) -> bytes:
    """The data, decompressed: any number of gzip members, or deflate with or without zlib's header.

    Args:
        data: What was compressed.
        algorithm: One of `ALGORITHMS`.
        limit: Bytes of the result, at most; no more than that is ever held.

    Raises:
        InvalidRequest: It was not compressed so, or it is cut off.
        PayloadTooLarge: The result is larger than the limit.
    """
    # RFC 9110 means zlib's format by deflate; some clients send the bare stream. Only zlib's begins with 8 in the low half of
    # a first byte that makes the first two a multiple of 31.
    is_bare = algorithm == DEFLATE and len(data) > 1 and (data[0] & 15 != zlib.DEFLATED or int.from_bytes(data[:2]) % 31 != 0)
    bits = -zlib.MAX_WBITS if is_bare else _WINDOW_BITS[algorithm]
    view = memoryview(data)
    parts: list[bytes] = []
    at = size = 0
    while at < len(view) or not parts:
        unpacker = zlib.decompressobj(bits)
        step = _FIRST_STEP_BYTES
        while not unpacker.eof:
            if at == len(view):
                raise InvalidRequest(f"the {algorithm} data is cut off")
            piece = view[at : at + step]
            try:
                part = unpacker.decompress(piece, limit - size + 1)
            except zlib.error as e:
                raise InvalidRequest(f"the data is not {algorithm}: {e}") from None
            size += len(part)
            if size > limit:
                raise PayloadTooLarge(f"the data is more than {limit} bytes once decompressed (EKIBEN_MAX_BODY_BYTES)")
            parts.append(part)
            # NOTE: what follows a member is copied at its end; thousands of tiny members of one large body must not each copy it all.
            at += len(piece) - len(unpacker.unused_data)
            step *= 2
        if algorithm == DEFLATE and at < len(view):
            raise InvalidRequest(f"{len(view) - at} bytes follow the deflate data")
    return b"".join(parts)


async def inflate(data: bytes, algorithm: str, limit: int) -> bytes:
    """As `inflated`; large data in a thread, because it may grow a thousandfold.

    Raises:
        InvalidRequest, PayloadTooLarge: As `inflated`.
    """
    if len(data) <= _IN_LOOP_BYTES:
        try:
            return inflated(data, algorithm, min(limit, _IN_LOOP_BYTES))
        except PayloadTooLarge:
            if limit <= _IN_LOOP_BYTES:
                raise
    return await asyncio.to_thread(inflated, data, algorithm, limit)


async def deflate(data: bytes, algorithm: str) -> bytes:
    """As `deflated`; large data in a thread."""
    if len(data) <= _IN_LOOP_BYTES:
        return deflated(data, algorithm)
    return await asyncio.to_thread(deflated, data, algorithm)
