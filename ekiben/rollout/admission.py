"""What may stand for trial: the version that is meant, whether it fits the champion, and the plan it goes by."""

from __future__ import annotations

from pathlib import Path

from ekiben.errors import ArtifactError, RolloutRefused, SpecError, VersionNotFound
from ekiben.model.rollout_spec import PlanSpec
from ekiben.model.spec import load_spec
from ekiben.registry.reference import parse_reference
from ekiben.registry.store import Registry, Version
from ekiben.rollout.fitting import check_fit
from ekiben.rollout.plan import check_plan, plan_of, whole_plan


class Admission:
    """Finds versions and plans, and refuses what cannot be.

    Args:
        registry: The versions.
        plan_folder: The models folder, whose ``<model>/model.yaml`` may hold the plan; None looks into no folder.
    """

    def __init__(self, registry: Registry, plan_folder: Path | None) -> None:
        self._registry = registry
        self._plan_folder = plan_folder

    def version(self, model: str, to: str | None) -> Version:
        """A version of a model.

        Args:
            model: The model.
            to: A version, ``latest``, an alias, or one of these behind ``model:``; None means the champion.

        Raises:
            RolloutRefused: There is none, or it cannot be read.
        """
        reference = model if to is None else to if ":" in to or "@" in to else f"{model}:{to}"
        if parse_reference(reference).model != model:
            raise RolloutRefused(f"{to} is a version of another model; give a version of {model}")
        try:
            return self._registry.resolve(reference)
        except VersionNotFound as e:
            raise RolloutRefused(str(e)) from e
        except ArtifactError as e:
            raise RolloutRefused(f"{e}; `ekiben models verify {reference}` says more") from e

    def pair(self, model: str, to: str) -> tuple[Version, Version]:
        """The champion, and a version that may stand beside it.

        Raises:
            RolloutRefused: There is no such version, it is the champion, or it does not fit.
        """
        champion, other = self.version(model, None), self.version(model, to)
        if champion.version == other.version:
            raise RolloutRefused(f"{other.tag} is the champion already; `ekiben models list {model}` shows the versions there are")
        check_fit(champion.artifact().spec, champion.version, other.artifact().spec, other.version)
        return champion, other

    def plan(self, challenger: Version, given: PlanSpec | None) -> PlanSpec:
        """The plan for a version, with its analysis: the one given, else the folder's, else the version's own, else the default.

        Raises:
            RolloutRefused: It is wrong.
        """
        spec = challenger.artifact().spec
        try:
            if given is None:
                file = self._plan_folder / challenger.model / "model.yaml" if self._plan_folder else None
                of_folder = load_spec(file) if file is not None and file.is_file() else None
                return plan_of(of_folder if of_folder is not None and of_folder.rollout is not None else spec)
            check_plan(given, file="plan", task=spec.task, metric=spec.quality.metric if spec.quality else "")
        except SpecError as e:
            raise RolloutRefused(str(e)) from e
        return whole_plan(given)
