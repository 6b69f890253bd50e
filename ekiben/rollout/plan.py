"""Plans: where they come from, how they read, and what is to be measured when all their defaults are filled in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import msgspec

from ekiben.errors import SpecError
from ekiben.model.metric_checks import BUILT_IN, DRY_BY_DEFAULT
from ekiben.model.plan_reading import check_plan, plan_from_builtins
from ekiben.model.rollout_spec import (
    AnalysisSpec,
    Duration,
    HeaderMatch,
    MetricSpec,
    PauseSpec,
    PlanSpec,
    PrometheusSpec,
    ShadowSpec,
    StepSpec,
    seconds,
)
from ekiben.model.spec import ModelSpec

__all__ = [
    "ResolvedMetric",
    "analysis_of",
    "check_plan",
    "default_plan",
    "describe_step",
    "duration_text",
    "plan_from_builtins",
    "plan_of",
    "read_plan",
    "whole_plan",
]

_PATIENCE_S: Final = 3600.0
_LIMITS: Final[dict[str, dict[str, float]]] = {
    "errorRate": {"max": 0.05},
    "invalidRate": {"max": 0.05},
    "latencyP95": {"max_ratio": 2.0},
    "quality": {},
    "agreement": {"min": 0.8},
    "drift": {"max": 0.25},
    "monitor": {},
}


class ResolvedMetric(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured, with every default filled in.

    Attributes:
        name: As in the plan.
        max, max_ratio, min, metric, prometheus, success_condition, failure_condition: As in `MetricSpec`.
        interval_s: Seconds between two measurements.
        initial_delay_s: Seconds from the begin of a stage to the first.
        count: Conclusive measurements in a stage after which it has had its say; 0 goes on as long as the stage.
        failure_limit, inconclusive_limit, consecutive_error_limit: As in `AnalysisSpec`.
        min_requests: With fewer a measurement is Inconclusive.
        dry_run: It decides nothing.
    """

    name: str
    max: float | None = None
    max_ratio: float | None = None
    min: float | None = None
    metric: str = ""
    prometheus: PrometheusSpec | None = None
    success_condition: str = ""
    failure_condition: str = ""
    interval_s: float = 10.0
    initial_delay_s: float = 0.0
    count: int = 0
    failure_limit: int = 0
    inconclusive_limit: int = 360
    consecutive_error_limit: int = 4
    min_requests: int = 50
    dry_run: bool = False


def read_plan(path: Path, spec: ModelSpec | None = None) -> PlanSpec:
    """Reads a plan from a YAML file of its own, with ``steps:`` at its top.

    Args:
        path: The file.
        spec: The model that it is for; with it, whether the plan fits the model's task is checked too.

    Returns:
        The plan, with the default plan's analysis where it has none.

    Raises:
        SpecError: The file is missing, is not YAML, or a field is wrong or contradicts another.
    """
    import yaml  # noqa: PLC0415  a controller that takes its plans from the database needs no YAML

    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise SpecError(str(path), "(file)", f"not readable as YAML: {e}", "a plan has steps: at its top, see docs/70-rollouts.md") from e
    except OSError as e:
        raise SpecError(str(path), "(file)", f"cannot be read: {e.strerror}", "give the path of a plan in YAML") from None
    return whole_plan(plan_from_builtins(raw, file=str(path), task=None if spec is None else spec.task, metric=_quality_of(spec)))


def plan_of(spec: ModelSpec | None) -> PlanSpec:
    """The plan of a model: its own, or the default plan."""
    return default_plan() if spec is None or spec.rollout is None else whole_plan(spec.rollout)


def whole_plan(plan: PlanSpec) -> PlanSpec:
    """The plan, with the default plan's analysis where it has none."""
    return plan if plan.analysis is not None else msgspec.structs.replace(plan, analysis=_default_analysis())


def default_plan() -> PlanSpec:
    """What a model without a plan does: shadow, then 5, 50 and 100 percent, each watched for some minutes."""
    steps = [StepSpec(shadow=ShadowSpec()), StepSpec(pause=PauseSpec(duration="5m"))]
    for weight in (5, 50, 100):
        steps += [StepSpec(set_weight=weight), StepSpec(pause=PauseSpec(duration="10m"))]
    return PlanSpec(steps=tuple(steps), analysis=_default_analysis())


