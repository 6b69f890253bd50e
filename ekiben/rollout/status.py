"""What people are shown of a rollout: where it stands, how its arms do, what comes next, and who follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from ekiben.rollout.findings import PASS_ALPHA
from ekiben.rollout.intervals import quantile_interval, rate_interval
from ekiben.rollout.loading import ALIVE_S, Loading, loading_of, serving_workers
from ekiben.rollout.next_sentence import next_sentence
from ekiben.rollout.plan import describe_step
from ekiben.rollout.reviewing import first_second, of_stage
from ekiben.rollout.router import CHALLENGER_ARM, CHAMPION_ARM
from ekiben.rollout.standing import Standing, standing_of
from ekiben.rollout.views import ArmView, Interval, ShadowView, StatusView, StepView, WorkerView
from ekiben.state.control import Control
from ekiben.state.histogram import Histogram
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import SLOTS
from ekiben.state.windows import SHADOW, Window

LEASE: Final = "controller"
"""The lease that whoever carries out rollouts holds."""

_CHANGING: Final = ("started", "step", "promoted", "rolled-back", "aborted", "stopped", "unloaded")
"""Events that came with a change which workers have to follow."""

_RATE_S: Final = 10
_LATE_S: Final = 2
_LONGEST_S: Final = 60.0

_Sums = Mapping[tuple[str, str], Window]


def status_of(control: Control, rollout: Rollout, now: float) -> StatusView:
    """A rollout or experiment at one moment.

    Args:
        control: The control database.
        rollout: The one that is shown.
        now: Seconds since the epoch.

    Raises:
        StateError: The control database does not answer.
    """
    at = standing_of(control, rollout)
    # An experiment's arms have had their users since it began; a rollout's are looked at stage by stage.
    since = first_second(rollout.stage_began) if rollout.stage >= 0 else math.ceil(rollout.created)
    sums = control.windows.sum(rollout.model, since, rollout.ended or now)
    last = math.floor(now) - _LATE_S
    latest = control.windows.sum(rollout.model, last - _RATE_S, last)
    measurements = of_stage(rollout, control.measurements.find(rollout.id, step=rollout.stage)) if rollout.stage >= 0 else []
    loading = loading_of(control, rollout) if rollout.is_active else Loading(0, {}, {})
    controller = control.leases.holder(LEASE)
    arms, shadow = _arms(at, sums, latest), _shadow(at, sums)
    challenger = sums.get((rollout.challenger, SHADOW if shadow else CHALLENGER_ARM), Window())
    return StatusView(
        id=rollout.id,
        model=rollout.model,
        kind=rollout.kind,
        champion=rollout.champion,
        challenger=rollout.challenger,
        status=rollout.status,
        message=rollout.message,
        created=rollout.created,
        created_by=rollout.created_by,
        ended=rollout.ended,
        now=now,
        paused=_is_paused(at),
        step=rollout.step,
        steps=_steps(at),
        arms=arms,
        shadow=shadow,
        measurements=_latest(measurements),
        next=next_sentence(at, loading=loading, measurements=measurements, requests=challenger.requests, controller=controller, now=now),
        workers=_workers(control, rollout.model),
        controller=controller,
    )


def _is_paused(at: Standing) -> bool:
    """Whether a person has something to do before it goes on."""
    step = at.current
    waits = step is not None and step.pause is not None and step.pause.duration is None
    return at.rollout.status == "Paused" or (at.rollout.is_active and at.rollout.kind == "rollout" and waits)


def _steps(at: Standing) -> tuple[StepView, ...]:
    """The steps of the plan; an experiment has none."""
    rollout = at.rollout
    records = {record.step: record for record in at.records}
    views = []
    for index, step in enumerate(rollout.plan.steps if rollout.kind == "rollout" else ()):
        record = records.get(index)
        if record is None:
            views.append(StepView(index=index, what=describe_step(step), state="to come"))
        else:
            state = record.outcome or "current"
            views.append(StepView(index=index, what=record.what, state=state, began=record.began, ended=record.ended))  # type: ignore[arg-type]
    return tuple(views)


def _arms(at: Standing, sums: _Sums, latest: _Sums) -> tuple[ArmView, ...]:
    rollout, route = at.rollout, at.route
    on_trial = {CHALLENGER_ARM: rollout.challenger} if rollout.kind == "rollout" else {arm.name: arm.version for arm in rollout.arms}
    if rollout.is_active:
        weights = {name: route.weight(name) for name in on_trial}
    else:
        weights = dict.fromkeys(on_trial, 100.0 if rollout.status == "Completed" and rollout.kind == "rollout" else 0.0)
    rest = 100.0 - sum(round(weight * SLOTS / 100) for weight in weights.values()) * 100 / SLOTS
    arms = [(CHAMPION_ARM, rollout.champion, rest), *((name, version, weights[name]) for name, version in on_trial.items())]
    return tuple(_arm(name, version, weight, sums, latest) for name, version, weight in arms)


def _arm(name: str, version: str, weight: float, sums: _Sums, latest: _Sums) -> ArmView:
    window = sums.get((version, name), Window())
    n = window.requests
    return ArmView(
        arm=name,
        version=version,
        weight=weight,
        requests=n,
        requests_per_s=latest.get((version, name), Window()).requests / _RATE_S,
        errors=window.failed,
        invalid=window.invalid,
        fallbacks=window.fallbacks,
        error_rate=_rate(window.failed, n),
        p50_s=_quantile(window.latency, 0.5),
        p95_s=_p95(window.latency),
        errors_by_kind=window.errors,
    )


def _shadow(at: Standing, sums: _Sums) -> ShadowView | None:
    """The shadow, where the stage is one."""
    rollout = at.rollout
    step = rollout.plan.steps[rollout.stage] if rollout.kind == "rollout" and rollout.stage >= 0 else None
    if step is None or step.shadow is None:
        return None
    window = sums.get((rollout.challenger, SHADOW), Window())
    champion = sums.get((rollout.champion, CHAMPION_ARM), Window())
    return ShadowView(
        version=rollout.challenger,
        rate=step.shadow.rate,
        compared=window.compared,
        dropped=window.dropped,
        agreement=_rate(window.agreed, window.compared),
        mean_difference=_known(window.differences.mean),
        p95_difference=_quantile(window.differences, 0.95),
        errors=window.failed,
        p95_compute_s=_quantile(window.compute, 0.95),
        champion_p95_compute_s=_quantile(champion.compute, 0.95),
    )


def _workers(control: Control, model: str) -> tuple[WorkerView, ...]:
    generation = control.generation()
    serving = serving_workers(control.workers.alive(ALIVE_S), model)
    changed = next((event.time for event in reversed(control.events.find(limit=200)) if event.kind in _CHANGING), None)
    views = []
    for worker in serving:
        follows = worker.follows(generation)
        # Changes without an event of ours (somebody moved an alias by hand) say nothing of how long the last one took.
        took_s = None if changed is None else worker.in_force_at - changed
        views.append(
            WorkerView(
                id=worker.id,
                follows=follows,
                in_force_s=max(took_s, 0.0) if follows and took_s is not None and took_s < _LONGEST_S else None,
                loaded=worker.versions.get(model, ()),
                problems=(
                    *(f"{tag}: {why}" for tag, why in sorted(worker.problems.items()) if tag == model or tag.startswith(f"{model}:")),
                    *(f"{tag} is broken: {why}" for tag, why in sorted(worker.broken.items()) if tag.startswith(f"{model}:")),
                ),
            )
        )
    return tuple(views)


def _latest(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The latest of each metric, in the order they were first measured."""
    return tuple({m.metric: m for m in measurements}.values())


def _rate(k: int, n: int) -> Interval:
    return Interval(k / n, *rate_interval(k, n, PASS_ALPHA)) if n else Interval()


def _p95(latency: Histogram) -> Interval:
    if not latency.n:
        return Interval()
    low, high = quantile_interval(latency, 0.95, PASS_ALPHA)
    return Interval(latency.quantile(0.95), low, high if math.isfinite(high) else None)


def _quantile(numbers: Histogram, q: float) -> float | None:
    return _known(numbers.quantile(q))


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
