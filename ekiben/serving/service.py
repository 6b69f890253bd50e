"""`build_service`: a BentoML service with Ekiben's data plane in front. Everything a worker runs is wired here."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from _bentoml_sdk import Service

from ekiben.errors import EkibenError
from ekiben.guards.client_address import TrustedProxies, believe_no_peer
from ekiben.guards.counts_opening import open_counts
from ekiben.guards.limits_file import limits_everywhere
from ekiben.model.spec import ModelSpec, load_spec
from ekiben.registry import Registry, open_registry
from ekiben.registry.bento_parts import BentoParts
from ekiben.serving.typed_api import make_service_class
from ekiben.settings import Settings, load_settings
from ekiben.state import Control
from ekiben.state.opening import open_control

logger = logging.getLogger("ekiben.service")

SERVICE_NAME = "ekiben"


def build_service(models: str | Path) -> EkibenService:
    """Makes the service that ``bentoml serve`` loads.

    Args:
        models: The models folder, beside the file that calls this. Each folder in it with a ``model.yaml`` is a model to
            serve; which version answers is its champion in the model store.

    Raises:
        SettingError: An ``EKIBEN_*`` variable cannot be used.
        SpecError: ``limits.yaml`` says what cannot be.
    """
    settings = load_settings()
    caller = sys._getframe(1).f_globals  # noqa: SLF001  BentoML finds a service by the module that assigns it
    folder = Path(caller.get("__file__") or ".").absolute().parent / models
    _check_limits(settings, folder.parent)
    names = sorted(path.parent.name for path in folder.glob("*/model.yaml"))
    control = open_control(settings)
    registry = open_registry(settings, folder.parent, control)
    specs = [spec for name in names if (spec := _spec_of(name, folder, registry)) is not None]
    service = EkibenService(
        name=SERVICE_NAME,
        config={"workers": settings.workers, "traffic": {"timeout": 3600}},
        inner=make_service_class(specs),
    )
    parts = BentoParts(names, registry, folder.parent)
    service.configure(names, settings, control=control, registry=registry, caller=caller["__name__"], folder=folder, parts=parts)
    return service


def _check_limits(settings: Settings, folder: Path) -> None:
    """Tells what cannot be before there are workers, which would be started again and again."""
    limits_everywhere(settings, folder)
    open_counts(settings)  # opens nothing by itself
    TrustedProxies.parse(settings.trusted_proxies)


def _spec_of(name: str, folder: Path, registry: Registry) -> ModelSpec | None:
    """What the typed endpoint shows: the spec of the version that answers, else the folder's."""
    try:
        return registry.resolve(name).artifact().spec
    except EkibenError:
        pass
    try:
        return load_spec(folder / name / "model.yaml")
    except EkibenError as e:
        logger.warning("%s: no typed endpoint: %s", name, e)
        return None


class EkibenService(Service):  # type: ignore[misc]  # BentoML ships no types
    """A BentoML service whose ASGI app has the data plane in front.

    Attributes:
        server: This worker's server; there once `to_asgi` was called.
    """

    def configure(
        self, models: list[str], settings: Settings, *, control: Control, registry: Registry, caller: str, folder: Path, parts: BentoParts
    ) -> None:
        """Takes what the workers need. BentoML decides the constructor's arguments."""
        self._models = models
        self._settings = settings
        self._control = control
        self._registry = registry
        self._folder = folder
        self._caller_module = caller
        self._parts = parts
        self.server: Any = None

    # What `bentoml build` asks for and nothing else, made when it asks: serving needs no version to be packable. BentoML's
    # constructor sets these fields to what it was given, which is nothing.

    @property
    def image(self) -> Any:
        """The Bento's image."""
        return self._parts.image

    @image.setter
    def image(self, _: Any) -> None: ...

    @property
    def labels(self) -> dict[str, str]:
        """The Bento's labels."""
        return self._parts.labels

    @labels.setter
    def labels(self, _: Any) -> None: ...

    @property
    def models(self) -> list[Any]:
        """The Bento's models."""
        return self._parts.models

    @models.setter
    def models(self, _: Any) -> None: ...

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: FBT001, FBT002  BentoML's signature
        """The worker's app: the data plane, and BentoML's app behind it."""
        # NOTE: these import prometheus_client, which must see the directory that BentoML sets for its workers.
        import prometheus_client  # noqa: PLC0415
        from bentoml._internal.configuration.containers import BentoMLContainer  # noqa: PLC0415

        from ekiben.monitoring.metrics import Metrics  # noqa: PLC0415
        from ekiben.monitoring.workers import forget_dead_workers  # noqa: PLC0415
        from ekiben.serving.http_protocol import guard_uvicorn  # noqa: PLC0415
        from ekiben.serving.listener import Listener  # noqa: PLC0415
        from ekiben.serving.server import Server  # noqa: PLC0415
        from ekiben.serving.tracing import make_tracer  # noqa: PLC0415
        from ekiben.serving.worker_limits import WorkerLimits  # noqa: PLC0415

        fallback = super().to_asgi(is_main)
        guard_uvicorn(self._settings.read_timeout_s)
        believe_no_peer(os.environ, trusted=TrustedProxies.parse(self._settings.trusted_proxies))
        if shared := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # BentoML's way to tell its workers
            forget_dead_workers(Path(shared))
        has_exporter = BentoMLContainer.tracing.exporter_type.get() is not None
        self.server = Server(
            self._models,
            settings=self._settings,
            registry=self._registry,
            control=self._control,
            metrics=Metrics(prometheus_client.REGISTRY),
            fallback=fallback,
            listener=partial(Listener, settings=self._settings),
            plans=self._folder,
            tracer=make_tracer(os.environ, BentoMLContainer.tracer_provider.get() if has_exporter else None),
        )
        self.server.limits = WorkerLimits(hang_s=self._settings.hang_s, max_mb=self._settings.worker_max_mb)
        return self.server.app
