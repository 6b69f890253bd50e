"""Reviews: reads what happened in a stage, has it measured when that is due, and judged."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from ekiben.errors import ArtifactError, RegistryError
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.model.spec import ModelSpec
from ekiben.registry.store import Registry
from ekiben.rollout.analysis import Evidence, Verdict, due, judge, measure
from ekiben.rollout.plan import ResolvedMetric, analysis_of
from ekiben.rollout.router import CHALLENGER_ARM, CHAMPION_ARM
from ekiben.rollout.standing import Standing
from ekiben.state.control import Control
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Rollout
from ekiben.state.windows import SHADOW, Window

QUALITY: Final = "quality"
"""The one metric that looks at ground truth, which takes longer to read than windows."""

MONITOR: Final = "monitor"
LATENCY: Final = "latencyP95"
"""The one metric that looks at each second by itself."""

_APART_S: Final = 120.0
"""So much of a stage is looked at second by second."""

_LATE_S: Final = 10.0
"""So long after a second its windows have come in, unless the database was away."""

logger = logging.getLogger("ekiben.controller")


class Review(msgspec.Struct, frozen=True):
    """One look at a stage.

    Attributes:
        fresh: What was measured just now.
        skipped: Names of metrics that do not apply now.
        verdict: What all measurements of the stage say.
    """

    fresh: tuple[Measurement, ...]
    skipped: frozenset[str]
    verdict: Verdict


class _Stage:
    """What is remembered of a stage, so that it need not be read twice a second; all of it can be read again."""

    def __init__(self, metrics: tuple[ResolvedMetric, ...], measurements: list[Measurement]) -> None:
        self.metrics = metrics
        self.measurements = measurements
        self.skipped: frozenset[str] = frozenset()
        self.skipped_at: dict[str, float] = {}
        self.verdict = judge(metrics, measurements)
        self.baseline: Window | None = None


class Reviewer:
    """Measures stages and judges them.

    Args:
        control: The control database.
        registry: Where the task, labels and quality of a model are read.
        query: Asks Prometheus, see `ekiben.rollout.analysis.measure`.
    """

    def __init__(self, control: Control, registry: Registry, query: Callable[[PrometheusSpec], float | None]) -> None:
        self._control = control
        self._registry = registry
        self._query = query
        self._stages: dict[tuple[str, int, float], _Stage] = {}
        self._specs: dict[str, ModelSpec] = {}

    def forget(self, other_than: Collection[str] = ()) -> None:
        """Reads everything anew the next time, since somebody else may have measured meanwhile, but for some rollouts by their ids."""
        self._stages = {key: stage for key, stage in self._stages.items() if key[0] in other_than}

    def review(self, at: Standing, now: float) -> Review:
        """Measures what is due, and judges the stage. Nothing is kept yet, see `keep`.

        Args:
            at: A rollout in a stage, see `is_measured`.
            now: Seconds since the epoch.

        Raises:
            StateError: The control database does not answer.
        """
        rollout, stage = at.rollout, self._stage(at.rollout)
        wanted = [
            metric
            for metric in stage.metrics
            if due(metric, stage.measurements, rollout.stage_began, now)
            and now - stage.skipped_at.get(metric.name, -math.inf) >= metric.interval_s
        ]
        if not wanted:
            return Review((), stage.skipped, stage.verdict)
        evidence = self._evidence(at, stage, now, {metric.name for metric in wanted})
        looks = {
            metric.name: measure(metric, evidence, rollout=rollout.id, step=rollout.stage, now=now, query=self._query) for metric in wanted
        }
        stage.skipped_at |= {name: now for name, found in looks.items() if found is None}
        fresh = tuple(found for found in looks.values() if found is not None)
        skipped = (stage.skipped - looks.keys()) | {name for name, found in looks.items() if found is None}
        return Review(fresh, skipped, judge(stage.metrics, [*stage.measurements, *fresh], skipped))

    def keep(self, at: Standing, review: Review) -> None:
        """Keeps what a review measured.

        Raises:
            StateError: The control database does not answer.
        """
        if review.fresh:
            self._control.measurements.append(review.fresh)
        stage = self._stage(at.rollout)
        stage.measurements += review.fresh
        stage.skipped, stage.verdict = review.skipped, review.verdict

    def passes(self, at: Standing) -> bool:
        """Whether all that decides was Successful when it was last looked at.

        Raises:
            StateError: The control database does not answer.
        """
        return self._stage(at.rollout).verdict.outcome == "Successful"

    def _stage(self, rollout: Rollout) -> _Stage:
        key = (rollout.id, rollout.stage, rollout.stage_began)
        if key not in self._stages:
            self._stages = {other: stage for other, stage in self._stages.items() if other[0] != rollout.id}
            found = of_stage(rollout, self._control.measurements.find(rollout.id, step=rollout.stage))
            self._stages[key] = _Stage(analysis_of(rollout.plan), found)
        return self._stages[key]

    def _evidence(self, at: Standing, stage: _Stage, now: float, wanted: Collection[str]) -> Evidence:
        """What happened in a stage, with what the wanted metrics alone look at."""
        rollout, is_shadow = at.rollout, is_shadowing(at)
        since = first_second(rollout.stage_began)
        sums = self._control.windows.sum(rollout.model, since, now)
        spec = self._spec(rollout)
        trial = (rollout.challenger, SHADOW if is_shadow else CHALLENGER_ARM)
        apart = self._control.windows.by_second(rollout.model, max(since, now - _APART_S), now) if LATENCY in wanted else {}
        return Evidence(
            model=rollout.model,
            champion_version=rollout.champion,
            challenger_version=rollout.challenger,
            task=spec.task if spec else "tensor",
            labels=spec.labels if spec else (),
            quality=spec.quality if spec else None,
            latency_budget_s=spec.latency_budget_ms / 1000 if spec else 0.0,
            is_shadow=is_shadow,
            champion=sums.get((rollout.champion, CHAMPION_ARM), Window()),
            challenger=sums.get(trial, Window()),
            blocks=[arms[trial] for arms in apart.values() if trial in arms],
            baseline=self._baseline(rollout, stage, now),
            joined=self._control.truths.joined(rollout.model, rollout.created, now) if QUALITY in wanted else (),
            checks=self._control.checks.find(rollout.model, since=rollout.stage_began) if MONITOR in wanted else (),
        )

    def _baseline(self, rollout: Rollout, stage: _Stage, now: float) -> Window:
        """The champion's windows of the earlier stages; read once they are complete, as they change no more."""
        if stage.baseline is not None:
            return stage.baseline
        sums = self._control.windows.sum(rollout.model, rollout.created, rollout.stage_began)
        found = sums.get((rollout.champion, CHAMPION_ARM), Window())
        if now > rollout.stage_began + _LATE_S:
            stage.baseline = found
        return found

    def _spec(self, rollout: Rollout) -> ModelSpec | None:
        """What the challenger is; None where the store here does not have it: then only what needs no spec is measured."""
        tag = f"{rollout.model}:{rollout.challenger}"
        if tag not in self._specs:
            try:
                self._specs[tag] = self._registry.resolve(tag).artifact().spec
            except (RegistryError, ArtifactError) as e:
                logger.warning("the quality of %s is not measured: %s", tag, e)
                return None
        return self._specs[tag]


def is_shadowing(at: Standing) -> bool:
    """Whether the challenger is compared in the shadow and answers nobody by its weight."""
    return bool(at.route.shadows)


def is_measured(at: Standing) -> bool:
    """Whether the stage that the rollout is in has something to measure: one has begun, and the challenger gets requests."""
    return at.rollout.stage >= 0 and (is_shadowing(at) or at.route.weight(CHALLENGER_ARM) > 0)


def is_stuck(rollout: Rollout, measurements: Sequence[Measurement]) -> bool:
    """Whether what was measured in the stage would pause (or end) the rollout again as soon as it goes on."""
    return judge(analysis_of(rollout.plan), of_stage(rollout, measurements)).outcome in ("Inconclusive", "Error")


def of_stage(rollout: Rollout, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Those of a stage's measurements that count: made since it began, or since it is judged anew."""
    return [m for m in measurements if m.step == rollout.stage and m.time >= rollout.stage_began]


def first_second(stage_began: float) -> int:
    """The first second whose windows are of a stage: workers follow a change within a second, so the one after is left out."""
    return math.ceil(stage_began) + 1
