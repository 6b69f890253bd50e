"""When a check is due, and which rows it looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ekiben.model.monitor_spec import MonitorSpec
from ekiben.model.rollout_spec import seconds
from ekiben.state.checks import Check

AT_MOST_EVERY_S: Final = 60.0
"""Between two checks of a model."""

MOST_ROWS: Final = 100_000
"""A check looks at so many rows at most, the last ones."""

FIRST_LOOK_S: Final = 28 * 86_400.0
"""How far back a version's first check looks."""

_HALVINGS: Final = 20
_FULL: Final = 0.9

Count = Callable[[float, float], int]
"""Rows that were answered in [since, until), seconds since the epoch."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model's checks are due.

    Attributes:
        is_due: Whether they are.
        why: Because of what, or what they wait for, a few words.
        at: When they are, if nothing else happens, seconds since the epoch; None where only new rows make them due.
        rows: New rows since the last one.
    """

    is_due: bool
    why: str
    at: float | None = None
    rows: int = 0


def due_of(spec: MonitorSpec, *, last: Check | None, rows: int, newest_truth: float | None, now: float) -> Due:
    """Whether a model's checks are due.

    Args:
        spec: How the model is watched.
        last: The last check of its champion; None before the first.
        rows: Rows that were answered since the end of that one; before the first check, since `FIRST_LOOK_S` ago.
        newest_truth: When the newest ground truth happened, seconds since the epoch; None where there is none.
        now: Seconds since the epoch.
    """
    if last is None:
        needed = min(spec.min_rows, spec.every_predictions)
        why = f"{rows} predictions and no check yet" if rows >= needed else f"{rows} of {needed} predictions that a first check needs"
        return Due(is_due=rows >= needed, why=why, rows=rows)
    earliest, regular = last.time + AT_MOST_EVERY_S, max(last.time + seconds(spec.every), last.time + AT_MOST_EVERY_S)
    has_truth = newest_truth is not None and newest_truth > last.time
    at = earliest if rows >= spec.every_predictions else regular if rows or has_truth else None
    if rows >= spec.every_predictions:
        why = f"{rows} new predictions"
    elif rows:
        why = f"{rows} of {spec.every_predictions} new predictions, or {spec.every} after the last check"
    else:
        why = "new ground truth" if has_truth else "no new predictions"
    return Due(is_due=at is not None and at <= now, why=why, at=at, rows=rows)


def window_of(spec: MonitorSpec, *, last: Check | None, until: float, count: Count) -> tuple[float, float]:
    """The rows that a drift check of a version looks at: those answered in [since, until), seconds since the epoch.

    It goes on where the last check ended; where that one had too few rows to say anything, it begins where that one did.

    Args:
        spec: How the model is watched.
        last: The last check of that kind and version; None before the first.
        until: Up to when, seconds since the epoch.
        count: Counts the model's rows.
    """
    if last is None:
        return bounded(until - FIRST_LOOK_S, until, count), until
    return bounded(last.until if last.rows >= spec.min_rows else last.since, until, count), until


def quality_window_of(spec: MonitorSpec, *, until: float, count: Count) -> tuple[float, float]:
    """The rows that a quality check looks at, [since, until), seconds since the epoch.

    They are those of twice the time within which ground truth comes. Where these are more than `MOST_ROWS`, the last so many
    that are old enough to have theirs.
    """
    within = seconds(spec.truth_within)
    since = until - 2 * within
    if bounded(since, until, count) <= since:
        return since, until
    return bounded(since, until - within, count), until - within


def bounded(since: float, until: float, count: Count, most: int = MOST_ROWS) -> float:
    """From when on at most so many rows are, seconds since the epoch.

    It looks back further and further, twice as far each time, and then narrows it down: of a long time with many rows only a
    few times as many are counted as are wanted.
    """
    if since >= until:
        return until
    whole = until - since
    span = whole / 2**_HALVINGS
    while count(max(since, until - span) if span < whole else since, until) <= most:
        if span >= whole:
            return since
        span = min(2 * span, whole)
    few_enough, too_many = span / 2, span
    if span <= whole / 2**_HALVINGS:
        few_enough = 0.0
    for _ in range(_HALVINGS):
        middle = (few_enough + too_many) / 2
        n = count(until - middle, until)
        if n > most:
            too_many = middle
        else:
            few_enough = middle
            if n > _FULL * most:
                break
    return until - few_enough


def has_any(since: float, until: float, count: Count) -> bool:
    """Whether there are any rows, looked for from the end, twice as far back each time."""
    return since < until and bounded(since, until, count, most=0) > since
