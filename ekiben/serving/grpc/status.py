"""gRPC's status codes, which of them our errors are, and how a status is written into trailers."""

from __future__ import annotations

from enum import IntEnum
from typing import Final
from urllib.parse import quote

from ekiben.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    InvalidRows,
    LoadFailed,
    MethodNotAllowed,
    NotReady,
    PayloadTooLarge,
    ReadTimeout,
    RequestError,
    TooManyRequests,
    Unauthenticated,
    UnknownModel,
    UnsupportedMediaType,
)


class Code(IntEnum):
    """The status codes used here, by gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODES: Final[tuple[tuple[type[RequestError], Code], ...]] = (
    (InvalidRequest, Code.INVALID_ARGUMENT),
    (InvalidRows, Code.INVALID_ARGUMENT),
    (UnknownModel, Code.NOT_FOUND),
    (Unauthenticated, Code.UNAUTHENTICATED),
    (Forbidden, Code.PERMISSION_DENIED),
    (LoadFailed, Code.FAILED_PRECONDITION),
    (PayloadTooLarge, Code.RESOURCE_EXHAUSTED),
    (TooManyRequests, Code.RESOURCE_EXHAUSTED),
    (MethodNotAllowed, Code.UNIMPLEMENTED),
    (UnsupportedMediaType, Code.UNIMPLEMENTED),
    (NotReady, Code.UNAVAILABLE),
    (DeadlineExceeded, Code.DEADLINE_EXCEEDED),
    (ReadTimeout, Code.DEADLINE_EXCEEDED),
    (RequestError, Code.INTERNAL),
)
_MAX_MESSAGE_BYTES: Final = 2000
"""A status travels in header fields, of which clients take 8 KiB, and each byte may become 3 of them."""

_UNCHANGED: Final = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")


def code_of(error: RequestError) -> Code:
    """The status code of an error."""
    return next(code for kind, code in CODES if isinstance(error, kind))


def trailers_of(error: RequestError) -> list[tuple[bytes, bytes]]:
    """The trailers that tell a client of an error."""
    text = str(error).encode(errors="replace")
    if len(text) > _MAX_MESSAGE_BYTES:
        text = text[:_MAX_MESSAGE_BYTES].decode(errors="ignore").encode() + "…".encode()
    trailers = [(b"grpc-status", b"%d" % code_of(error)), (b"grpc-message", quote(text, safe=_UNCHANGED).encode())]
    if isinstance(error, (NotReady, TooManyRequests)):
        # Clients with a retry policy come again after so long.
        trailers.append((b"grpc-retry-pushback-ms", b"%d" % (error.retry_after_s * 1000)))
    return trailers
