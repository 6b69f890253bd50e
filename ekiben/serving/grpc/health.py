"""gRPC's standard health service: of the server, of the inference service, and of each model by its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from grpc_health.v1 import health_pb2 as pb

from ekiben.errors import NotReady, UnknownModel
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.grpc.app import Method, RpcContext, Streaming, Unary

SERVICE: Final = "grpc.health.v1.Health"
_LOOK_S: Final = 0.25
_RETRY_S: Final = 1.0
_Status: Final = pb.HealthCheckResponse.ServingStatus


class Health:
    """Answers the service's methods.

    Args:
        plane: What is asked.
        services: Names that stand for the server as a whole.
    """

    def __init__(self, plane: DataPlane, services: tuple[str, ...]) -> None:
        self._plane = plane
        self._services = ("", SERVICE, *services)

    def methods(self) -> dict[str, Method]:
        """``/service/Method`` → what answers it."""
        parse = pb.HealthCheckRequest.FromString
        return {f"/{SERVICE}/Check": Unary(parse, self.check), f"/{SERVICE}/Watch": Streaming(parse, self.watch)}

    async def check(self, request: Any, _: RpcContext) -> Any:
        """Check: SERVING or NOT_SERVING.

        Raises:
            UnknownModel: There is no such service.
        """
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            raise UnknownModel(f"there is no service or model {request.service!r} whose health could be told")
        return pb.HealthCheckResponse(status=status)

    async def watch(self, requests: AsyncIterator[Any], _: RpcContext) -> AsyncGenerator[Any, None]:
        """Watch: the status now, and again whenever it changes, until the client goes, or the server.

        Raises:
            NotReady: The server is stopping.
        """
        async for request in requests:
            last = None
            while True:
                status = self._status(request.service)
                if status != last:
                    last = status
                    yield pb.HealthCheckResponse(status=status)
                if self._plane.draining:
                    raise NotReady("the server is stopping", retry_after_s=_RETRY_S)
                await asyncio.sleep(_LOOK_S)

    def _status(self, service: str) -> int:
        if service in self._services:
            return int(_Status.NOT_SERVING if self._plane.not_ready() else _Status.SERVING)
        try:
            self._plane.host.find(service, None)
        except UnknownModel:
            return int(_Status.SERVICE_UNKNOWN)
        except NotReady:
            return int(_Status.NOT_SERVING)
        return int(_Status.NOT_SERVING if self._plane.draining else _Status.SERVING)
