"""Whether a plan's steps, routing and quality make sense: each contradiction with its field and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ekiben.model.metric_checks import (
    Contradiction,
    analysis_contradictions,
    duration_contradictions,
    is_quality,
    is_url,
    metric_of_task,
    range_of_quality,
)
from ekiben.model.rollout_spec import HeaderRouteSpec, PlanSpec, QualitySpec, RoutingSpec, StepSpec

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def routing_contradictions(routing: RoutingSpec, inputs: Mapping[str, str]) -> list[Contradiction]:
    """What is wrong with a spec's ``routing``.

    Args:
        routing: What keeps a user on one version.
        inputs: Input → its type.
    """
    found = []
    if routing.header and not _HEADER_NAME.fullmatch(routing.header):
        found.append(
            ("routing.header", f"{routing.header!r} cannot be the name of a header", "letters, digits and hyphens, like X-User-Id")
        )
    if routing.input and routing.input not in inputs:
        found.append(("routing.input", f"there is no input {routing.input!r}", f"one of {', '.join(inputs)}"))
    elif routing.input and inputs[routing.input] == "tensor":
        found.append(("routing.input", f"{routing.input!r} is a tensor", "an input with one value a row, that is the same for a user"))
    return found


def quality_contradictions(quality: QualitySpec, task: str) -> list[Contradiction]:
    """What is wrong with a spec's ``quality``."""
    found = metric_of_task("quality.metric", quality.metric, task)
    if quality.threshold is not None and not is_quality(quality.metric, quality.threshold):
        found.append(("quality.threshold", f"{quality.threshold:g} is out of range", range_of_quality(quality.metric)))
    return found


def plan_contradictions(plan: PlanSpec, task: str | None = None, metric: str = "") -> Iterator[Contradiction]:
    """What is wrong with a plan; see `plan_from_builtins`."""
    if not plan.steps:
        yield "steps", "is empty", "a plan has at least one step, for example setWeight: 5"
    yield from _steps_contradictions(plan.steps)
    yield from duration_contradictions("scaleDownDelaySeconds", plan.scale_down_delay_seconds)
    if plan.analysis is not None:
        for field, problem, right in analysis_contradictions(plan.analysis, task, metric):
            yield f"analysis.{field}", problem, right
    for n, hook in enumerate(plan.hooks):
        if not is_url(hook.url):
            yield f"hooks[{n}].url", f"{hook.url!r} is no address", "begin it with http:// or https://"


def _steps_contradictions(steps: tuple[StepSpec, ...]) -> Iterator[Contradiction]:
    weight = 0.0
    routes: set[str] = set()
    for n, step in enumerate(steps):
        given = [name for name, field in _step_fields(step) if field is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "is empty"
            yield f"steps[{n}]", what, "each step is one of setWeight, pause, shadow and setHeaderRoute"
            continue
        for field, problem, right in _step_contradictions(step, weight, routes):
            yield f"steps[{n}].{field}", problem, right
        weight = step.set_weight if step.set_weight is not None else weight
        if step.set_header_route is not None:
            routes.add(step.set_header_route.name)


def _step_fields(step: StepSpec) -> list[tuple[str, object]]:
    return list(zip(step.__struct_encode_fields__, (getattr(step, name) for name in step.__struct_fields__), strict=True))


def _step_contradictions(step: StepSpec, weight: float, routes: set[str]) -> Iterator[Contradiction]:
    """What is wrong with a step, after steps that left the challenger with this weight and these header routes."""
    if step.set_weight is not None:
        if not 0 <= step.set_weight <= 100:  # noqa: PLR2004  percent
            yield "setWeight", f"{step.set_weight:g} is no weight", "percent of the traffic, 0 to 100"
        elif abs(round(step.set_weight * 100) - step.set_weight * 100) > 1e-6:  # noqa: PLR2004  what floats cannot tell apart
            yield "setWeight", f"{step.set_weight!r} is too fine", "hundredths of a percent at the finest, like 0.25"
    if step.pause is not None and step.pause.duration is not None:
        yield from duration_contradictions("pause.duration", step.pause.duration)
    if step.shadow is not None:
        if not 0 < step.shadow.rate <= 1:
            yield "shadow.rate", f"{step.shadow.rate:g} is no share", "above 0, and at most 1 for all rows"
        if weight > 0:
            yield "shadow", f"the challenger has {weight:g} percent of the traffic here", "shadow before it, or after setWeight: 0"
    if step.set_header_route is not None:
        for field, problem, right in _header_contradictions(step.set_header_route, routes):
            yield f"setHeaderRoute.{field}", problem, right


def _header_contradictions(route: HeaderRouteSpec, routes: set[str]) -> Iterator[Contradiction]:
    if not route.name:
        yield "name", "is empty", "a name, by which a later step can take the route away"
    if not route.match and route.name not in routes:
        yield "match", f"is empty, and no earlier step made {route.name!r}", "the headers that a request must have"
    for n, match in enumerate(route.match):
        if not _HEADER_NAME.fullmatch(match.header_name):
            yield f"match[{n}].headerName", f"{match.header_name!r} cannot be the name of a header", "letters, digits and hyphens"
        value = match.header_value
        given = [v for v in (value.exact, value.prefix, value.regex) if v is not None]
        if len(given) != 1:
            yield f"match[{n}].headerValue", f"has {len(given)} of its fields", "one of exact, prefix and regex"
        elif value.regex is not None:
            try:
                re.compile(value.regex)
            except re.error as e:
                yield f"match[{n}].headerValue.regex", f"{value.regex!r} is no regular expression: {e}", "one that Python's re compiles"
