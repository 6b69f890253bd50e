"""The little of HTTP the data plane needs, straight on ASGI."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from ekiben.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    InvalidRows,
    LoadFailed,
    MethodNotAllowed,
    NotAcceptable,
    NotReady,
    PayloadTooLarge,
    ReadTimeout,
    RequestError,
    TooManyRequests,
    Unauthenticated,
    UnknownModel,
    UnsupportedMediaType,
)
from ekiben.guards import deadline
from ekiben.guards.rate_headers import rate_limit_headers
from ekiben.serving.compression import ALGORITHMS, SMALLEST_BYTES, deflate, inflate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]

STATUS: Final[tuple[tuple[type[RequestError], int], ...]] = (
    (InvalidRequest, 400),
    (LoadFailed, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (UnknownModel, 404),
    (MethodNotAllowed, 405),
    (NotAcceptable, 406),
    (ReadTimeout, 408),
    (PayloadTooLarge, 413),
    (UnsupportedMediaType, 415),
    (InvalidRows, 422),
    (TooManyRequests, 429),
    (NotReady, 503),
    (DeadlineExceeded, 504),
    (RequestError, 500),
)
_UNREAD: Final = (408, 413)
"""What is answered while the client still sends: whoever went on to read would read a body that nobody wants."""

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")  # what a client sent may stand in the message
_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="ekiben"')
_MAX_ID_CHARS: Final = 128
_MAX_LENGTH_DIGITS: Final = 18
_MAX_SKIPPED_DIGITS: Final = 5
_encode = msgspec.json.Encoder().encode


Disconnected = deadline.Disconnected
"""The client went away while its body was read, or while it waited; there is nobody to answer."""


class Response(msgspec.Struct):
    """What goes back."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = []
    content_type: bytes = b"application/json"


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Reads a request's body, never more of it than the limit.

    Raises:
        InvalidRequest: Its declared length is no number.
        PayloadTooLarge: It is larger than ``limit`` bytes, by its declared length or by what came.
        ReadTimeout: It takes too long to come, where ``receive`` is timed.
        Disconnected: The client went away.
    """
    declared = headers.get(b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise InvalidRequest(f"Content-Length is {declared.decode('latin-1')!r}; it must be the number of bytes in the body")
        if len(declared) > _MAX_LENGTH_DIGITS or int(declared) > limit:
            raise PayloadTooLarge(
                f"the body has {declared[:_MAX_LENGTH_DIGITS].decode()} bytes; the limit is {limit} (EKIBEN_MAX_BODY_BYTES)"
            )
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(f"the body has more than {limit} bytes (EKIBEN_MAX_BODY_BYTES)")
        if not message.get("more_body"):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


async def skip_body(scope: Scope, receive: Receive, headers: Headers) -> None:
    """Takes a small body that is not looked at, where an answer that overtook it would be lost.

    Over HTTP/2 such an answer ends with RST_STREAM and NO_ERROR (RFC 9113, 8.1), which some clients take for a failure.
    """
    length = headers.get(b"content-length", b"")
    if scope.get("http_version") == "2" and length.isdigit() and len(length) <= _MAX_SKIPPED_DIGITS:
        with suppress(Disconnected, RequestError):
            await read_body(receive, headers, 10**_MAX_SKIPPED_DIGITS)


def only_post(scope: Scope) -> None:
    """Refuses every other method.

    Raises:
        MethodNotAllowed: It is not POST.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}", "POST")


def is_json(headers: Headers) -> bool:
    """Whether the body is JSON by its Content-Type; one that does not say is taken for it."""
    content_type = headers.get(b"content-type")
    if content_type is None or content_type == b"application/json":
        return True
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def check_json(headers: Headers) -> None:
    """Refuses a body that says it is not JSON.

    Raises:
        UnsupportedMediaType: By its Content-Type.
    """
    if not is_json(headers):
        kind = headers[b"content-type"].decode("latin-1")
        raise UnsupportedMediaType(f"the body is {kind!r}; send Content-Type: application/json")


