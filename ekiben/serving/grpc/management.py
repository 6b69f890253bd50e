"""Everything of ``inference.GRPCInferenceService`` but inference: health, metadata, configuration, statistics, the repository.

The answers are those of the REST front, put into the protocol's messages. What is not here (shared memory, trace and log
settings) is UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from ekiben.errors import NotReady, UnknownModel
from ekiben.guards.gate import Gate
from ekiben.guards.principal import ADMIN, READ
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.description import model_metadata, server_metadata
from ekiben.serving.grpc.app import Method, RpcContext, Unary
from ekiben.serving.model_config import model_config
from ekiben.serving.repository import Repository
from ekiben.serving.statistics import statistics

Answer = Callable[[Any, RpcContext], Awaitable[Any]]

_HEALTH = ("ServerLive", "ServerReady", "ModelReady")
_CHANGES = ("RepositoryModelLoad", "RepositoryModelUnload")


class Management:
    """Answers the service's methods.

    Args:
        plane: The data plane.
        repository: Loads and unloads.
        gate: Lets calls in. Health is for everybody; loading, where predicting is open, for whoever its own setting lets.
    """

    def __init__(self, plane: DataPlane, repository: Repository, gate: Gate) -> None:
        self._plane = plane
        self._repository = repository
        self._gate = gate

    def methods(self, service: str) -> dict[str, Method]:
        """``/service/Method`` → what answers it."""
        answers = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_load,
            "RepositoryModelUnload": self.repository_unload,
        }
        return {
            f"/{service}/{name}": Unary(getattr(pb, f"{name}Request").FromString, self._guarded(name, answer))
            for name, answer in answers.items()
        }

    def _guarded(self, name: str, answer: Answer) -> Answer:
        """A method, for those who may ask it."""
        scope = ADMIN if name in _CHANGES else READ
        if name in _HEALTH or (scope == ADMIN and self._gate.is_open):
            return answer

        async def let_in(request: Any, context: RpcContext) -> Any:
            await self._gate.enter(scope, None, context.headers, context.peer)
            return await answer(request, context)

        return let_in

    async def server_live(self, _: Any, __: RpcContext) -> Any:
        """ServerLive."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: RpcContext) -> Any:
        """ServerReady."""
        return pb.ServerReadyResponse(ready=not self._plane.not_ready())

    async def model_ready(self, request: Any, _: RpcContext) -> Any:
        """ModelReady; false too for a model that nobody knows, which may come to be."""
        try:
            self._plane.host.find(request.name, request.version or None)
        except (UnknownModel, NotReady):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._plane.draining)

    async def server_metadata(self, _: Any, __: RpcContext) -> Any:
        """ServerMetadata."""
        return pb.ServerMetadataResponse(**server_metadata())

    async def model_metadata(self, request: Any, _: RpcContext) -> Any:
        """ModelMetadata."""
        host = self._plane.host
        return pb.ModelMetadataResponse(**model_metadata(host, host.find(request.name, request.version or None)))

    async def model_config(self, request: Any, _: RpcContext) -> Any:
        """ModelConfig."""
        config = model_config(self._plane.host.find(request.name, request.version or None))
        return json_format.ParseDict({"config": config}, pb.ModelConfigResponse())

    async def model_statistics(self, request: Any, _: RpcContext) -> Any:
        """ModelStatistics; of all models where none is named."""
        found = await statistics(self._plane.host, request.name or None, request.version or None)
        return pb.ModelStatisticsResponse(model_stats=found)

    async def repository_index(self, request: Any, _: RpcContext) -> Any:
        """RepositoryIndex."""
        return pb.RepositoryIndexResponse(models=await self._repository.index(ready_only=request.ready))

    async def repository_load(self, request: Any, _: RpcContext) -> Any:
        """RepositoryModelLoad."""
        await self._repository.load(request.model_name, _plain(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def repository_unload(self, request: Any, _: RpcContext) -> Any:
        """RepositoryModelUnload."""
        await self._repository.unload(request.model_name, _plain(request.parameters))
        return pb.RepositoryModelUnloadResponse()


def _plain(parameters: Any) -> dict[str, Any]:
    """Parameters as Python values."""
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "string_param") for name, value in parameters.items()}
