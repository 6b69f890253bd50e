"""What is watched: the champion of each model and the versions on trial beside it, by the rules that are in force now."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ekiben.errors import ArtifactError, SpecError, StateError, VersionNotFound
from ekiben.model.artifact import Artifact
from ekiben.model.monitor_spec import LogSpec
from ekiben.model.spec import ModelSpec, load_spec
from ekiben.registry.store import Registry, Version
from ekiben.state.control import Control

logger = logging.getLogger("ekiben.monitor")


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is watched.

    Attributes:
        model, version: Which.
        artifact: Its files.
        spec: Its spec, with the ``monitor`` of the models folder where that has one.
        is_shadow: Whether its answers go nowhere.
    """

    model: str
    version: str
    artifact: Artifact
    spec: ModelSpec
    is_shadow: bool = False


class WatchedVersions:
    """Finds what is watched.

    Args:
        control: The control database.
        registry: The versions.
        folder: The models folder. What a ``<model>/model.yaml`` in it says of ``monitor`` is in force at once, without a new version;
            None looks into no folder.
    """

    def __init__(self, control: Control, registry: Registry, folder: Path | None) -> None:
        self._control = control
        self._registry = registry
        self._folder = folder
        self._said: dict[str, str] = {}
        self._log_specs: dict[str, LogSpec] = {}

    def models(self) -> list[str]:
        """All models that have a version."""
        return self._registry.models()

    def of(self, model: str) -> list[Watched]:
        """The champion of a model, first, and the versions on trial; none where it has no version.

        Raises:
            RegistryError: The store cannot be read.
            ArtifactError: The champion cannot be read.
            StateError: The control database does not answer.
        """
        try:
            champion = self._registry.resolve(model)  # the one that serves, also where nobody has named a champion
        except VersionNotFound:
            return []
        watched = [self._watched(champion, is_shadow=False)]
        route = self._control.routes.get(model)
        on_trial = {} if route is None else {s.version: True for s in route.shadows} | {a.version: False for a in route.arms}
        for version, is_shadow in sorted(on_trial.items()):
            if version == champion.version:
                continue
            try:
                watched.append(self._watched(self._registry.resolve(f"{model}:{version}"), is_shadow=is_shadow))
            except (VersionNotFound, ArtifactError) as e:
                self._say(model, str(e))
        return watched

    def log_spec(self, model: str) -> LogSpec | None:
        """What a model wants kept in its log: as its champion says; while the control database is away, as was known last.

        Returns:
            None of a model that is not in the store.

        Raises:
            RegistryError: The store cannot be read.
            ArtifactError: The version cannot be read.
        """
        try:
            self._log_specs[model] = self._registry.resolve(model).artifact().spec.log
        except VersionNotFound:
            self._log_specs.pop(model, None)
        except StateError:
            if model not in self._log_specs:
                self._log_specs[model] = self._registry.resolve(model, aliases={}).artifact().spec.log
        return self._log_specs.get(model)

    def _watched(self, version: Version, *, is_shadow: bool) -> Watched:
        artifact = version.artifact()
        spec = self._in_force(artifact.spec)
        return Watched(model=version.model, version=version.version, artifact=artifact, spec=spec, is_shadow=is_shadow)

    def _in_force(self, spec: ModelSpec) -> ModelSpec:
        """A version's spec, with the monitor of the models folder."""
        file = None if self._folder is None else self._folder / spec.name / "model.yaml"
        if file is None or not file.is_file():
            return spec
        try:
            monitor = load_spec(file).monitor
        except SpecError as e:
            self._say(spec.name, f"{e}; until it is mended, what {spec.name} was registered with holds")
            return spec
        known = {item.name for item in spec.inputs}
        # The folder may be ahead of the version: an input that it has not cannot be looked at.
        drift = msgspec.structs.replace(monitor.drift, ignore=tuple(name for name in monitor.drift.ignore if name in known))
        segments = tuple(name for name in monitor.segments if name in known)
        return msgspec.structs.replace(spec, monitor=msgspec.structs.replace(monitor, drift=drift, segments=segments))

    def _say(self, model: str, problem: str) -> None:
        if self._said.get(model) != problem:
            self._said[model] = problem
            logger.warning("%s: %s", model, problem)