def describe_step(step: StepSpec) -> str:
    """A step as people read it: ``setWeight: 5``, ``pause: 10m``, ``pause: until approved``, ``shadow: 100 %``."""
    if step.set_weight is not None:
        return f"setWeight: {step.set_weight:g}"
    if step.pause is not None:
        return "pause: until approved" if step.pause.duration is None else f"pause: {duration_text(seconds(step.pause.duration))}"
    if step.shadow is not None:
        return f"shadow: {step.shadow.rate * 100:g} %"
    route = step.set_header_route
    if route is None:
        return "nothing"
    return f"setHeaderRoute: {route.name} ({' and '.join(map(_condition, route.match)) or 'taken away'})"


def duration_text(duration_s: float) -> str:
    """Seconds as a plan has them: ``10m``, ``1h30m``, ``1m30s``, ``500ms``; to the millisecond."""
    left_ms = round(duration_s * 1000)
    parts = []
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left_ms = divmod(left_ms, length_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def analysis_of(plan: PlanSpec) -> tuple[ResolvedMetric, ...]:
    """What a plan measures, with every default filled in: the metric's own, else the analysis's, else the built-in one."""
    analysis = plan.analysis or _default_analysis()
    metrics = analysis.metrics or tuple(MetricSpec(name=name) for name in BUILT_IN)
    return tuple(_resolved(metric, analysis) for metric in metrics)


def _default_analysis() -> AnalysisSpec:
    return AnalysisSpec(
        interval="10s",
        failure_limit=0,
        inconclusive_limit=360,
        consecutive_error_limit=4,
        min_requests=50,
        metrics=tuple(
            msgspec.structs.replace(MetricSpec(name=name, dry_run=name in DRY_BY_DEFAULT or None), **_LIMITS[name]) for name in BUILT_IN
        ),
    )


def _resolved(metric: MetricSpec, analysis: AnalysisSpec) -> ResolvedMetric:
    interval_s = seconds(_first(metric.interval, analysis.interval))
    limits = _LIMITS.get(metric.name, {})
    patience = math.ceil(_PATIENCE_S / interval_s)
    return ResolvedMetric(
        name=metric.name,
        max=metric.max if metric.max is not None else limits.get("max"),
        max_ratio=metric.max_ratio if metric.max_ratio is not None else limits.get("max_ratio"),
        min=metric.min if metric.min is not None else limits.get("min"),
        metric=metric.metric,
        prometheus=metric.prometheus,
        success_condition=metric.success_condition,
        failure_condition=metric.failure_condition,
        interval_s=interval_s,
        initial_delay_s=seconds(_first(metric.initial_delay, analysis.initial_delay)),
        count=analysis.count if metric.count is None else metric.count,
        failure_limit=analysis.failure_limit if metric.failure_limit is None else metric.failure_limit,
        inconclusive_limit=next((n for n in (metric.inconclusive_limit, analysis.inconclusive_limit) if n is not None), patience),
        consecutive_error_limit=(
            analysis.consecutive_error_limit if metric.consecutive_error_limit is None else metric.consecutive_error_limit
        ),
        min_requests=analysis.min_requests,
        dry_run=metric.name in DRY_BY_DEFAULT if metric.dry_run is None else metric.dry_run,
    )


def _first(own: Duration | None, of_analysis: Duration) -> Duration:
    return of_analysis if own is None else own


def _quality_of(spec: ModelSpec | None) -> str:
    return spec.quality.metric if spec is not None and spec.quality is not None else ""


def _condition(match: HeaderMatch) -> str:
    value = match.header_value
    if value.exact is not None:
        return f"{match.header_name.lower()} = {value.exact!r}"
    if value.prefix is not None:
        return f"{match.header_name.lower()} begins with {value.prefix!r}"
    return f"{match.header_name.lower()} matches {value.regex!r}"
