"""grpcio with plain stubs, its health and reflection services' clients, and what they need of HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from integration.clients.pantry import tiny_probabilities
from integration.clients.tensors import columns, feeds_of, tiny_rows
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

pytestmark = pytest.mark.processes

SERVICE = "inference.GRPCInferenceService"
ROWS = tiny_rows(5)
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture
def address(server) -> str:
    return f"127.0.0.1:{server.data_port}"


@pytest.fixture
def channel(address):
    with grpc.insecure_channel(address) as made:
        yield made


@pytest.fixture
def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def typed(model: str, arrays, datatypes, **fields) -> pb.ModelInferRequest:
    """A request whose tensors are in typed contents; datatypes: input → (datatype, field)."""
    request = pb.ModelInferRequest(model_name=model, **fields)
    for name, array in arrays.items():
        datatype, field = datatypes[name]
        item = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        values = [v.encode() for v in array.reshape(-1)] if datatype == "BYTES" else array.reshape(-1).tolist()
        getattr(item.contents, field).extend(values)
    return request


def tiny_request(rows: np.ndarray = ROWS, **fields) -> pb.ModelInferRequest:
    return typed("tiny", columns(rows), dict.fromkeys("abcd", ("FP32", "fp32_contents")), **fields)


def raw(model: str, **arrays: tuple[str, np.ndarray]) -> pb.ModelInferRequest:
    """A request whose tensors are in raw_input_contents; arrays: input → (datatype, array)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, (datatype, array) in arrays.items():
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def spin_request(turns: int) -> pb.ModelInferRequest:
    return raw("spin", turns=("INT64", np.array([[turns]])))


def probabilities(response) -> np.ndarray:
    output = next(o for o in response.outputs if o.name == "probabilities")
    return np.array(output.contents.fp32_contents).reshape(output.shape)


def code_of(ask, *args, **kw) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        ask(*args, **kw)
    return refused.value.code()


def test_typed_contents_are_answered_in_typed_contents(stub):
    response = stub.ModelInfer(tiny_request(id="mine"))

    assert response.id == "mine"
    assert not response.raw_output_contents
    np.testing.assert_allclose(probabilities(response), tiny_probabilities(ROWS), rtol=1e-5)
    prediction = response.outputs[0]
    assert (prediction.name, prediction.datatype) == ("prediction", "BYTES")
    assert list(prediction.contents.bytes_contents) == [[b"no", b"yes"][p] for p in tiny_probabilities(ROWS).argmax(axis=1)]


def test_raw_contents_are_answered_in_raw_contents(stub):
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)

    response = stub.ModelInfer(raw("image", image=("FP32", values)))

    assert [o.name for o in response.outputs] == ["doubled", "total"]
    assert all(not o.HasField("contents") for o in response.outputs)
    doubled, total = response.raw_output_contents
    assert np.frombuffer(doubled, np.float32).reshape(response.outputs[0].shape).tolist() == (2 * values).tolist()
    assert np.frombuffer(total, np.float32).tolist() == [15, 51]


