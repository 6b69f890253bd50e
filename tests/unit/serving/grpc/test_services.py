import pytest
from google.protobuf import descriptor_pool
from unit.serving.grpc.calling import SERVICE, framed, part

from ekiben.serving.grpc.status import Code

INFERENCE = descriptor_pool.Default().FindServiceByName("inference.GRPCInferenceService")
ELSEWHERE = {
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister",
    "TraceSetting", "LogSettings",
}  # fmt: skip


@pytest.mark.parametrize("method", sorted(m.name for m in INFERENCE.methods))
def test_each_method_of_the_service_answers_or_is_unimplemented(client, method):
    reply = client.raw(SERVICE + method, [part(framed(b""))])
    assert (reply.code is Code.UNIMPLEMENTED) == (method in ELSEWHERE), reply.message
    if method in ELSEWHERE:
        assert reply.message == f"there is no method {SERVICE}{method}"


def test_streaming_is_as_the_service_says(client):
    """Only a method that takes one message refuses a second."""
    for method in INFERENCE.methods:
        reply = client.raw(SERVICE + method.name, [part(framed(b"") * 2)])
        has_refused = reply.code is Code.UNIMPLEMENTED
        assert has_refused == (not method.client_streaming), method.name
