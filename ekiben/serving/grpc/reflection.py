"""gRPC's server reflection, by which grpcurl and its like need no ``.proto`` files; in its versions v1 and v1alpha.

The two differ in their package's name alone; v1's own file is made of v1alpha's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb

from ekiben.serving.grpc.app import Method, RpcContext, Streaming
from ekiben.serving.grpc.status import Code

V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
V1: Final = "grpc.reflection.v1.ServerReflection"
_V1_FILE: Final = "grpc/reflection/v1/reflection.proto"


class Reflection:
    """Answers the service's method.

    Args:
        services: Names of the services to tell of; their files are in protobuf's default pool.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = sorted((*services, V1, V1ALPHA))
        self._v1 = descriptor_pool.DescriptorPool()
        self._v1.Add(_as_v1(pb.DESCRIPTOR))
        self._pools = (descriptor_pool.Default(), self._v1)

    def methods(self) -> dict[str, Method]:
        """``/service/Method`` → what answers it."""
        method = Streaming(pb.ServerReflectionRequest.FromString, self.info)
        return {f"/{name}/ServerReflectionInfo": method for name in (V1, V1ALPHA)}

    async def info(self, requests: AsyncIterator[Any], _: RpcContext) -> AsyncGenerator[Any, None]:
        """ServerReflectionInfo: answers questions for as long as they come."""
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        question = request.WhichOneof("message_request")
        if question == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
            return response
        files: list[FileDescriptor] | None = None
        if question == "file_by_filename":
            files = self._find(lambda pool: pool.FindFileByName(request.file_by_filename))
        elif question == "file_containing_symbol":
            symbol = request.file_containing_symbol
            files = self._find(lambda pool: pool.FindFileContainingSymbol(symbol)) or self._find(lambda pool: _file_of_method(pool, symbol))
        if files is None:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = f"there is nothing here for {question or 'an empty question'}"
        else:
            response.file_descriptor_response.file_descriptor_proto.extend(f.serialized_pb for f in files)
        return response

    def _find(self, look: Callable[[Any], FileDescriptor]) -> list[FileDescriptor] | None:
        """The file looked for, and all that it needs, each once."""
        for pool in self._pools:
            try:
                found = look(pool)
            except KeyError:
                continue
            files = [found]
            for file in files:
                files += [needed for needed in file.dependencies if needed not in files]
            return files
        return None


def _file_of_method(pool: Any, name: str) -> FileDescriptor:
    """The file of ``package.Service.Method``, which pools do not look up.

    Raises:
        KeyError: There is no such method.
    """
    service, _, method = name.rpartition(".")
    return pool.FindServiceByName(service).methods_by_name[method].containing_service.file  # type: ignore[no-any-return]


def _as_v1(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
    old, new = f".{proto.package}.", ".grpc.reflection.v1."
    proto.name, proto.package = _V1_FILE, new.strip(".")
    for message in proto.message_type:
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(old, new)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return proto
