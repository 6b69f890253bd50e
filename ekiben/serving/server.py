"""One worker's server: what is wired together, and its life from the first load to the last answer."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from ekiben.errors import EkibenError, RequestError, SettingError
from ekiben.guards.audit import AuditTrail
from ekiben.guards.auth import Authenticator
from ekiben.guards.gate import Gate, open_gate
from ekiben.guards.key_operations import ControlKeys
from ekiben.monitoring.check_gauges import CheckGauges
from ekiben.monitoring.inference_log import InferenceLog, log_folder
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Registry
from ekiben.rollout.experiment_operations import Experiments
from ekiben.rollout.opening import open_controller
from ekiben.rollout.operations import Operations
from ekiben.serving.access_log import AccessLog
from ekiben.serving.control_link import ControlLink
from ekiben.serving.control_view import LastKnown
from ekiben.serving.controller_thread import ControllerThread
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.grpc.services import GrpcServices
from ekiben.serving.host import Host
from ekiben.serving.listener import BothProtocols, Listener
from ekiben.serving.memory import THRESHOLD
from ekiben.serving.monitor_process import MonitorProcess
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.recorder import Recorder, worker_id
from ekiben.serving.repository import Repository
from ekiben.serving.rest.admin import Admin
from ekiben.serving.rest.admin_experiments import experiment_routes
from ekiben.serving.rest.admin_keys import key_routes
from ekiben.serving.rest.app import ASGIApp, Part, RestApp
from ekiben.serving.rest.codec import rows_payload
from ekiben.serving.rest.ground_truth import GroundTruth
from ekiben.serving.rest.platforms import PlatformRoutes
from ekiben.serving.tracing import Tracer
from ekiben.serving.worker_limits import WorkerLimits
from ekiben.settings import Settings
from ekiben.state import Control, memory_control

logger = logging.getLogger("ekiben.server")

SWITCH_INTERVAL_S = 0.00002
"""A run that ends in its thread needs the interpreter back: 5 ms, Python's default, is longer than most runs."""


def _silence_loggers() -> None:
    """Uvicorn formats a line for every answer as long as its logger has a handler, also when BentoML drops the line.

    The reader of forms logs every form that cannot be read, which its client is told.
    """
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