async def decoded_body(body: bytes, headers: Headers, limit: int) -> bytes:
    """The body without its Content-Encoding.

    Raises:
        UnsupportedMediaType: It is neither gzip nor deflate nor identity.
        InvalidRequest: It is not what it says.
        PayloadTooLarge: It is larger than ``limit`` bytes once decompressed.
    """
    given = headers.get(b"content-encoding")
    if given is None:
        return body
    encoding = given.decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ALGORITHMS:
        raise UnsupportedMediaType(f"the body's Content-Encoding is {encoding!r}; there are {', '.join(ALGORITHMS)} and identity")
    return await inflate(body, encoding, limit)


async def compressed(response: Response, headers: Headers) -> Response:
    """The response in an encoding that the client asked for in Accept-Encoding, where it gains from one."""
    accepted = headers.get(b"accept-encoding")
    if accepted is None or len(response.body) < SMALLEST_BYTES:
        return response
    algorithm = _accepted(accepted.decode("latin-1").lower())
    if algorithm is None:
        return response
    response.body = await deflate(response.body, algorithm)
    response.headers += [(b"content-encoding", algorithm.encode()), (b"vary", b"accept-encoding")]
    return response


def _accepted(text: str) -> str | None:
    """The first of our algorithms that an Accept-Encoding names without ``q=0``."""
    for part in text.split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ALGORITHMS and not _is_zero(quality):
            return name.strip()
    return None


def _is_zero(quality: str) -> bool:
    _, _, number = quality.partition("=")
    try:
        return float(number) == 0
    except ValueError:
        return False


def timeout_of(headers: Headers) -> float | None:
    """The client's own limit in milliseconds, from ``X-Request-Timeout-Ms``.

    Raises:
        InvalidRequest: It is not a positive number.
    """
    text = headers.get(b"x-request-timeout-ms")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidRequest(f"X-Request-Timeout-Ms is {text.decode('latin-1')!r}; it must be a positive number of milliseconds")
    return value


def id_of(headers: Headers) -> str | None:
    """The request id from ``X-Request-Id``.

    Raises:
        InvalidRequest: It cannot be echoed in a header.
    """
    raw = headers.get(b"x-request-id")
    if raw is None:
        return None
    text = raw.decode("latin-1")
    if not fits_header(text):
        raise InvalidRequest(f"X-Request-Id must be 1 to {_MAX_ID_CHARS} printable ASCII characters")
    return text


def fits_header(text: str) -> bool:
    """Whether an id can stand in a header as it is; space at its ends would get lost there, or be refused."""
    return 0 < len(text) <= _MAX_ID_CHARS and text.isascii() and text.isprintable() and text[0] != " " != text[-1]


def error_response(error: RequestError) -> Response:
    """``{"error": "...", "details": [{row, field, value, rule}]}`` with the status of the error."""
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    body: dict[str, Any] = {"error": str(error)}
    if error.details:
        body["details"] = error.details
    response = Response(status, _encode(body), [_NOSNIFF])
    if isinstance(error, (NotReady, TooManyRequests)):
        response.headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    if isinstance(error, TooManyRequests):
        response.headers += rate_limit_headers(error.limit, error.window_s, error.capacity, error.left, error.reset_s)
    if isinstance(error, Unauthenticated):
        response.headers.append(_CHALLENGE)
    if isinstance(error, MethodNotAllowed):
        response.headers.append((b"allow", error.allow.encode()))
    return response


def json_response(value: Any, status: int = 200) -> Response:
    """Any JSON-able value."""
    return Response(status, _encode(value))


async def respond(scope: Scope, send: Send, response: Response, *, closing: bool = False) -> None:
    """Sends a response; ``closing`` asks the client to take another connection next time.

    So does a response to a body that was not read to its end.
    """
    headers = [(b"content-type", response.content_type), (b"content-length", b"%d" % len(response.body)), *response.headers]
    is_last = closing or response.status in _UNREAD
    if is_last and scope.get("http_version") != "2":  # which has no such header, and says goodbye in a frame of its own
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
