"""What ``bentoml build`` asks a service for, made when it asks: models, labels and the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ekiben import __version__
from ekiben.errors import EkibenError
from ekiben.registry.packing import Packed, choose
from ekiben.registry.store import Registry


class BentoParts:
    """The parts of a Bento that follow from the versions chosen for it.

    ``bentoml build --arg "versions=flight_delay:20261124-172141 digits@challenger"`` chooses them; without it each model is packed
    with its champion and its challenger. ``--arg base_image=IMAGE`` builds on another image with Python 3.11, ``--arg extras=monitor``
    one that can also check what was logged.

    Args:
        models: The models that the service serves.
        registry: Where their versions are.
        project: The folder that is built; its ``constraints.txt`` has the versions of packages.
    """

    def __init__(self, models: Sequence[str], registry: Registry, project: Path) -> None:
        self._served = models
        self._registry = registry
        self._project = project

    @cached_property
    def packed(self) -> Packed:
        """The versions chosen.

        Raises:
            RegistryError: One cannot be packed.
        """
        return choose(self._served, self._registry, str(_argument("versions") or "").split())

    @property
    def labels(self) -> dict[str, str]:
        """The Bento's labels; see `Packed.labels`."""
        return self.packed.labels

    @property
    def models(self) -> list[Any]:
        """The versions as BentoML's models; none where they cannot be packed, which `labels` says.

        ``bentoml build`` asks for the labels first. ``bentoml serve`` asks for the models too, and runs without: the server itself
        says which model has no version.
        """
        from bentoml.models import BentoModel  # noqa: PLC0415  takes a second

        try:
            return [BentoModel(tag) for tag in self.packed.tags]
        except EkibenError:
            return []

    @property
    def image(self) -> Any:
        """The image: see `ekiben.registry.image`.

        Raises:
            RegistryError: What it needs is not known.
        """
        from ekiben.registry.image import BASE_IMAGE, make_image  # noqa: PLC0415
        from ekiben.registry.requirements import pinned_requirements, read_pins  # noqa: PLC0415

        extras = str(_argument("extras") or "").split()
        requirements = pinned_requirements(self.packed.frameworks, read_pins(self._project / "constraints.txt"), extras=extras)
        base_image = str(_argument("base_image") or BASE_IMAGE)
        labels = {
            "org.opencontainers.image.title": "ekiben",
            "org.opencontainers.image.description": f"Models over REST and gRPC: {', '.join(self._served)}",
            "org.opencontainers.image.base.name": base_image,
            # SageMaker: several of these may share an endpoint, each told its port.
            "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
            "ekiben.version": __version__,
            "ekiben.models": " ".join(self.packed.tags),
        }
        return make_image(requirements, labels, base_image=base_image)


def _argument(name: str) -> Any:
    import bentoml  # noqa: PLC0415

    return getattr(bentoml.use_arguments(), name, None)
