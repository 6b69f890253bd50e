"""Analysis: measures a stage, and says whether the rollout goes on, waits, asks a person, or goes back.

Pure: what happened is `Evidence`, time and the Prometheus query are passed in. A stage is looked at again and again, so
every interval that decides holds at all looks together, see `ekiben.rollout.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from typing import Literal

import msgspec

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import Estimate, Finding
from ekiben.rollout.metric_latency import latency_p95
from ekiben.rollout.metric_monitor import monitor
from ekiben.rollout.metric_predictions import agreement, drift
from ekiben.rollout.metric_quality import quality
from ekiben.rollout.metric_query import queried
from ekiben.rollout.metric_rates import error_rate, invalid_rate
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.measurements import Measurement

__all__ = ["Evidence", "Verdict", "due", "judge", "measure"]

_BUILT_IN: dict[str, Callable[[ResolvedMetric, Evidence], Finding | None]] = {
    "errorRate": error_rate,
    "invalidRate": invalid_rate,
    "latencyP95": latency_p95,
    "quality": quality,
    "agreement": agreement,
    "drift": drift,
    "monitor": monitor,
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the measurements of a stage say together.

    Attributes:
        outcome: Successful: the latest of each deciding metric is. Failed: go back. Error: it cannot be measured, go back.
            Inconclusive: a person is to decide. Running: wait, and measure on.
        metric: The metric that decided, or, of Running, the first that is waited for; empty where all did.
        message: Why, a sentence.
        deciding: The measurements that decided.
    """

    outcome: Literal["Successful", "Failed", "Inconclusive", "Error", "Running"]
    metric: str = ""
    message: str = ""
    deciding: tuple[Measurement, ...] = ()


def measure(
    metric: ResolvedMetric,
    evidence: Evidence,
    *,
    rollout: str,
    step: int,
    now: float,
    query: Callable[[PrometheusSpec], float | None],
) -> Measurement | None:
    """Looks at one metric.

    Args:
        metric: What is measured.
        evidence: What happened in the stage.
        rollout: Id of the rollout.
        step: Index of the step that began the stage.
        now: Seconds since the epoch.
        query: Asks Prometheus: the one number, None of an empty answer; raises `MeasurementFailed`.

    Returns:
        The measurement; None where the metric does not apply: ``agreement`` without a shadow, ``quality`` without any truth.
    """
    try:
        finding = queried(metric, evidence, query) if metric.prometheus is not None else _BUILT_IN[metric.name](metric, evidence)
    except MeasurementFailed as e:
        finding = Finding(outcome="Error", message=str(e))
    if finding is None:
        return None
    value, low, high, n = _fields(finding.challenger)
    champion_value, champion_low, champion_high, champion_n = _fields(finding.champion)
    return Measurement(
        rollout=rollout,
        step=step,
        metric=metric.name,
        time=now,
        outcome=finding.outcome,
        message=finding.message,
        value=value,
        low=low,
        high=high,
        n=n,
        champion_value=champion_value,
        champion_low=champion_low,
        champion_high=champion_high,
        champion_n=champion_n,
        limit=finding.limit,
        dry_run=metric.dry_run,
    )


def due(metric: ResolvedMetric, so_far: Sequence[Measurement], stage_began: float, now: float) -> bool:
    """Whether it is time to measure.

    Args:
        metric: What is measured.
        so_far: The measurements of this stage, of all metrics, in the order they were made.
        stage_began: Seconds since the epoch.
        now: Seconds since the epoch.
    """
    latest = next((m for m in reversed(so_far) if m.metric == metric.name), None)
    if latest is None:
        return now >= stage_began + metric.initial_delay_s
    if now < latest.time + metric.interval_s:
        return False
    return metric.count == 0 or not _has_had_its_say(metric, [m for m in so_far if m.metric == metric.name])


def judge(metrics: Sequence[ResolvedMetric], so_far: Sequence[Measurement], skipped: Collection[str] = ()) -> Verdict:
    """What the measurements of a stage say together. The limits are Argo Rollouts'; one that is passed outweighs all else.

    Args:
        metrics: What is measured.
        so_far: The measurements of this stage, of all metrics, in the order they were made. After a rollout was resumed, only
            those since, or what paused it would pause it again at once.
        skipped: Names of metrics that do not apply now: those that were due and of which `measure` gave None. One that is
            neither measured nor named here is waited for.
    """
    by_metric: dict[str, list[Measurement]] = {m.name: [] for m in metrics}
    for found in so_far:
        by_metric.setdefault(found.metric, []).append(found)
    deciding = [(m, by_metric[m.name]) for m in metrics if not m.dry_run]
    for beyond in (_failed, _erring, _undecided):
        for metric, own in deciding:
            verdict = beyond(metric, own)
            if verdict is not None:
                return verdict
    deciding = [(m, own) for m, own in deciding if m.name not in skipped]
    for metric, own in deciding:
        if not own:
            return Verdict(outcome="Running", metric=metric.name, message=f"{metric.name} is not measured yet")
        if own[-1].outcome != "Successful" and not _has_had_its_say(metric, own):
            return Verdict(outcome="Running", metric=metric.name, message=f"{metric.name}: {own[-1].message}", deciding=(own[-1],))
    latest = tuple(own[-1] for _, own in deciding)
    return Verdict(outcome="Successful", message="; ".join(f"{m.metric}: {m.message}" for m in latest), deciding=latest)


def _fields(estimate: Estimate | None) -> tuple[float | None, float | None, float | None, int]:
    """Value, low, high and n; JSON knows no infinity, and an interval without an end has None there."""
    if estimate is None:
        return None, None, None, 0
    value, low, high = (number if math.isfinite(number) else None for number in (estimate.value, estimate.low, estimate.high))
    return value, low, high, estimate.n


def _has_had_its_say(metric: ResolvedMetric, own: Sequence[Measurement]) -> bool:
    """Whether it was measured as often as wanted; a look that showed nothing does not count."""
    return 0 < metric.count <= sum(m.outcome in ("Successful", "Failed") for m in own)


def _failed(metric: ResolvedMetric, own: Sequence[Measurement]) -> Verdict | None:
    found = tuple(m for m in own if m.outcome == "Failed")
    if len(found) <= metric.failure_limit:
        return None
    times = "" if len(found) == 1 else f", {len(found)} times"
    return Verdict(outcome="Failed", metric=metric.name, message=f"{metric.name} Failed{times}: {found[-1].message}", deciding=found)


def _erring(metric: ResolvedMetric, own: Sequence[Measurement]) -> Verdict | None:
    in_a_row = list(takewhile(lambda m: m.outcome == "Error", reversed(own)))[::-1]
    if len(in_a_row) <= metric.consecutive_error_limit:
        return None
    message = f"{metric.name} could not be measured {len(in_a_row)} times in a row: {in_a_row[-1].message}"
    return Verdict(outcome="Error", metric=metric.name, message=message, deciding=tuple(in_a_row))


def _undecided(metric: ResolvedMetric, own: Sequence[Measurement]) -> Verdict | None:
    found = [m for m in own if m.outcome == "Inconclusive"]
    if len(found) <= metric.inconclusive_limit:
        return None
    message = f"{metric.name} was Inconclusive {len(found)} times: {found[-1].message}"
    return Verdict(outcome="Inconclusive", metric=metric.name, message=message, deciding=(found[-1],))
