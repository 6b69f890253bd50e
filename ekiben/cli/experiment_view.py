"""An experiment as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from ekiben.cli.printing import print_fields, print_table
from ekiben.rollout.experiment_view import Comparison, ExperimentArm, ExperimentView
from ekiben.rollout.views import Interval

_ARM_HEADINGS = ("ARM", "VERSION", "WEIGHT", "USERS", "ROWS", "KNOWN", "COVERAGE", "METRIC")
_COMPARISON_HEADINGS = ("ARM", "AGAINST", "DIFFERENCE", "P-VALUE", "VERDICT")


def print_experiment(view: ExperimentView) -> None:
    """Prints an experiment: what it is, its arms, their differences, and what they say."""
    print_fields(_head(view))
    print_table(_ARM_HEADINGS, [_arm(arm) for arm in view.arms])
    found = [c for c in view.comparisons if c.difference.value is not None]
    if found:
        print_table(_COMPARISON_HEADINGS, [_comparison(c) for c in found])
    print_fields(_foot(view))


def summary_line(view: ExperimentView) -> str:
    """Where it stands, in a line."""
    parts = [view.status, view.next or view.conclusion, "" if view.split.is_right else f"WARNING: {view.split.message}"]
    return f"{view.id}: {'; '.join(part for part in parts if part)}"


def state_of(view: ExperimentView) -> tuple[object, ...]:
    """What makes a new line worth its place: what it says, without the numbers that always move."""
    return view.status, view.message, view.next, view.split.is_right, tuple((c.arm, c.verdict) for c in view.comparisons)


def _head(view: ExperimentView) -> Iterator[tuple[str, str]]:
    yield "experiment", view.id
    yield "status", view.status + (f": {view.message}" if view.message else "")
    yield "champion", view.champion
    yield "metric", view.metric
    yield "started", f"{_moment(view.created)} by {view.created_by}"
    yield "users since", _moment(view.began)
    yield "ended", _moment(view.ended)
    yield "next", view.next


def _foot(view: ExperimentView) -> Iterator[tuple[str, str]]:
    yield "WARNING" if not view.split.is_right else "split", view.split.message
    yield "conclusion", view.conclusion
    yield "method", view.method


def _arm(arm: ExperimentArm) -> tuple[str, ...]:
    coverage = "-" if arm.coverage is None else f"{arm.coverage * 100:.3g} %"
    counts = (f"{n:,}" for n in (arm.users, arm.rows, arm.known_rows))
    return arm.name, arm.version, f"{arm.weight:g} %", *counts, coverage, _interval(arm.value)


def _comparison(found: Comparison) -> tuple[str, ...]:
    return found.arm, found.against, _interval(found.difference, sign="+"), f"{found.p_value:.2g} (of {found.alpha:.2g})", found.verdict


def _interval(found: Interval, *, sign: str = "") -> str:
    if found.value is None:
        return "-"
    value = f"{found.value:{sign}.4g}"
    return value if found.low is None or found.high is None else f"{value} ({found.low:{sign}.4g} to {found.high:{sign}.4g})"


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else ""
