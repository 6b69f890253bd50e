"""What people can ask of experiments, answered from the control database: the commands and the admin API call this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ekiben.errors import UnknownRollout
from ekiben.model.spec import ModelSpec
from ekiben.registry.store import Registry, Version
from ekiben.rollout.admission import Admission
from ekiben.rollout.experiment import checked_arms, checked_weights, metric_of, plan_for, started, stopped, weights_of
from ekiben.rollout.experiment_analysis import METHOD, Results, analysed, checked_metric
from ekiben.rollout.experiment_view import ExperimentView
from ekiben.rollout.fitting import check_fit
from ekiben.rollout.loading import loading_of
from ekiben.rollout.operations import next_id
from ekiben.rollout.standing import standing_of
from ekiben.state.control import Control
from ekiben.state.rollouts import Rollout

_LEASE: Final = "controller"


class Experiments:
    """Starts, stops and shows experiments, see `ExperimentOperations`.

    Each operation is one change in the control database, or none. The controller lets the users in.

    Args:
        control: The control database.
        registry: The versions.
        who: Who asks, for the events: ``user@host``.
        wall: Seconds since the epoch.
    """

    def __init__(self, control: Control, registry: Registry, *, who: str, wall: Callable[[], float]) -> None:
        self._control = control
        self._registry = registry
        self._admission = Admission(registry, None)
        self._who = who
        self._wall = wall

    def start(self, model: str, arms: dict[str, str], *, weights: Sequence[float] | None = None, metric: str = "") -> ExperimentView:
        """Starts an experiment, see `ExperimentOperations`.

        Raises:
            RolloutRefused: A version does not exist or does not fit the champion, or arms, weights or metric are wrong.
            RolloutChanged: A rollout or another experiment of the model is active.
            StateError: The control database does not answer.
        """
        champion = self._admission.version(model, None)
        spec = champion.artifact().spec
        found = {name: self._fitting(champion, spec, version) for name, version in arms.items()}
        checked = checked_arms(found)
        experiment = Rollout(
            id=next_id(self._control, model),
            model=model,
            kind="experiment",
            champion=champion.version,
            arms=checked,
            plan=plan_for(checked_weights(checked, weights), checked_metric(metric, spec)),
            created=self._wall(),
            created_by=self._who,
        )
        self._control.rollouts.commit(started(experiment, self._control.routes.get(model)))
        return self.status(experiment.id)

    def status(self, model_or_id: str) -> ExperimentView:
        """An experiment at this moment, see `ExperimentOperations`.

        Raises:
            UnknownRollout: There is none.
            RolloutRefused: None of its versions is in the store any more.
            StateError: The control database does not answer.
        """
        experiment, now = self._find(model_or_id), self._wall()
        results = self._results(experiment, now)
        return ExperimentView(
            id=experiment.id,
            model=experiment.model,
            champion=experiment.champion,
            status=experiment.status,
            message=experiment.message,
            created=experiment.created,
            created_by=experiment.created_by,
            ended=experiment.ended,
            now=now,
            began=experiment.step_began,
            metric=metric_of(experiment),
            arms=results.arms,
            comparisons=results.comparisons,
            split=results.split,
            conclusion=results.conclusion,
            method=METHOD,
            next=self._next(experiment),
            controller=self._control.leases.holder(_LEASE),
        )

    def stop(self, model: str, *, promote: str | None = None, reason: str = "") -> ExperimentView:
        """Stops an experiment, see `ExperimentOperations`.

        Raises:
            UnknownRollout: None of the model is active.
            RolloutRefused: There is no such arm, or its version is no longer in the store.
            RolloutChanged: Somebody else changed it meanwhile.
            StateError: The control database does not answer.
        """
        experiment = self._find(model)
        if not experiment.is_active:
            raise UnknownRollout(f"{model} has no active experiment; {experiment.id} ended as {experiment.status}: {experiment.message}")
        change = stopped(standing_of(self._control, experiment), self._wall(), who=self._who, why=reason, promote=promote)
        for version in change.aliases.values():
            if version is not None:
                self._admission.version(experiment.model, version)
        self._control.rollouts.commit(change)
        return self.status(experiment.id)

    def _find(self, model_or_id: str) -> Rollout:
        """The experiment with an id, or the active one of a model, else its latest.

        Raises:
            UnknownRollout: There is none.
        """
        found = self._control.rollouts.get(model_or_id)
        candidates = [found] if found else self._control.rollouts.find(model=model_or_id)
        experiment = next((r for r in candidates if r.kind == "experiment"), None)
        if experiment is None:
            raise UnknownRollout(
                f"there is no experiment {model_or_id!r}, and none on a model of that name; "
                "`ekiben experiment start NAME --arm a=VERSION --arm b=VERSION` starts one"
            )
        return experiment

    def _results(self, experiment: Rollout, now: float) -> Results:
        began, until = experiment.step_began, experiment.ended or now
        truths = self._control.truths
        return analysed(
            experiment.arms,
            weights_of(experiment),
            metric=metric_of(experiment),
            spec=self._spec_of(experiment),
            exposed=truths.exposed(experiment.model, began, until) if began else {},
            joined=truths.joined(experiment.model, began, until) if began else [],
        )

    def _spec_of(self, experiment: Rollout) -> ModelSpec:
        """What the model answers: all of an experiment's versions answer alike, and those of an old one may be gone by now."""
        versions = (experiment.champion, *(arm.version for arm in experiment.arms))
        there = next((v for v in versions if self._registry.has(experiment.model, v)), experiment.champion)
        return self._admission.version(experiment.model, there).artifact().spec

    def _next(self, experiment: Rollout) -> str:
        """What an experiment waits for, a sentence; empty where it runs or has ended."""
        if not experiment.is_active or experiment.step_began:
            return ""
        if self._control.leases.holder(_LEASE) is None:
            return "nobody carries it out: start a server or `ekiben controller`"
        loading = loading_of(self._control, experiment)
        if not loading.workers:
            return f"no server of {experiment.model} is running"
        for version, lacking in loading.lacking.items():
            return f"waits for {experiment.model}:{version} to be loaded on {lacking} of {loading.workers} workers"
        return "its users are let in within a second"

    def _fitting(self, champion: Version, spec: ModelSpec, version: str) -> str:
        """A version that may stand beside the champion.

        Raises:
            RolloutRefused: There is none such, or it does not fit.
        """
        other = self._admission.version(champion.model, version)
        check_fit(spec, champion.version, other.artifact().spec, other.version)
        return other.version
