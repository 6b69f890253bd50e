import asyncio
import gzip
import logging
import math

import pytest
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import GONE, Reply, Wire, called, framed, part

from ekiben import errors
from ekiben.errors import InvalidRequest, RequestError, RowError
from ekiben.serving.grpc.app import GrpcApp, Streaming, Unary, is_grpc, timeout_of
from ekiben.serving.grpc.status import Code, code_of

HELLO = pb.ServerLiveResponse(live=True)


class Echo:
    """Answers with what it got."""

    def __init__(self):
        self.contexts = []
        self.error = None

    async def unary(self, request, context):
        self.contexts.append(context)
        if self.error is not None:
            raise self.error
        return request

    async def stream(self, requests, context):
        self.contexts.append(context)
        async for request in requests:
            if request.name == "fail":
                raise self.error
            yield request


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def app(echo):
    parse = pb.ModelReadyRequest.FromString
    return GrpcApp(
        {"/s/Unary": Unary(parse, echo.unary), "/s/Stream": Streaming(parse, echo.stream)}, clock=lambda: 7.0, max_message_bytes=1000
    )


def message(name):
    return pb.ModelReadyRequest(name=name).SerializeToString()


def call(app, path, *events, **headers):
    given = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Reply(asyncio.run(called(app, path, Wire(events), given)).sent)


# which requests are calls ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc ", True),
        (b"Application/GRPC", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
        (None, False),
    ],
)
def test_calls_are_known_by_their_content_type(kind, expected):
    assert is_grpc({} if kind is None else {b"content-type": kind}) is expected


# one message in, one out ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_unary_call(app, echo):
    sent = asyncio.run(called(app, "/s/Unary", Wire([part(framed(message("x")))]), {b"x-meta": b"1"})).sent
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body", "http.response.trailers"]
    reply = Reply(sent)
    assert reply.only == message("x")
    assert reply.trailers == {b"grpc-status": b"0"}
    (context,) = echo.contexts
    assert (context.path, context.received, context.timeout_ms) == ("/s/Unary", 7.0, None)
    assert context.headers[b"x-meta"] == b"1"


@pytest.mark.parametrize("cut", range(len(framed(message("name"))) + 1))
def test_a_message_split_at_every_byte(app, cut):
    data = framed(message("name"))
    assert call(app, "/s/Unary", part(data[:cut], more=True), part(data[cut:])).only == message("name")


@pytest.mark.parametrize(
    "events", [[part(framed(message("x")) * 2)], [part(framed(message("x")), more=True), part(framed(b"")), GONE]], ids=["one event", "two"]
)
def test_several_messages_for_a_unary_method(app, echo, events):
    reply = call(app, "/s/Unary", *events)
    assert (reply.code, reply.message) == (Code.UNIMPLEMENTED, "the method takes one message, and the call has several")
    assert not echo.contexts


def test_no_message_for_a_unary_method(app, echo):
    reply = call(app, "/s/Unary", part(b""))
    assert (reply.code, reply.message) == (Code.UNIMPLEMENTED, "the method takes one message, and the call has none")
    assert not echo.contexts


def test_a_message_that_is_cut_off(app):
    for cut in range(1, len(framed(message("x")))):
        reply = call(app, "/s/Unary", part(framed(message("x"))[:cut]))
        assert reply.code is Code.INVALID_ARGUMENT
        assert "ends inside a message" in reply.message