def test_every_datatype_that_has_typed_contents(stub):
    of_type = {
        "BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
        "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
        "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    }  # fmt: skip
    names = {"FLOAT": "FP32", "DOUBLE": "FP64", "STRING": "BYTES", "FLOAT16": "FP16"}
    feeds = feeds_of("all_types", 3)
    datatypes = {name: names.get(name[3:], name[3:]) for name in feeds}
    fields = {name: (datatype, of_type.get(datatype, "")) for name, datatype in datatypes.items()}
    half = feeds.pop("in_FLOAT16")  # which has no typed contents: FP32 stands for it
    request = typed("all_types", feeds, fields)
    request.inputs.add(name="in_FLOAT16", datatype="FP32", shape=half.shape).contents.fp32_contents.extend(half.reshape(-1).tolist())
    for name in feeds:
        request.outputs.add(name=name.replace("in_", "out_"))

    response = stub.ModelInfer(request)

    for (name, array), output in zip(feeds.items(), response.outputs, strict=True):
        datatype, field = fields[name]
        assert (output.name, output.datatype, list(output.shape)) == (name.replace("in_", "out_"), datatype, [3, 4])
        found = list(getattr(output.contents, field))
        expected = np.concatenate([array, array], axis=1).reshape(-1).tolist()
        assert ([v.decode() for v in found] if datatype == "BYTES" else found) == expected
    # An answer that has FP16 among it goes in bytes, all of it.
    del request.outputs[:]
    assert len(stub.ModelInfer(request).raw_output_contents) == 13


def test_both_kinds_of_contents_at_once_are_refused(stub):
    request = tiny_request()
    request.raw_input_contents.append(b"")

    assert code_of(stub.ModelInfer, request) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compression_of_the_call_and_its_answer(stub, algorithm):
    rows = tiny_rows(400)

    response, call = stub.ModelInfer.with_call(tiny_request(rows), compression=algorithm)

    np.testing.assert_allclose(probabilities(response), tiny_probabilities(rows), rtol=1e-5)
    sent = dict(call.initial_metadata())
    assert "gzip" in sent.get("grpc-accept-encoding", "gzip")  # grpcio keeps what is gRPC's own to itself


def test_the_request_id_is_the_messages_or_the_metadatas_or_made(stub):
    metadata = [("x-request-id", "from-metadata"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]

    assert stub.ModelInfer(tiny_request(id="own"), metadata=metadata).id == "own"
    assert stub.ModelInfer(tiny_request(), metadata=metadata).id == "from-metadata"
    made = {stub.ModelInfer(tiny_request()).id for _ in range(5)}
    assert len(made) == 5


def test_deadlines(stub):
    assert code_of(stub.ModelInfer, spin_request(1500), timeout=0.1) == grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.ModelInfer(spin_request(1), timeout=30).raw_output_contents[0] == np.int64(1).tobytes()


def test_large_messages_and_one_that_is_too_large(address):
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for rows in (200_000, 400_000):  # 4.8 and 9.6 MB, twice as much back
            values = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
            answer = stub.ModelInfer(raw("image", image=("FP32", values)), timeout=60)
            assert np.frombuffer(answer.raw_output_contents[0], np.float32)[-1] == 2 * values[-1, -1, -1]
        too_large = raw("image", image=("FP32", np.zeros((720_000, 2, 3), np.float32)))
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(too_large, compression=compression, timeout=60)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "EKIBEN_MAX_BODY_BYTES" in refused.value.details()
        assert stub.ServerLive(pb.ServerLiveRequest()).live


def test_what_no_method_takes(channel, stub):
    ask = channel.unary_unary(f"/{SERVICE}/NoSuchMethod")
    assert code_of(ask, b"") == grpc.StatusCode.UNIMPLEMENTED
    assert code_of(channel.unary_unary("/no.Such/Service"), b"") == grpc.StatusCode.UNIMPLEMENTED
    assert code_of(channel.unary_unary(f"/{SERVICE}/ModelInfer"), b"\xff\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(channel.stream_unary(f"/{SERVICE}/ServerLive"), iter([b"", b""])) == grpc.StatusCode.UNIMPLEMENTED
    assert code_of(stub.TraceSetting, pb.TraceSettingRequest()) == grpc.StatusCode.UNIMPLEMENTED
    assert code_of(stub.LogSettings, pb.LogSettingsRequest()) == grpc.StatusCode.UNIMPLEMENTED


def test_details_may_hold_any_character(stub):
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(pb.ModelInferRequest(model_name="駅弁 100 %"))

    assert "駅弁 100 %" in refused.value.details()


def test_keepalive_pings_are_answered(address):
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        states: list[grpc.ChannelConnectivity] = []
        stub.ServerLive(pb.ServerLiveRequest(), wait_for_ready=True)
        channel.subscribe(states.append)
        time.sleep(4.5)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states
        assert states[-1] == grpc.ChannelConnectivity.READY


def test_many_channels_reach_every_worker(server, address):
    """Each its own connection; the kernel gives them to the workers."""
    with contextlib.ExitStack() as stack:
        stubs = []
        for _ in range(32):
            channel = stack.enter_context(grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]))
            stubs.append(service_pb2_grpc.GRPCInferenceServiceStub(channel))
        pending = [stub.ModelInfer.future(tiny_request(tiny_rows(1, n))) for n, stub in enumerate(stubs * 4)]
        answers = [call.result(timeout=30) for call in pending]
    for n, answer in enumerate(answers):
        np.testing.assert_allclose(probabilities(answer), tiny_probabilities(tiny_rows(1, n)), rtol=1e-5)
    # A made id begins with what its worker drew.
    assert len({answer.id.partition("-")[0] for answer in answers}) == len(server.workers()) == 2


def test_the_asyncio_stubs(address):
    async def ask():
        async with grpc.aio.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answers = await asyncio.gather(*(stub.ModelInfer(tiny_request(tiny_rows(1, n))) for n in range(200)))
            for n, answer in enumerate(answers):
                np.testing.assert_allclose(probabilities(answer), tiny_probabilities(tiny_rows(1, n)), rtol=1e-5)
            call = stub.ModelStreamInfer()
            for n in range(50):
                await call.write(tiny_request(tiny_rows(1, n), id=str(n)))
            await call.done_writing()
            assert [answer.infer_response.id async for answer in call] == [str(n) for n in range(50)]
            assert await call.code() == grpc.StatusCode.OK
            cancelled = stub.ModelInfer(spin_request(1500))
            await asyncio.sleep(0.05)
            assert cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled

    asyncio.run(ask())


def test_a_stream_is_answered_before_it_ends(stub):
    asking = threading.Event()

    def requests():
        yield tiny_request(id="first")
        assert asking.wait(30)
        yield tiny_request(id="second")

    answers = stub.ModelStreamInfer(requests())
    assert next(answers).infer_response.id == "first"
    asking.set()
    assert next(answers).infer_response.id == "second"
    assert list(answers) == []


def test_health_check(channel):
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", SERVICE, "grpc.health.v1.Health", "tiny"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == serving
    assert code_of(health.Check, health_pb2.HealthCheckRequest(service="ghost")) == grpc.StatusCode.NOT_FOUND


def test_health_watch(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service, status in (("", "SERVING"), ("tiny", "SERVING"), ("ghost", "SERVICE_UNKNOWN")):
        watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
        assert health_pb2.HealthCheckResponse.ServingStatus.Name(next(watch).status) == status
        watch.cancel()


def test_a_call_made_of_nothing_but_what_reflection_tells(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {SERVICE, "grpc.health.v1.Health"}
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
    request = message_factory.GetMessageClass(method.input_type)(model_name="texts", id="dynamic")
    answer_class = message_factory.GetMessageClass(method.output_type)
    for name in "ab":
        request.inputs.add(name=name, datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"x" + name.encode())
    ask = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer_class.FromString,
    )

    answer = ask(request)

    assert (answer.id, answer.outputs[0].contents.bytes_contents[0]) == ("dynamic", b"xaxb")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_in_both_its_versions(channel, version):
    """v1 has no stubs in grpcio-reflection; its messages are those of v1alpha, its path is its own."""
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    symbols = [SERVICE, "inference.ModelInferRequest", f"grpc.reflection.{version}.ServerReflection", "no.Such"]
    questions = [reflection_pb2.ServerReflectionRequest(list_services="*")]
    questions += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]

    listed, *found, missing = ask(iter(questions))

    assert f"grpc.reflection.{version}.ServerReflection" in {s.name for s in listed.list_services_response.service}
    for symbol, answer in zip(symbols, found, strict=False):
        files = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in answer.file_descriptor_response.file_descriptor_proto]
        defined = set(itertools.chain.from_iterable((s.name for s in (*f.service, *f.message_type)) for f in files))
        assert symbol.rpartition(".")[2] in defined
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_stub_of_reflection_answers_by_filename(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(file_by_filename="grpc_service.proto")]))

    names = {descriptor_pb2.FileDescriptorProto.FromString(f).name for f in answer.file_descriptor_response.file_descriptor_proto}
    assert {"grpc_service.proto", "model_config.proto"} <= names
