import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2 as pb
from unit.serving.grpc.calling import framed, part

from ekiben.serving.grpc.status import Code

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
]


@pytest.fixture(params=["v1", "v1alpha"])
def ask(request, client):
    """Asks questions on one stream, in both versions of the protocol, whose messages are the same."""

    def asked(*questions):
        stream = b"".join(framed(q.SerializeToString()) for q in questions)
        reply = client.raw(f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo", [part(stream)])
        assert reply.code is Code.OK
        answers = [pb.ServerReflectionResponse.FromString(m) for m in reply.plain]
        assert [a.original_request for a in answers] == list(questions)
        return answers

    return asked


def files_of(answer):
    """The files of an answer, which a pool takes: all that they need is there, in an order that works for it."""
    protos = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in answer.file_descriptor_response.file_descriptor_proto]
    assert len({p.name for p in protos}) == len(protos)
    pool = descriptor_pool.DescriptorPool()
    for proto in reversed(protos):
        pool.Add(proto)
    return protos, pool


def test_the_services(ask):
    (answer,) = ask(pb.ServerReflectionRequest(host="h", list_services="*"))
    assert answer.valid_host == "h"
    assert [s.name for s in answer.list_services_response.service] == SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_found_and_its_files_are_whole(ask, service):
    (answer,) = ask(pb.ServerReflectionRequest(file_containing_symbol=service))
    protos, pool = files_of(answer)
    found = pool.FindServiceByName(service)
    assert found.file.name == protos[0].name
    assert found.methods
    for method in found.methods:
        assert method.input_type.full_name.startswith(found.file.package)
        assert method.output_type.full_name.startswith(found.file.package)


def test_a_file_comes_with_what_it_needs(ask):
    (answer,) = ask(pb.ServerReflectionRequest(file_by_filename="grpc_service.proto"))
    protos, pool = files_of(answer)
    assert protos[0].name == "grpc_service.proto"
    assert {d for p in protos for d in p.dependency} <= {p.name for p in protos}
    assert pool.FindMessageTypeByName("inference.ModelInferRequest").fields_by_name["raw_input_contents"].number == 7


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("inference.ModelInferRequest", "grpc_service.proto"),
        ("inference.ModelInferRequest.InferInputTensor", "grpc_service.proto"),
        ("inference.GRPCInferenceService.ModelInfer", "grpc_service.proto"),
        ("inference.DataType", "model_config.proto"),
        ("grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc_health/v1/health.proto"),
        ("grpc.reflection.v1.ServerReflectionRequest", "grpc/reflection/v1/reflection.proto"),
        ("grpc.reflection.v1.ServerReflection.ServerReflectionInfo", "grpc/reflection/v1/reflection.proto"),
    ],
)
def test_symbols(ask, symbol, file):
    (answer,) = ask(pb.ServerReflectionRequest(file_containing_symbol=symbol))
    protos, _ = files_of(answer)
    assert protos[0].name == file


def test_v1_is_v1alpha_by_another_name(ask):
    (answer,) = ask(pb.ServerReflectionRequest(file_by_filename="grpc/reflection/v1/reflection.proto"))
    ((proto,), pool) = files_of(answer)
    assert b"v1alpha" not in proto.SerializePartialToString()
    service = pool.FindServiceByName("grpc.reflection.v1.ServerReflection")
    method = service.methods_by_name["ServerReflectionInfo"]
    assert method.client_streaming
    assert method.server_streaming
    assert [f.name for f in method.input_type.fields] == [f.name for f in pb.ServerReflectionRequest.DESCRIPTOR.fields]


@pytest.mark.parametrize(
    "question",
    [
        pb.ServerReflectionRequest(file_by_filename="nothing.proto"),
        pb.ServerReflectionRequest(file_by_filename=""),
        pb.ServerReflectionRequest(file_containing_symbol="inference.Nothing"),
        pb.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService.Nothing"),
        pb.ServerReflectionRequest(file_containing_symbol=""),
        pb.ServerReflectionRequest(file_containing_symbol="é..\n"),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="inference.ModelInferRequest"),
        pb.ServerReflectionRequest(file_containing_extension=pb.ExtensionRequest(containing_type="x", extension_number=1)),
        pb.ServerReflectionRequest(),
    ],
    ids=str,
)
def test_what_is_not_there_is_an_answer_and_the_stream_goes_on(ask, question):
    answer, after = ask(question, pb.ServerReflectionRequest(list_services=""))
    assert answer.error_response.error_code == Code.NOT_FOUND
    assert answer.error_response.error_message
    assert after.list_services_response.service
