import asyncio
import concurrent.futures

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import GONE, INFER, STREAM, Client, Reply, Wire, called, floats, framed, matrix, part

from ekiben.errors import PredictionFailed, QueueFull
from ekiben.serving.access_log import AccessLog
from ekiben.serving.grpc.inference import _IN_FLIGHT
from ekiben.serving.grpc.status import Code
from ekiben.serving.tracing import Tracer

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def own(serving) -> Client:
    """Calls a server of the test's own."""
    return Client(serving)


@pytest.fixture
def fail(serving, monkeypatch):
    """Has the batcher of plane fail with an error."""

    def failing(error):
        def submit(*_, **__):
            raise error

        monkeypatch.setattr(serving.server.host.find("plane", None).batcher, "submit", submit)

    return failing


# one request ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_has_model_version_and_id(client):
    response = client.infer(matrix([1, 2, 3], [4, 5, 6], id="7"))
    assert (response.model_name, response.model_version, response.id) == ("plane", "1", "7")
    (output,) = response.outputs
    assert (output.name, list(output.shape)) == ("prediction", [2])
    assert floats(output, response) == [14.5, 32.5]


def test_the_id_is_the_messages_or_the_metadatas_or_made(client):
    assert client.infer(matrix([1, 2, 3], id="m"), x_request_id=b"h").id == "m"
    assert client.infer(matrix([1, 2, 3]), x_request_id=b"h").id == "h"
    made = {client.infer(matrix([1, 2, 3])).id for _ in range(3)}
    assert len(made) == 3
    assert "" not in made
    assert client.infer(matrix([1, 2, 3], id="é\n" * 200)).id == "é\n" * 200
    assert "X-Request-Id" in client.refusal(matrix([1, 2, 3]), x_request_id=b"\xff")


def test_a_version_is_asked_for(client):
    assert client.infer(matrix([1, 2, 3], model_version="1")).model_version == "1"
    assert "version '9' of plane is not loaded" in client.refusal(matrix([1, 2, 3], model_version="9"), Code.NOT_FOUND)
    assert "there is no model 'ghost'" in client.refusal(matrix([1], model="ghost"), Code.NOT_FOUND)
    assert "there is no model ''" in client.refusal(matrix([1], model=""), Code.NOT_FOUND)


def test_a_model_that_is_not_ready(start):
    reply = Client(start("ghost")).unary(INFER, matrix([1], model="ghost"))
    assert reply.code is Code.UNAVAILABLE
    assert "ghost is not ready" in reply.message
    assert reply.trailers[b"grpc-retry-pushback-ms"] == b"2000"


def test_rows_that_break_the_signature(client):
    assert "row 1, field 'd': must be a finite number" in client.refusal(matrix([1, 1, 1, 1], [1, 1, 1, 11], model="tiny"))


def test_the_deadline_is_grpc_timeouts(client):
    assert client.infer(matrix([1, 2, 3]), grpc_timeout=b"10S").outputs
    for over in (b"0m", b"1n"):
        assert "the deadline passed" in client.refusal(matrix([1, 2, 3]), Code.DEADLINE_EXCEEDED, grpc_timeout=over)


def test_a_full_queue(own, serving, monkeypatch):
    def admit(_):
        raise QueueFull("full", retry_after_s=0.25)

    monkeypatch.setattr(serving.server.host.find("plane", None).batcher, "admit", admit)
    reply = own.unary(INFER, matrix([1, 2, 3]))
    assert (reply.code, reply.message) == (Code.UNAVAILABLE, "full")
    assert reply.trailers[b"grpc-retry-pushback-ms"] == b"250"


def test_while_draining_it_answers(own, serving):
    serving.server.plane.draining = True
    assert own.infer(matrix([1, 2, 3])).outputs


def test_a_swap_is_followed(own, serving, registry, plane_artifact, another, eventually):
    assert own.infer(matrix([1, 2, 3])).model_version == "1"
    old = serving.server.host.find("plane", None)
    registry.register(another(plane_artifact, "two").path, tag="plane:2")
    registry.aliases.set("plane", "champion", "2")
    eventually(lambda: serving.server.host.find("plane", None).version == "2")
    eventually(lambda: old not in serving.server.grpc._inference._models)
    assert own.infer(matrix([1, 2, 3])).model_version == "2"


