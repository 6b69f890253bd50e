"""Experiments: arms that stand side by side, each with its share of the users, until somebody stops it.

Each function makes the one `Change` that does something, and does nothing itself. An experiment is kept as a `Rollout` whose
plan has one ``setWeight`` for each arm, in the order of the arms, and whose analysis names the metric that is compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ekiben.errors import RolloutRefused
from ekiben.model.rollout_spec import AnalysisSpec, MetricSpec, PlanSpec, StepSpec, seconds
from ekiben.registry.reference import CHAMPION
from ekiben.rollout.router import reallocated
from ekiben.rollout.standing import Standing
from ekiben.rollout.transitions import CONTROLLER, PREVIOUS, waiting_route
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout
from ekiben.state.routes import Arm, Kept, Route

OUTCOME: Final = "outcome"
"""The metric that is whatever the client reports as ``outcome``: the larger, the better."""

_ARM: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_TAKEN: Final = ("champion", "challenger", "pinned", "shadow")
_FEWEST: Final = 2
_WHOLE: Final = 10_000  # hundredths of a percent


def equal_weights(names: Sequence[str]) -> dict[str, float]:
    """Equal shares in hundredths of a percent, 100 exactly together; what cannot be shared goes to the first ones."""
    share, rest = divmod(_WHOLE, len(names))
    return {name: (share + (n < rest)) / 100 for n, name in enumerate(names)}


def checked_arms(arms: Mapping[str, str]) -> tuple[Arm, ...]:
    """The arms of an experiment.

    Args:
        arms: Arm → its version.

    Raises:
        RolloutRefused: There are too few of them, or a name cannot be one.
    """
    if len(arms) < _FEWEST:
        raise RolloutRefused(
            f"an experiment compares two arms or more, and there is {', '.join(arms) or 'none'}; give --arm NAME=VERSION for each"
        )
    for name in arms:
        if not _ARM.fullmatch(name) or name in _TAKEN:
            raise RolloutRefused(
                f"{name!r} cannot name an arm; give lower-case letters, digits, '_' and '-', beginning with a letter, "
                f"and none of {', '.join(_TAKEN)}"
            )
    return tuple(Arm(name, version) for name, version in arms.items())


def checked_weights(arms: Sequence[Arm], weights: Sequence[float] | None) -> dict[str, float]:
    """Arm → its percentage; equal shares of everything where none are given.

    Args:
        arms: The arms.
        weights: A percentage each, in their order, in hundredths; what is left of 100 goes to the champion.

    Raises:
        RolloutRefused: They are not one for each arm, or no percentages.
    """
    if weights is None:
        return equal_weights([arm.name for arm in arms])
    if len(weights) != len(arms):
        raise RolloutRefused(f"there are {len(weights)} weights for {len(arms)} arms; give one for each, in the arms' order")
    for arm, weight in zip(arms, weights, strict=True):
        if not 0 < weight <= 100 or round(weight * 100) != round(weight * 100, 6):  # noqa: PLR2004  percent
            raise RolloutRefused(f"the weight of {arm.name} is {weight:g}; it must be above 0 to 100 percent, in hundredths")
    if round(sum(weights) * 100) > _WHOLE:
        raise RolloutRefused(f"the weights are {sum(weights):g} % together; 100 is all there is")
    return {arm.name: float(weight) for arm, weight in zip(arms, weights, strict=True)}


def plan_for(weights: Mapping[str, float], metric: str) -> PlanSpec:
    """The plan that an experiment is kept with; `weights_of` and `metric_of` read it."""
    return PlanSpec(
        steps=tuple(StepSpec(set_weight=weight) for weight in weights.values()),
        analysis=AnalysisSpec(metrics=(MetricSpec(name="quality", metric=metric),)),
    )


def weights_of(experiment: Rollout) -> dict[str, float]:
    """Arm → its percentage."""
    return {arm.name: step.set_weight or 0.0 for arm, step in zip(experiment.arms, experiment.plan.steps, strict=True)}


def metric_of(experiment: Rollout) -> str:
    """The metric that is compared."""
    analysis = experiment.plan.analysis
    assert analysis is not None  # `plan_for` gave one
    return analysis.metrics[0].metric


def started(experiment: Rollout, former: Route | None) -> Change:
    """Begins an experiment: its arms are to be loaded everywhere, and nobody is sent to them yet.

    Args:
        experiment: As it is to be, of revision 0.
        former: The model's route until now.
    """
    weights = weights_of(experiment)
    shares = ", ".join(f"{arm.name} ({arm.version}) {weights[arm.name]:g} %" for arm in experiment.arms)
    message = f"experiment on {experiment.model}: {shares}; {metric_of(experiment)} is compared"
    details = {"arms": {arm.name: arm.version for arm in experiment.arms}, "weights": weights, "metric": metric_of(experiment)}
    return Change(
        model=experiment.model,
        rollout=experiment,
        events=(_event(experiment, experiment.created, experiment.created_by, kind="started", message=message, details=details),),
        route=waiting_route(experiment, former),
        aliases={CHAMPION: experiment.champion},
    )


def begin(experiment: Rollout, route: Route | None, now: float) -> Change:
    """Lets users in: the arms are in the memory of every worker.

    Args:
        experiment: One that waits.
        route: The model's route.
        now: Seconds since the epoch.
    """
    weights = weights_of(experiment)
    after = msgspec.structs.replace(experiment, message="", step_began=now, stage=0, stage_began=now)
    message = f"the arms are loaded; their users are let in: {', '.join(f'{name} {weight:g} %' for name, weight in weights.items())}"
    return Change(
        model=after.model,
        rollout=after,
        events=(_event(after, now, CONTROLLER, kind="step", message=message, details={"weights": weights}),),
        route=reallocated(waiting_route(after, route), weights),
    )


def stopped(at: Standing, now: float, *, who: str, why: str = "", promote: str | None = None) -> Change:
    """Ends an experiment; the champion answers everything.

    Args:
        at: Where it stands.
        now: Seconds since the epoch.
        who: Who ends it.
        why: The reason, a sentence, or empty.
        promote: The arm whose version becomes the champion; None leaves the champion as it is.

    Raises:
        RolloutRefused: There is no such arm.
    """
    experiment = at.rollout
    versions = {arm.name: arm.version for arm in experiment.arms}
    if promote is not None and promote not in versions:
        raise RolloutRefused(f"{experiment.id} has no arm {promote!r} to promote; there are {', '.join(versions)}")
    champion = experiment.champion if promote is None else versions[promote]
    is_new = champion != experiment.champion
    delay_s = seconds(experiment.plan.scale_down_delay_seconds)
    kept = [k for k in at.route.kept if k.until > now and k.version not in (champion, experiment.champion)]
    kept += [Kept(experiment.champion, now + delay_s)] if is_new and delay_s else []
    message = "stopped" + (f": {why}" if why else "")
    result = f"{promote} ({champion}) is champion" if promote else f"{champion} stays champion"
    after = msgspec.structs.replace(experiment, status="Completed", message=f"{message}; {result}", ended=now, paused_at=0.0)
    event = _event(
        after,
        now,
        who,
        kind="promoted" if is_new else "stopped",
        message=f"{after.id} {after.message}",
        details={"champion": champion, "previous": experiment.champion, "arm": promote},
    )
    return Change(
        model=after.model,
        rollout=after,
        events=(event,),
        route=Route(kept=tuple(kept)) if kept else None,
        aliases={CHAMPION: champion, PREVIOUS: experiment.champion} if is_new else {},
    )


def _event(experiment: Rollout, now: float, who: str, *, kind: str, message: str, details: dict[str, Any]) -> Event:
    return Event(time=now, who=who, model=experiment.model, rollout=experiment.id, kind=kind, message=message, details=details)
