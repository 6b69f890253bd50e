"""gRPC as an ASGI app: any HTTP/2 server that has trailers can carry it.

The way of a call, top to bottom, is `GrpcApp.__call__`: look up the method, read its messages, have the servicer answer,
write the answer and then the status.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NoReturn, Protocol

import msgspec

from ekiben.errors import InvalidRequest, MethodNotAllowed, RequestError
from ekiben.serving.batch_run import Clock
from ekiben.serving.grpc.messages import MessageReader, encoding_of, framed, reply_encoding_of
from ekiben.serving.grpc.status import trailers_of
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.rest.http import Disconnected, Headers, Receive, Send

logger = logging.getLogger("ekiben.grpc")

_OK: Final = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
_END: Final = {"type": "http.response.body", "body": b""}
_PLAIN: Final = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity,gzip,deflate")]
_BEGIN: Final = {"type": "http.response.start", "status": 200, "headers": _PLAIN, "trailers": True}
_TIMEOUT: Final = re.compile(rb"^(\d{1,8})([HMSmun])$")
_UNIT_MS: Final = {b"H": 3_600_000.0, b"M": 60_000.0, b"S": 1000.0, b"m": 1.0, b"u": 1e-3, b"n": 1e-6}


class Message(Protocol):
    """What a protobuf message has."""

    def SerializeToString(self) -> bytes:  # noqa: N802  protobuf's name
        """Its bytes."""


class RpcContext(msgspec.Struct):
    """What a method may know of its call.

    Attributes:
        path: ``/package.Service/Method``.
        headers: The call's metadata.
        received: Clock at which it came.
        timeout_ms: The client's deadline, from when the call came; None where it has none.
        reply_headers: What the answer's head says beside the usual.
        peer: The address of its connection, where it has one.
        receive: ASGI's, of a call whose only message is read; None of a stream, which listens itself.
    """

    path: str
    headers: Headers
    received: float
    timeout_ms: float | None
    reply_headers: Sequence[tuple[bytes, bytes]] = ()
    receive: Receive | None = None
    peer: tuple[str, int] | None = None


class Unary(msgspec.Struct):
    """A method with one message in and one out.

    Attributes:
        parse: Makes the request of a message's bytes.
        answer: Answers it.
    """

    parse: Callable[[bytes], Any]
    answer: Callable[[Any, RpcContext], Awaitable[Message]]


class Streaming(msgspec.Struct):
    """A method that reads messages and answers with messages, as it likes.

    Attributes:
        parse: Makes a request of a message's bytes.
        answer: Takes the requests and gives the answers.
    """

    parse: Callable[[bytes], Any]
    answer: Callable[[AsyncIterator[Any], RpcContext], AsyncGenerator[Message, None]]


Method = Unary | Streaming


def is_grpc(headers: Headers) -> bool:
    """Whether a request is a gRPC call, by its Content-Type."""
    kind = headers.get(b"content-type", b"")
    if kind == b"application/grpc":
        return True
    kind = kind.lower()
    return kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";", b" ")


class GrpcApp:
    """Answers gRPC calls.

    Args:
        methods: ``/package.Service/Method`` → what answers it.
        clock: Monotonic seconds.
        max_message_bytes: Largest message, also once decompressed.
        reads: Ends calls whose only message, and streams of which a message, takes too long to come; None ends none.
    """

    def __init__(self, methods: Mapping[str, Method], *, clock: Clock, max_message_bytes: int, reads: ReadClock | None = None) -> None:
        self._methods = methods
        self._clock = clock
        self._limit = max_message_bytes
        self._reads = reads

    async def __call__(self, path: str, headers: Headers, receive: Receive, send: Send, peer: tuple[str, int] | None = None) -> None:
        """Answers a request of which `is_grpc` is true; ``peer`` is the address of its connection."""
        received = self._clock()
        reply = Reply(send, reply_encoding_of(headers))
        try:
            check_trailers(headers)
            method = self._methods.get(path) or unknown(path)
            context = RpcContext(path, headers, received, timeout_of(headers), peer=peer)
            encoding, reads = encoding_of(headers), self._reads
            if isinstance(method, Unary):
                reader = MessageReader(receive if reads is None else reads.timed(receive), encoding, self._limit)
                request = parsed(method, await reader.only())
                context.receive = receive
                try:
                    answer = await method.answer(request, context)
                finally:
                    reply.headers = context.reply_headers
                await reply.only(answer.SerializeToString())
            else:
                reader = MessageReader(receive, encoding, self._limit, reads)
                async with aclosing(method.answer(_requests(method, reader), context)) as answers:
                    async for message in answers:
                        await reply.message(message.SerializeToString())
                await reply.ok()
        except Disconnected:
            return  # nobody is there to be answered
        except RequestError as e:
            await reply.failed(e)
        except Exception as e:
            if isinstance(e, OSError) and reply.is_begun:
                return  # the connection broke
            logger.exception("call failed")
            await reply.failed(RequestError(f"the server failed: {type(e).__name__}; its log says more"))


def check_trailers(headers: Headers) -> None:
    """Refuses a call whose client takes no trailers: an HTTP/2 server would not send them.

    Raises:
        InvalidRequest: It has no ``te: trailers``.
    """
    if headers.get(b"te", b"").lower() != b"trailers":
        raise InvalidRequest("the call has no te: trailers, and the status behind an answer goes in trailers; did a proxy drop it?")


def unknown(path: str) -> NoReturn:
    """Refuses a method that does not exist.

    Raises:
        MethodNotAllowed: Always.
    """
    raise MethodNotAllowed(f"there is no method {path}", "")


async def _requests(method: Streaming, reader: MessageReader) -> AsyncIterator[Any]:
    while (message := await reader.next()) is not None:
        yield parsed(method, message)


def parsed(method: Method, message: bytes) -> Any:
    """A request from its bytes.

    Raises:
        InvalidRequest: They are no such message.
    """
    try:
        return method.parse(message)
    except Exception as e:  # protobuf's DecodeError, and what its parts raise  # noqa: BLE001
        raise InvalidRequest(f"the message is not what the method takes: {type(e).__name__}: {e}") from None


def timeout_of(headers: Headers) -> float | None:
    """The call's deadline in milliseconds, from ``grpc-timeout``.

    Raises:
        InvalidRequest: It is no such value.
    """
    text = headers.get(b"grpc-timeout")
    if text is None:
        return None
    match = _TIMEOUT.match(text)
    if match is None:
        raise InvalidRequest(f"grpc-timeout is {text[:40].decode('latin-1')!r}; it must be up to 8 digits and one of H M S m u n")
    return int(match[1]) * _UNIT_MS[match[2]] or math.ulp(0.0)


class Reply:
    """What goes back: headers with the first message, then messages, then the status.

    Args:
        send: ASGI's.
        encoding: What messages may be compressed with.

    Attributes:
        is_begun: Whether something was sent, or tried to.
        headers: What the head says beside the usual.
    """

    __slots__ = ("_encoding", "_send", "headers", "is_begun")

    def __init__(self, send: Send, encoding: str | None) -> None:
        self._send = send
        self._encoding = encoding
        self.is_begun = False
        self.headers: Sequence[tuple[bytes, bytes]] = ()

    async def _begin(self) -> None:
        self.is_begun = True
        if self._encoding is None and not self.headers:
            await self._send(_BEGIN)
            return
        headers = [*_PLAIN, *self.headers]
        if self._encoding is not None:
            headers.append((b"grpc-encoding", self._encoding.encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})

    async def message(self, message: bytes) -> None:
        """Sends one message of several."""
        if not self.is_begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": await framed(message, self._encoding), "more_body": True})

    async def only(self, message: bytes) -> None:
        """Sends the only message and ends the call well."""
        await self._begin()
        body = b"\0" + len(message).to_bytes(4) + message if self._encoding is None else await framed(message, self._encoding)
        await self._send({"type": "http.response.body", "body": body})
        await self._send(_OK)

    async def ok(self) -> None:
        """Ends the call well."""
        if not self.is_begun:
            await self._begin()
        await self._send(_END)
        await self._send(_OK)

    async def failed(self, error: RequestError) -> None:
        """Ends the call with an error; where nothing was sent, in the headers alone."""
        trailers = trailers_of(error)
        if self.is_begun:
            await self._send(_END)
            await self._send({"type": "http.response.trailers", "headers": trailers})
            return
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_PLAIN, *self.headers, *trailers]})
        await self._send(_END)