# notes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_counted_with_rest_by_how_it_ended(own, serving, fail):
    own.infer(matrix([1, 2, 3], [1, 2, 3]))
    serving.predict("plane", [[1, 2, 3]])
    own.refusal(matrix([1, 2]))
    own.refusal(matrix([1, 2, float("nan")]))
    own.refusal(matrix([1, 2, 3]), Code.DEADLINE_EXCEEDED, grpc_timeout=b"0m")
    fail(ZeroDivisionError("secret"))
    own.refusal(matrix([1, 2, 3]), Code.INTERNAL)
    counted = {s: serving.metric("ekiben_predictions_total", model="plane", status=s) for s in ("ok", "invalid", "expired", "failed")}
    assert counted == {"ok": 2, "invalid": 2, "expired": 1, "failed": 1}
    serving.server.host.write_metrics()
    assert serving.metric("ekiben_predicted_rows_total", model="plane") == 3


def test_what_fails_unforeseen_says_what_kind_and_the_log_says_more(own, fail, caplog):
    fail(ZeroDivisionError("secret"))
    assert own.refusal(matrix([1, 2, 3]), Code.INTERNAL) == "the server failed: ZeroDivisionError; its log says more"
    assert "secret" in caplog.text


def test_it_fails_unforeseen_before_a_version_was_found(own, serving, monkeypatch, caplog):
    monkeypatch.setattr(serving.server.plane, "admit", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" in own.refusal(matrix([1, 2, 3]), Code.INTERNAL)


def test_each_request_is_noted_with_how_it_ended(own, serving, fail, caplog):
    lines = []
    log = AccessLog(1.0, lines.append, wall=lambda: 12.5)
    serving.server.grpc._inference._log = log
    own.infer(matrix([1, 2, 3], id="r-1"), traceparent=PARENT)
    own.refusal(matrix([1, 2], id="r-2"))
    own.refusal(matrix([1], model="ghost", id="r-3"), Code.NOT_FOUND)
    fail(ZeroDivisionError())
    own.refusal(matrix([1, 2, 3], id="r-4"), Code.INTERNAL)
    fail(asyncio.CancelledError())
    with pytest.raises(concurrent.futures.CancelledError):
        serving.thread.run(serving.server.grpc._inference.infer(matrix([1, 2, 3], id="r-5"), _context(serving)))
    asyncio.run(log.stop())
    found = [msgspec.json.decode(line) for line in b"".join(lines).splitlines()]
    for line in found:
        assert line.pop("duration_ms") >= 0
    common = {"time": 12.5, "logger": "ekiben.access", "path": INFER, "model": "plane", "version": "1", "arm": "champion"}
    assert found == [
        {**common, "grpc_status": 0, "request_id": "r-1", "traceparent": PARENT.decode()},
        {**common, "grpc_status": 3, "request_id": "r-2"},
        {**common, "grpc_status": 5, "request_id": "r-3", "model": "ghost", "version": None, "arm": None},
        {**common, "grpc_status": 13, "request_id": "r-4"},
        {**common, "grpc_status": 1, "request_id": "r-5"},
    ]


def _context(serving):
    from ekiben.serving.grpc.app import RpcContext

    return RpcContext(INFER, {}, serving.server._clock(), None)


def test_each_request_is_a_span(start, registry, plane_artifact, monkeypatch, caplog):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    registry.register(plane_artifact.path, tag="plane:1")
    serving = start("plane", tracer=Tracer(provider))
    traced = Client(serving)
    traced.infer(matrix([1, 2, 3], id="r-1"), traceparent=PARENT)
    traced.refusal(matrix([1, 2], id="r-2"))
    traced.refusal(matrix([1, 2, 3]), x_request_id=b"\xff")

    def broken(*_, **__):
        raise PredictionFailed("broken")

    monkeypatch.setattr(serving.server.host.find("plane", None).batcher, "submit", broken)
    traced.refusal(matrix([1, 2, 3], id="r-3"), Code.INTERNAL)
    good, bad, no_id, failed = exporter.get_finished_spans()
    assert good.name == "inference.GRPCInferenceService/ModelInfer"
    assert format(good.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert dict(good.attributes) == {
        "rpc.system": "grpc", "rpc.grpc.status_code": 0, "ekiben.model": "plane", "ekiben.version": "1", "ekiben.request_id": "r-1",
    }  # fmt: skip
    assert [s.attributes["rpc.grpc.status_code"] for s in (bad, no_id, failed)] == [3, 3, 13]
    assert [s.status.status_code for s in (good, bad, no_id, failed)] == [StatusCode.UNSET] * 3 + [StatusCode.ERROR]
    assert (no_id.attributes["ekiben.version"], no_id.attributes["ekiben.request_id"]) == ("", "")


# streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_is_answered_in_its_order(client):
    requests = [matrix([n, 0, 0], id=str(n)) for n in range(200)]
    reply, answers = client.stream(requests)
    assert reply.code is Code.OK
    assert [a.infer_response.id for a in answers] == [str(n) for n in range(200)]
    assert [floats(a.infer_response.outputs[0], a.infer_response)[0] for a in answers] == [n + 0.5 for n in range(200)]
    assert not any(a.error_message for a in answers)


def test_an_error_answers_its_own_request_only(client):
    requests = [matrix([1, 2, 3], id="a"), matrix([1, 2], id="b"), matrix([1], model="ghost", id="c"), matrix([4, 5, 6], id="d")]
    reply, (a, b, c, d) = client.stream(requests)
    assert reply.code is Code.OK
    assert [x.infer_response.id for x in (a, b, c, d)] == ["a", "b", "c", "d"]
    assert floats(d.infer_response.outputs[0], d.infer_response) == [32.5]
    assert "not that of a matrix" in b.error_message
    assert not b.infer_response.outputs
    assert "no model 'ghost'" in c.error_message
    assert c.infer_response.model_name == "ghost"
    assert not a.error_message


def test_what_fails_unforeseen_answers_its_own_request_only(own, fail, caplog):
    fail(ZeroDivisionError())
    reply, (a, b) = own.stream([matrix([1, 2, 3], id="a"), matrix([1, 2], id="b")])
    assert reply.code is Code.OK
    assert a.error_message == "the server failed: ZeroDivisionError; its log says more"
    assert "matrix" in b.error_message


def test_the_empty_final_response_parameter(client):
    good, bad = matrix([1, 2, 3]), matrix([1, 2])
    for message in (good, bad):
        message.parameters["triton_enable_empty_final_response"].bool_param = True
    off = matrix([1, 2, 3])
    off.parameters["triton_enable_empty_final_response"].bool_param = False
    _, (a, b, c, d) = client.stream([good, bad, off, matrix([1, 2, 3])])
    assert [x.infer_response.parameters["triton_final_response"].bool_param for x in (a, b)] == [True, True]
    assert [list(x.infer_response.parameters) for x in (c, d)] == [["model_arm"], ["model_arm"]]


def test_an_empty_stream(client):
    reply, answers = client.stream([])
    assert (reply.code, answers) == (Code.OK, [])


def test_bytes_that_are_no_request_end_the_stream_after_what_came_before(client):
    good = framed(matrix([1, 2, 3], id="a").SerializeToString())
    reply = client.raw(STREAM, [part(good + framed(b"\xff") + good)])
    assert reply.code is Code.INVALID_ARGUMENT
    assert [pb.ModelStreamInferResponse.FromString(m).infer_response.id for m in reply.plain] == ["a"]
    reply = client.raw(STREAM, [part(good + good[:-1])])
    assert reply.code is Code.INVALID_ARGUMENT
    assert len(reply.messages) == 1


def test_a_request_of_a_stream_has_what_is_left_of_the_streams_time(own, serving, monkeypatch):
    seen = []
    original = serving.server.plane.admit

    def admit(model, version, *, received, timeout_ms, headers):
        seen.append((received, timeout_ms))
        return original(model, version, received=received, timeout_ms=timeout_ms, headers=headers)

    monkeypatch.setattr(serving.server.plane, "admit", admit)
    own.stream([matrix([1, 2, 3])] * 3, grpc_timeout=b"20S")
    (end, *others) = [received + timeout_ms / 1000 for received, timeout_ms in seen]
    assert others == pytest.approx([end] * 2, abs=1e-6)
    assert all(0 < timeout_ms <= 20_000 for _, timeout_ms in seen)
    _, (answer,) = own.stream([matrix([1, 2, 3])], grpc_timeout=b"0m")
    assert "deadline" in answer.error_message
    seen.clear()
    own.stream([matrix([1, 2, 3])])
    assert seen[0][1] is None


class Held:
    """The requests that the batcher of plane holds back, until they are let go."""

    def __init__(self, serving, monkeypatch):
        self.serving = serving
        self.futures = []
        self._let_go = []
        batcher = serving.server.host.find("plane", None).batcher
        submit = batcher.submit

        def held(payload, n, **times):
            future = asyncio.get_running_loop().create_future()
            self.futures.append(future)

            async def let_go():
                future.set_result(await submit(payload, n, **times))

            self._let_go.append(let_go)
            return future

        monkeypatch.setattr(batcher, "submit", held)

    async def let_go(self, index):
        await self._let_go[index]()


@pytest.fixture
def held(serving, monkeypatch) -> Held:
    return Held(serving, monkeypatch)


def streamed(held, conversation, events=()):
    """Runs ``conversation(wire, call)`` beside a stream."""

    async def both():
        wire = Wire(events)
        call = asyncio.create_task(called(held.serving.server.grpc.app, STREAM, wire, {}))
        try:
            await conversation(wire, call)
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        return wire

    return held.serving.thread.run(both())


async def settle():
    for _ in range(30):
        await asyncio.sleep(0)


def message(n, *, more=True):
    return part(framed(matrix([n, 0, 0], id=str(n)).SerializeToString()), more=more)


def test_many_are_worked_on_at_once_and_a_later_answer_waits_for_an_earlier(held):
    async def conversation(wire, call):
        for n in range(3):
            wire.give(message(n))
        await settle()
        assert len(held.futures) == 3
        await held.let_go(2)
        await held.let_go(1)
        await settle()
        assert wire.sent == []
        await held.let_go(0)
        await settle()
        assert len(wire.sent) == 4
        wire.give(part(b""))
        await call
        ids = [pb.ModelStreamInferResponse.FromString(m).infer_response.id for m in Reply(wire.sent).plain]
        assert ids == ["0", "1", "2"]

    streamed(held, conversation)


def test_a_client_that_sends_more_than_is_answered_is_read_no_further(held):
    async def conversation(wire, call):
        for n in range(3 * _IN_FLIGHT):
            wire.give(message(n))
        await asyncio.sleep(0.05)
        full = len(held.futures)
        assert _IN_FLIGHT <= full <= _IN_FLIGHT + 2
        assert wire.taken <= full + 1
        await held.let_go(0)
        await asyncio.sleep(0.05)
        assert len(held.futures) == full + 1

    streamed(held, conversation)


@pytest.mark.parametrize("n", [1, 5, 3 * _IN_FLIGHT])
def test_when_the_call_is_cancelled_so_is_all_that_it_worked_on(held, n):
    async def conversation(wire, call):
        for k in range(n):
            wire.give(message(k))
        await asyncio.sleep(0.05)
        assert held.futures
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await settle()
        assert all(f.cancelled() for f in held.futures)
        assert wire.sent == []

    before = _tasks(held)
    streamed(held, conversation)
    assert _tasks(held) == before


@pytest.mark.parametrize("answered", [0, 2])
def test_when_the_client_goes_away_what_it_asked_is_given_up(held, answered):
    async def conversation(wire, call):
        for n in range(5):
            wire.give(message(n))
        await settle()
        for n in range(answered):
            await held.let_go(n)
        await settle()
        wire.give(GONE)
        await call
        await settle()
        assert all(f.cancelled() for f in held.futures[answered:])
        assert len(wire.sent) == (answered + 1 if answered else 0)

    before = _tasks(held)
    streamed(held, conversation)
    assert _tasks(held) == before


def test_a_stream_ends_with_the_server_when_what_was_read_is_answered(held, serving):
    async def conversation(wire, call):
        for n in range(2):
            wire.give(part(framed(matrix([1, 2, 3], id=str(n)).SerializeToString()), more=True))
        await settle()
        serving.server.grpc.stop()
        await settle()
        assert not call.done()
        for n in range(2):
            await held.let_go(n)
        await asyncio.wait_for(call, 5)
        reply = Reply(wire.sent)
        assert [pb.ModelStreamInferResponse.FromString(m).infer_response.id for m in reply.plain] == ["0", "1"]
        assert reply.code is Code.UNAVAILABLE
        assert "stopping" in reply.message

    streamed(held, conversation)


def test_a_client_that_goes_away_from_an_idle_stream(held):
    async def conversation(wire, call):
        await settle()
        wire.give(GONE)
        await call
        assert wire.sent == []

    streamed(held, conversation)


def test_a_connection_that_breaks_while_an_answer_is_sent_gives_up_the_rest(held):
    async def both():
        wire = Wire([message(n) for n in range(3)])

        async def send(_):
            raise BrokenPipeError

        call = asyncio.create_task(held.serving.server.grpc.app(STREAM, {b"te": b"trailers"}, wire.receive, send))
        await settle()
        await held.let_go(0)
        await call
        await settle()
        assert [f.cancelled() for f in held.futures] == [False, True, True]

    held.serving.thread.run(both())


def _tasks(held) -> int:
    return held.serving.thread.call(lambda: len(asyncio.all_tasks()))
