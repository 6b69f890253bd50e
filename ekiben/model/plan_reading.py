"""Reads plans as people write them: with short forms of steps, and with what would be right where one cannot be read."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ekiben.errors import SpecError
from ekiben.model.rollout_checks import plan_contradictions
from ekiben.model.rollout_spec import (
    AnalysisSpec,
    HeaderMatch,
    HeaderRouteSpec,
    HookSpec,
    MetricSpec,
    PauseSpec,
    PlanSpec,
    PrometheusSpec,
    ShadowSpec,
    StepSpec,
    StringMatch,
)

_UNTIL_APPROVED = "until approved"
_PARTS: Final[dict[str, type[msgspec.Struct]]] = {
    "": PlanSpec,
    "steps": StepSpec,
    "pause": PauseSpec,
    "shadow": ShadowSpec,
    "setHeaderRoute": HeaderRouteSpec,
    "match": HeaderMatch,
    "headerValue": StringMatch,
    "analysis": AnalysisSpec,
    "metrics": MetricSpec,
    "prometheus": PrometheusSpec,
    "hooks": HookSpec,
}


def plan_from_builtins(raw: Any, *, file: str, task: str | None = None, metric: str = "") -> PlanSpec:
    """Makes a plan of dicts and lists, as YAML or JSON give them, and checks it.

    Args:
        raw: The plan.
        file: What errors call it.
        task: The model's task; None checks only what is wrong of any model.
        metric: The quality that the model's spec names; empty takes that of the task.

    Raises:
        SpecError: A field is missing, unknown, of the wrong type, or contradicts another.
    """
    try:
        plan = msgspec.convert(with_steps_spelt_out(raw), PlanSpec, strict=True)
    except msgspec.ValidationError as e:
        problem, _, where = str(e).partition(" - at `$")
        where = where.rstrip("`").lstrip(".")
        raise SpecError(file, where or "(top)", problem, right_in_plan(problem, where)) from None
    check_plan(plan, file=file, task=task, metric=metric)
    return plan


def check_plan(plan: PlanSpec, *, file: str, task: str | None = None, metric: str = "") -> None:
    """Checks a plan; see `plan_from_builtins`.

    Raises:
        SpecError: Fields contradict each other.
    """
    for field, problem, right in plan_contradictions(plan, task, metric):
        raise SpecError(file, field, problem, right)


def with_steps_spelt_out(raw: Any) -> Any:
    """The plan with its short forms as mappings: the word ``shadow``, ``pause: until approved``, ``pause: 10m``."""
    if not isinstance(raw, dict) or not isinstance(raw.get("steps"), list | tuple):
        return raw
    return {**raw, "steps": [_spelt_out(step) for step in raw["steps"]]}


def with_short_forms(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema that holds a plan's, with the short forms of steps allowed; it is changed in place."""
    parts = schema["$defs"]
    steps = parts["PlanSpec"]["properties"]["steps"]
    steps["items"] = {"anyOf": [steps["items"], {"const": "shadow"}]}
    step = parts["StepSpec"]["properties"]
    step["pause"]["anyOf"] = [*step["pause"]["anyOf"], {"type": ["string", "number"]}]
    return schema


def right_in_plan(problem: str, where: str) -> str:
    """What would be right where a plan cannot be read.

    Args:
        problem: As msgspec says it.
        where: Path of the field, or of what holds it, in the plan.
    """
    part = _PARTS.get(re.sub(r"\[\d+\]$", "", where).rpartition(".")[2])
    if "field" in problem and part is not None:
        return f"there are the fields {', '.join(part.__struct_encode_fields__)}; see docs/70-rollouts.md"
    if "object" in problem and part is StepSpec:
        return "a step is shadow, or one of setWeight, pause, shadow and setHeaderRoute with its value, for example setWeight: 5"
    return "see docs/70-rollouts.md for what is allowed here"


def _spelt_out(step: Any) -> Any:
    if step == "shadow":
        return {"shadow": {}}
    if not isinstance(step, dict):
        return step
    spelt = dict(step)
    if "shadow" in step and step["shadow"] is None:
        spelt["shadow"] = {}
    pause = step.get("pause", {})
    if pause is None or pause == _UNTIL_APPROVED:
        spelt["pause"] = {}
    elif isinstance(pause, str | int | float):
        spelt["pause"] = {"duration": pause}
    return spelt