class Server:
    """A worker's data plane.

    Args:
        models: Names of the models to serve.
        settings: The settings in force.
        registry: Where versions are.
        control: The control database; None takes one that lives as long as the server, over the registry's aliases.
        metrics: This process's collectors.
        fallback: BentoML's app.
        listener: Makes what listens on the data port, of the app to answer there; None for no data port.
        tracer: Makes spans, or None.
        clock: Monotonic seconds.
        plans: The models folder, whose specs may hold plans of rollouts; None for none.

    Attributes:
        control: As given.
        host: The loaded versions.
        plane: Runs requests.
        recorder: Writes what happens to the control database.
        authenticator: Says who asks.
        gate: Lets requests in.
        app: The front, for BentoML's own port.
        data_app: The front and gRPC, for the data port.
        repository: Answers the model repository extension.
        limits: Has the worker replaced when it is beyond help; None where nothing would replace it. To be set before the start.
    """

    def __init__(
        self,
        models: list[str],
        *,
        settings: Settings,
        registry: Registry,
        control: Control | None = None,
        metrics: Metrics,
        fallback: ASGIApp,
        listener: Callable[[ASGIApp], Listener] | None = None,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
        plans: Path | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tracer = tracer
        self.limits: WorkerLimits | None = None
        self._log = AccessLog(settings.access_log_rate, lambda lines: os.write(sys.stdout.fileno(), lines))
        self.control = control if control is not None else memory_control(metrics.wall, aliases=registry.aliases, loads=registry.loads)
        self.host = Host(
            models,
            registry,
            self.control,
            metrics,
            link=ControlLink(metrics, metrics.wall),
            last_known=LastKnown(settings.home, self.control.name),
            providers=settings.onnx_providers,
            on_change=self._changed,
            log=InferenceLog(log_folder(settings), worker_id(), wall=metrics.wall) if settings.log else None,
            redis_url=settings.redis_url,
        )
        self.recorder = Recorder(self.host, self.control, metrics.wall)
        self.authenticator = Authenticator.of(settings, self.control, wall=metrics.wall, clock=clock)
        self.gate: Gate = open_gate(settings, self.authenticator, metrics.limits, folder=plans.parent if plans is not None else Path())
        self.plane = DataPlane(self.host, clock)
        self.repository = Repository(self.host, registry, allowed=settings.repository_api)
        self.app = RestApp(
            self.plane,
            fallback,
            gate=self.gate,
            platforms=PlatformRoutes(settings),
            models=self.repository,
            clock=clock,
            max_body_bytes=settings.max_body_bytes,
            access_log=self._log,
            tracer=tracer,
            parts=self._parts(registry, plans),
        )
        reads = ReadClock(settings.read_timeout_s, clock)
        limit = settings.max_body_bytes
        self.grpc = GrpcServices(
            self.plane, self.repository, gate=self.gate, clock=clock, access_log=self._log, tracer=tracer, max_message_bytes=limit,
            reads=reads,
        )  # fmt: skip
        self.data_app = BothProtocols(self.grpc.app, self.app, reads)
        self._controller = ControllerThread(open_controller(settings, self.control, registry, self.recorder.worker))
        gauges = CheckGauges(metrics.registry, self.control, champion=self._champion, models=models, wall=metrics.wall)
        self._gauges = ControllerThread(gauges, "ekiben-check-gauges")
        self._monitor = MonitorProcess(settings.home)
        self._listener = listener(self.data_app) if listener is not None else None

    def _parts(self, registry: Registry, plans: Path | None) -> list[Part]:
        """What answers beside inference: ground truth, and the admin API."""
        control, limit, wall = self.control, self._settings.max_body_bytes, self.host.metrics.wall
        experiments = experiment_routes(lambda who: Experiments(control, registry, who=who, wall=wall))
        admin = Admin(
            lambda who: Operations(control, registry, who=who, wall=wall, plan_folder=plans),
            self.authenticator,
            AuditTrail(control.events, wall=wall, clock=self._clock),
            more=[*experiments, *key_routes(lambda who: ControlKeys(control, who=who, wall=wall), control.events)],
            max_body_bytes=limit,
        )
        kept = self.host.metrics.kept_ground_truth
        return [
            GroundTruth(control.truths, lambda model: self.host.find(model, None).spec, max_body_bytes=limit, wall=wall, kept=kept),
            admin,
        ]

    def _champion(self, model: str) -> str | None:
        served = self.host.snapshot.default.get(model)
        return served.version if served is not None else None

    def _changed(self) -> None:
        self.app.rebuild_routes()
        self.grpc.forget()

    async def start(self) -> None:
        """Loads the models and begins to watch for changes and for SIGTERM.

        A model that cannot be loaded does not stop the others: the server runs, is not ready, and says which and why.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.set_threshold(THRESHOLD, *gc.get_threshold()[1:])
        _silence_loggers()
        self._log.start()
        try:
            await self.host.start()
        except EkibenError:
            logger.exception("the models cannot be loaded")
            raise
        await self.authenticator.start()
        self.recorder.start()
        if self._settings.controller:
            self._controller.start()
        self._gauges.start()
        if self._settings.monitor:
            self._monitor.start()
        await self._listen()
        for problem in self.plane.not_ready():
            logger.error("not ready: %s", problem)
        self._drain_on_sigterm()
        if self.limits is not None:
            self.limits.start()

    async def _listen(self) -> None:
        """Opens the data port. Without it the server runs and is not ready: what comes to the other port is answered."""
        if self._listener is None:
            return
        try:
            await self._listener.start()
        except SettingError as e:
            self.plane.problems.append(str(e))

    async def stop(self) -> None:
        """Answers what is queued and lets go of everything."""
        if self.limits is not None:
            self.limits.stop()
        if self._listener is not None:
            self.grpc.stop()
            await self._listener.stop()
        await asyncio.to_thread(self._controller.stop)
        await asyncio.to_thread(self._gauges.stop)
        await self._monitor.stop()
        await self.host.stop()
        await self.recorder.stop()
        await self.authenticator.stop()
        await self.gate.close()
        await self._log.stop()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.stop)

    async def predict(self, model: str, instances: list[Any]) -> list[dict[str, Any]]:
        """Predicts rows given as Python values, through the same data plane as every other request.

        Raises:
            RequestError: The rows cannot be answered.
        """
        call = self.plane.admit(model, None, received=self._clock(), timeout_ms=None)
        signature = call.served.predictor.signature
        try:
            payload = rows_payload(signature, signature.parse_rows(instances))
        except RequestError as e:
            raise self.plane.failed(call, e) from None
        self.plane.identify(call, self.plane.new_id(), payload)
        return (await self.plane.infer(call, payload)).rows()

    def _drain_on_sigterm(self) -> None:
        """On SIGTERM: not ready at once, answering on for ``EKIBEN_DRAIN_S``, then the stop that uvicorn would have begun.

        In between, every answer asks its client to close the connection, so that none is cut when the worker ends, and a
        load balancer has the time to see that the server is not ready. A second SIGTERM stops it at once.
        """
        loop = asyncio.get_running_loop()
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            return

        def begin(number: int, frame: FrameType | None) -> None:
            is_second, self.plane.draining = self.plane.draining, True
            if is_second or not self._settings.drain_s:
                stop(number, frame)
            else:
                loop.call_soon_threadsafe(loop.call_later, self._settings.drain_s, stop, number, None)

        try:
            signal.signal(signal.SIGTERM, begin)
        except ValueError:
            # Not the main thread: whoever embeds the server handles its own signals.
            logger.debug("SIGTERM is left to the embedding program")
