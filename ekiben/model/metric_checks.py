"""Whether what an analysis measures makes sense: pace, limits, conditions, and that the quality fits the task."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Final

from ekiben.model.conditions import condition
from ekiben.model.rollout_spec import AnalysisSpec, Duration, MetricSpec, PrometheusSpec, seconds

Contradiction = tuple[str, str, str]
"""Field, what is wrong with it, what would be right."""

BUILT_IN: Final = ("errorRate", "invalidRate", "latencyP95", "quality", "agreement", "drift", "monitor")
DRY_BY_DEFAULT: Final = frozenset({"agreement", "drift", "monitor"})
TEMPLATES: Final = ("model", "champion", "challenger")
QUALITY_BY_TASK: Final = {
    "binary_classification": ("accuracy", "f1", "precision", "recall", "brier", "log_loss"),
    "multiclass_classification": ("accuracy", "f1", "precision", "recall"),
    "regression": ("mae", "rmse"),
    "tensor": (),
}
ERRORS: Final = frozenset({"brier", "log_loss", "mae", "rmse"})
"""Qualities of which less is better."""

_LIMITS_OF: Final = {
    "errorRate": {"max"},
    "invalidRate": {"max"},
    "latencyP95": {"max_ratio"},
    "quality": {"min", "max", "metric"},
    "agreement": {"min"},
    "drift": {"max"},
    "monitor": set(),
    "prometheus": {"prometheus", "success_condition", "failure_condition"},
}
_RANGES: Final[dict[str, tuple[str, Callable[[float], bool], str]]] = {
    "errorRate": ("max", lambda v: 0 < v < 1, "above 0, as that nothing ever fails cannot be shown, and below 1"),
    "invalidRate": ("max", lambda v: 0 < v < 1, "above 0, as that there is no difference at all cannot be shown, and below 1"),
    "latencyP95": ("max_ratio", lambda v: 1 < v < math.inf, "above 1, as two equal versions never are shown to be at most 1.0 apart"),
    "agreement": ("min", lambda v: 0 < v < 1, "above 0 and below 1, as that they always agree cannot be shown"),
    "drift": ("max", lambda v: 0 < v < math.inf, "above 0; a PSI of 0.25 is a large change"),
}


def analysis_contradictions(analysis: AnalysisSpec, task: str | None, metric: str) -> Iterator[Contradiction]:
    """What is wrong with an analysis; see `ekiben.model.plan_reading.plan_from_builtins`."""
    yield from _pace_contradictions(analysis)
    if analysis.min_requests < 1:
        yield "minRequests", f"{analysis.min_requests} is too few", "1 or more"
    names = [m.name for m in analysis.metrics]
    for n, item in enumerate(analysis.metrics):
        if names.index(item.name) != n:
            yield f"metrics[{n}].name", f"{item.name!r} occurs twice", "give every metric its own name"
        for field, problem, right in (*_pace_contradictions(item), *_metric_contradictions(item)):
            yield f"metrics[{n}].{field}", problem, right
        if item.name == "quality" and item.prometheus is None:
            for field, problem, right in _plan_quality_contradictions(item, task, metric):
                yield f"metrics[{n}].{field}", problem, right


def _pace_contradictions(pace: AnalysisSpec | MetricSpec) -> Iterator[Contradiction]:
    """What is wrong with the fields that analysis and metric both have."""
    if pace.interval is not None:
        yield from duration_contradictions("interval", pace.interval, above_0=True)
    if pace.initial_delay is not None:
        yield from duration_contradictions("initialDelay", pace.initial_delay)
    limits = {
        "count": pace.count,
        "failureLimit": pace.failure_limit,
        "inconclusiveLimit": pace.inconclusive_limit,
        "consecutiveErrorLimit": pace.consecutive_error_limit,
    }
    for field, limit in limits.items():
        if limit is not None and limit < 0:
            yield field, f"{limit} is out of range", "0 or more"


def _metric_contradictions(metric: MetricSpec) -> Iterator[Contradiction]:
    is_built_in = metric.name in BUILT_IN
    if not metric.name or (not is_built_in and metric.prometheus is None):
        yield "name", f"there is no metric {metric.name!r}", f"one of {', '.join(BUILT_IN)}, or another name with prometheus"
        return
    if is_built_in and metric.prometheus is not None:
        yield "name", f"{metric.name} is built in and needs no prometheus", "give the query another name"
        return
    allowed = _LIMITS_OF[metric.name if is_built_in else "prometheus"]
    names = dict(zip(metric.__struct_fields__, metric.__struct_encode_fields__, strict=True))
    for name in sorted(set().union(*_LIMITS_OF.values()) - allowed):
        if getattr(metric, name) not in (None, ""):
            right = " and ".join(names[a] for a in sorted(allowed)) or "no limit of its own"
            yield names[name], f"{metric.name} has no {names[name]}", f"leave it out; {metric.name} has {right}"
    if is_built_in and metric.name in _RANGES:
        name, is_right, right = _RANGES[metric.name]
        value = getattr(metric, name)
        if value is not None and not is_right(value):
            yield names[name], f"{value:g} is out of range", f"a number {right}"
    if metric.prometheus is not None:
        yield from _prometheus_contradictions(metric, metric.prometheus)


def _prometheus_contradictions(metric: MetricSpec, query: PrometheusSpec) -> Iterator[Contradiction]:
    if not query.query.strip():
        yield "prometheus.query", "is empty", "PromQL that gives one number"
    for name in re.findall(r"\{\{(.*?)\}\}", query.query):
        if name.strip() not in TEMPLATES:
            yield "prometheus.query", f"{{{{{name}}}}} stands for nothing", f"one of {', '.join('{{%s}}' % t for t in TEMPLATES)}"  # noqa: UP031  braces
    if query.address and not is_url(query.address):
        yield "prometheus.address", f"{query.address!r} is no address", "begin it with http:// or https://, or leave it out"
    if not metric.success_condition and not metric.failure_condition:
        yield "successCondition", "is missing, and so is failureCondition", "at least one of them, for example result < 0.05"
    for field, text in (("successCondition", metric.success_condition), ("failureCondition", metric.failure_condition)):
        if text:
            try:
                condition(text)
            except ValueError as e:
                problem, _, right = str(e).partition("; ")
                yield field, problem, right


def _plan_quality_contradictions(item: MetricSpec, task: str | None, metric: str) -> Iterator[Contradiction]:
    known = {name for names in QUALITY_BY_TASK.values() for name in names}
    if item.metric and item.metric not in known:
        yield "metric", f"there is no quality {item.metric!r}", f"one of {', '.join(sorted(known))}"
        return
    if task is not None and item.metric:
        yield from metric_of_task("metric", item.metric, task)
    quality = item.metric or metric or (default_quality(task) if task is not None else None)
    if item.min is not None and item.max is not None:
        yield "min", "stands beside max", "min of what grows with being right (f1), max of an error (mae)"
    for field, value in (("min", item.min), ("max", item.max)):
        if value is None:
            continue
        if quality is not None and (quality in ERRORS) != (field == "max"):
            yield field, f"{quality} has no {field}", "min of what grows with being right (f1), max of an error (mae)"
        elif not is_quality(quality, value):
            yield field, f"{value:g} is out of range", range_of_quality(quality)


def default_quality(task: str) -> str | None:
    """What good answers are where the spec does not say: F1, accuracy or MAE, by task; None of a tensor model."""
    return {"binary_classification": "f1", "multiclass_classification": "accuracy", "regression": "mae"}.get(task)


def is_worse(metric: str, difference: float) -> bool:
    """Whether a quality that differs by so much from another one is the worse."""
    return difference > 0 if metric in ERRORS else difference < 0


def metric_of_task(field: str, metric: str, task: str) -> list[Contradiction]:
    """What is wrong with a quality's name, for a task."""
    allowed = QUALITY_BY_TASK[task]
    if metric in allowed:
        return []
    right = f"one of {', '.join(allowed)}" if allowed else "leave it out, and measure outcomes in an experiment"
    return [(field, f"{metric} cannot be known of a {task} model", right)]


def is_quality(metric: str | None, value: float) -> bool:
    """Whether a quality can have the value."""
    return 0 <= value < math.inf and (metric is None or metric in ERRORS or value <= 1)


def range_of_quality(metric: str | None) -> str:
    """What values a quality can have."""
    return "0 or more" if metric is None or metric in ERRORS else "a share, from 0 to 1"


def duration_contradictions(field: str, duration: Duration, *, above_0: bool = False) -> Iterator[Contradiction]:
    """What is wrong with a duration."""
    try:
        if seconds(duration) == 0 and above_0:
            yield field, "is 0", "a duration above 0, like 10s"
    except ValueError as e:
        problem, _, right = str(e).partition("; ")
        yield field, problem, right


def is_url(text: str) -> bool:
    """Whether it is the address of a web server."""
    return re.match(r"https?://[^/\s]", text) is not None
