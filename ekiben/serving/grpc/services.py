"""The gRPC services of one worker, put together."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ekiben.guards.gate import Gate
from ekiben.serving.access_log import AccessLog
from ekiben.serving.batch_run import Clock
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.grpc.app import GrpcApp, Streaming, Unary
from ekiben.serving.grpc.health import SERVICE as HEALTH
from ekiben.serving.grpc.health import Health
from ekiben.serving.grpc.inference import Inference
from ekiben.serving.grpc.management import Management
from ekiben.serving.grpc.reflection import Reflection
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.repository import Repository
from ekiben.serving.tracing import Tracer

INFERENCE = "inference.GRPCInferenceService"


class GrpcServices:
    """All services that the data port answers.

    Args:
        plane: The data plane.
        repository: Loads and unloads.
        gate: Lets calls in.
        clock: Monotonic seconds.
        access_log: Where answered requests are noted.
        tracer: Makes spans; None when no exporter is configured.
        max_message_bytes: Largest message.
        reads: Ends calls that take too long to come; None ends none.

    Attributes:
        app: The ASGI app.
    """

    def __init__(
        self,
        plane: DataPlane,
        repository: Repository,
        *,
        gate: Gate,
        clock: Clock,
        access_log: AccessLog,
        tracer: Tracer | None,
        max_message_bytes: int,
        reads: ReadClock | None = None,
    ) -> None:
        self._inference = Inference(plane, gate, clock=clock, access_log=access_log, tracer=tracer)
        parse = pb.ModelInferRequest.FromString
        methods = {
            f"/{INFERENCE}/ModelInfer": Unary(parse, self._inference.infer),
            f"/{INFERENCE}/ModelStreamInfer": Streaming(parse, self._inference.stream_infer),
            **Management(plane, repository, gate).methods(INFERENCE),
            **Health(plane, (INFERENCE,)).methods(),
            **Reflection((INFERENCE, HEALTH)).methods(),
        }
        self.app = GrpcApp(methods, clock=clock, max_message_bytes=max_message_bytes, reads=reads)

    def stop(self) -> None:
        """Ends the streams that are open."""
        self._inference.stop()

    def forget(self) -> None:
        """Lets go of versions that are not loaded any more; called after each swap."""
        self._inference.forget()