def test_bytes_that_are_no_such_message(app):
    for bad in (b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"):
        reply = call(app, "/s/Unary", part(framed(bad)))
        assert reply.code is Code.INVALID_ARGUMENT
        assert reply.message.startswith("the message is not what the method takes: DecodeError")


def test_too_large_by_its_prefix(app):
    wire = Wire([part(b"\0" + (1001).to_bytes(4), more=True)])
    reply = Reply(asyncio.run(called(app, "/s/Unary", wire)).sent)
    assert reply.code is Code.RESOURCE_EXHAUSTED
    assert "has 1001 bytes; the limit is 1000" in reply.message


@pytest.mark.parametrize("path", ["/s/Nothing", "/", "", "/s/Unary/", "s/Unary", "/s/ünary\n"])
def test_a_method_that_does_not_exist(app, path):
    reply = call(app, path, part(framed(b"")))
    assert (reply.code, reply.message) == (Code.UNIMPLEMENTED, f"there is no method {path}")


def test_a_call_that_does_not_take_trailers(app, echo):
    reply = call(app, "/s/Unary", part(framed(message("x"))), te=b"gzip")
    assert reply.code is Code.INVALID_ARGUMENT
    assert "te: trailers" in reply.message
    assert not echo.contexts


# compression ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compressed_messages(app):
    name = "x" * 900
    packed = framed(gzip.compress(message(name)), 1)
    reply = call(app, "/s/Unary", part(packed), grpc_encoding=b"gzip")
    assert reply.only == message(name)
    assert b"grpc-encoding" not in reply.headers


def test_the_answer_is_compressed_as_the_request_is_where_the_client_reads_that():
    async def large(request, _):
        return pb.ModelReadyRequest(name="x" * 5000)

    app = GrpcApp({"/s/Large": Unary(pb.ModelReadyRequest.FromString, large)}, clock=lambda: 0.0, max_message_bytes=1000)
    packed = part(framed(gzip.compress(message("x")), 1))
    reply = call(app, "/s/Large", packed, grpc_encoding=b"gzip", grpc_accept_encoding=b"identity,gzip")
    assert reply.code is Code.OK
    assert reply.headers[b"grpc-encoding"] == b"gzip"
    ((flag, answer),) = reply.messages
    assert flag == 1
    assert gzip.decompress(answer) == message("x" * 5000)


def test_a_small_answer_is_not_compressed_and_says_what_could_be(app):
    reply = call(app, "/s/Unary", part(framed(message("x"))), grpc_encoding=b"gzip", grpc_accept_encoding=b"gzip")
    assert reply.headers[b"grpc-encoding"] == b"gzip"
    assert reply.only == message("x")


def test_compressed_without_an_encoding(app):
    reply = call(app, "/s/Unary", part(framed(gzip.compress(message("x")), 1)))
    assert reply.code is Code.INVALID_ARGUMENT
    assert "no grpc-encoding" in reply.message


def test_an_unknown_encoding_is_refused_and_the_known_are_told(app):
    reply = call(app, "/s/Unary", part(framed(message("x"))), grpc_encoding=b"snappy")
    assert reply.code is Code.UNIMPLEMENTED
    assert "'snappy'" in reply.message
    assert reply.headers[b"grpc-accept-encoding"] == b"identity,gzip,deflate"


def test_a_bomb(app):
    reply = call(app, "/s/Unary", part(framed(gzip.compress(bytes(1001)), 1)), grpc_encoding=b"gzip")
    assert reply.code is Code.RESOURCE_EXHAUSTED


# deadlines ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (b"1H", 3_600_000.0),
        (b"2M", 120_000.0),
        (b"3S", 3000.0),
        (b"250m", 250.0),
        (b"5000u", 5.0),
        (b"99999999n", 99.999999),
        (b"99999999H", 99999999 * 3_600_000.0),
        (b"00000001m", 1.0),
    ],
)
def test_timeouts(text, ms):
    assert timeout_of({b"grpc-timeout": text}) == pytest.approx(ms)


def test_no_timeout_and_one_that_is_over():
    assert timeout_of({}) is None
    assert timeout_of({b"grpc-timeout": b"0m"}) == math.ulp(0.0)


@pytest.mark.parametrize(
    "text", [b"", b"1", b"m", b"100000000m", b"-1m", b"1.5S", b"1s", b"1 m", b"1mm", b" 1m", b"\xb2m", b"\xef\xbc\x91m"]
)
def test_what_is_no_timeout(app, text):
    with pytest.raises(InvalidRequest, match="grpc-timeout is"):
        timeout_of({b"grpc-timeout": text})
    assert call(app, "/s/Unary", part(framed(b"")), grpc_timeout=text).code is Code.INVALID_ARGUMENT


def test_the_timeout_is_the_methods_to_keep(app, echo):
    call(app, "/s/Unary", part(framed(b"")), grpc_timeout=b"2S")
    assert echo.contexts[0].timeout_ms == 2000.0


# errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("bad"),
        errors.InvalidRows([RowError(1, "d", 99, "must be less")]),
        errors.UnknownModel("none"),
        errors.Forbidden("not here"),
        errors.LoadFailed("broken"),
        errors.MethodNotAllowed("no", "POST"),
        errors.PayloadTooLarge("large"),
        errors.UnsupportedMediaType("what"),
        errors.NotReady("soon", retry_after_s=3),
        errors.QueueFull("full", retry_after_s=0.5),
        errors.DeadlineExceeded("late"),
        errors.PredictionFailed("the model: é\n100 %"),
        errors.RequestError("else"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_error_is_a_status_in_the_headers_alone(app, echo, error):
    echo.error = error
    sent = asyncio.run(called(app, "/s/Unary", Wire([part(framed(b""))]))).sent
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert "trailers" not in sent[0]
    reply = Reply(sent)
    assert (reply.code, reply.message) == (code_of(error), str(error))
    assert not reply.messages
    assert (b"grpc-retry-pushback-ms" in reply.trailers) == isinstance(error, errors.NotReady)


def test_what_fails_unforeseen_is_internal_and_logged(app, echo, caplog):
    echo.error = ZeroDivisionError("secret")
    reply = call(app, "/s/Unary", part(framed(b"")))
    assert (reply.code, reply.message) == (Code.INTERNAL, "the server failed: ZeroDivisionError; its log says more")
    assert "secret" in caplog.text


@pytest.mark.parametrize("path", ["/s/Unary", "/s/Stream"])
def test_a_client_that_goes_away_is_not_answered(app, caplog, path):
    for events in ([GONE], [part(framed(message("x"))[:6], more=True), GONE]):
        assert asyncio.run(called(app, path, Wire(events))).sent == []
    assert not caplog.records


def test_an_operating_systems_error_of_the_method_is_answered(app, echo, caplog):
    echo.error = FileNotFoundError("the store is gone")
    reply = call(app, "/s/Unary", part(framed(b"")))
    assert (reply.code, reply.message) == (Code.INTERNAL, "the server failed: FileNotFoundError; its log says more")
    assert "the store is gone" in caplog.text


def test_a_connection_that_breaks_while_it_is_answered(app, caplog):
    caplog.set_level(logging.INFO)

    class Broken(Wire):
        async def send(self, message):
            raise BrokenPipeError

    asyncio.run(called(app, "/s/Unary", Broken([part(framed(message("x")))])))
    assert not caplog.records


def test_being_cancelled_is_not_an_error_of_the_call():
    async def endless(request, _):
        await asyncio.sleep(1000)

    async def cancelled():
        app = GrpcApp({"/s/Endless": Unary(pb.ModelReadyRequest.FromString, endless)}, clock=lambda: 0.0, max_message_bytes=10)
        wire = Wire([part(framed(b""))])
        task = asyncio.create_task(called(app, "/s/Endless", wire))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return wire.sent

    assert asyncio.run(cancelled()) == []


# streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_of_messages(app):
    names = [message(n) for n in "abc"]
    reply = call(app, "/s/Stream", part(framed(names[0]) + framed(names[1]), more=True), part(framed(names[2])))
    assert reply.plain == names
    assert reply.code is Code.OK


def test_a_stream_without_messages(app):
    reply = call(app, "/s/Stream", part(b""))
    assert (reply.plain, reply.code) == ([], Code.OK)


def test_each_answer_goes_before_the_next_request_has_come(app):
    async def conversation():
        wire = Wire()
        task = asyncio.create_task(called(app, "/s/Stream", wire))
        for n, name in enumerate("ab"):
            wire.give(part(framed(message(name)), more=True))
            await asyncio.sleep(0.01)
            assert wire.sent[-1] == {"type": "http.response.body", "body": framed(message(name)), "more_body": True}
            assert len(wire.sent) == n + 2
        wire.give(part(b""))
        return Reply((await task).sent)

    assert asyncio.run(conversation()).code is Code.OK


@pytest.mark.parametrize(("error", "code"), [(RequestError("no"), Code.INTERNAL), (errors.UnknownModel("no"), Code.NOT_FOUND)])
def test_an_error_within_a_stream_ends_it_in_the_trailers(app, echo, error, code):
    echo.error = error
    reply = call(app, "/s/Stream", part(framed(message("a")) + framed(message("fail")) + framed(message("b"))))
    assert reply.plain == [message("a")]
    assert (reply.code, reply.message) == (code, "no")
    assert b"grpc-status" not in reply.headers


def test_an_error_at_a_streams_begin_is_in_the_headers(app, echo):
    echo.error = RequestError("no")
    reply = call(app, "/s/Stream", part(framed(message("fail"))))
    assert reply.headers[b"grpc-status"] == b"13"


def test_bytes_within_a_stream_that_are_no_message(app):
    reply = call(app, "/s/Stream", part(framed(message("a")) + framed(b"\xff")))
    assert reply.plain == [message("a")]
    assert reply.code is Code.INVALID_ARGUMENT


def test_a_stream_that_the_client_leaves_ends_its_answers():
    ended = []

    async def answers(requests, _):
        try:
            async for request in requests:
                yield request
        finally:
            ended.append(True)

    app = GrpcApp({"/s/S": Streaming(pb.ModelReadyRequest.FromString, answers)}, clock=lambda: 0.0, max_message_bytes=10)
    wire = asyncio.run(called(app, "/s/S", Wire([part(framed(message("a")), more=True), GONE])))
    assert ended == [True]
    assert len(wire.sent) == 2
