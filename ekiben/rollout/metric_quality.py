"""``quality``: how good the answers are whose truth is known by now, the challenger's against the champion's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ekiben.model.metric_checks import ERRORS, default_quality, is_worse
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import FAIL_ALPHA, PASS_ALPHA, Estimate, Finding, number_of, too_few
from ekiben.rollout.intervals import mean_interval
from ekiben.rollout.plan import ResolvedMetric
from ekiben.rollout.quality import Quality, Row, error_of, quality_of, row_of
from ekiben.state.measurements import Outcome

_PINNED = "pinned"
_ENOUGH_TO_FAIL = 30
"""Rows that each side's quality must rest on: with a handful of a rare class, F1's interval misses too often."""


class _Side(msgspec.Struct):
    """Rows of one version, and the routing key of each."""

    rows: list[Row] = []
    keys: list[str] = []


class _Errors(msgspec.Struct):
    """Standard errors, and how many independent rows each rests on, as `error_of` gives them.

    Attributes:
        mine, theirs: Of each side's quality.
        paired: Of the difference, where both sides have the same rows.
    """

    mine: tuple[float, int]
    theirs: tuple[float, int]
    paired: tuple[float, int] | None


class _Compared(msgspec.Struct):
    """Both sides at their levels.

    Attributes:
        mine, theirs: Value and interval of each, at one level.
        difference: The challenger's less the champion's.
        counted: Rows that the qualities rest on, of the side that has fewer.
    """

    mine: Estimate
    theirs: Estimate
    difference: Estimate
    counted: int


def quality(metric: ResolvedMetric, evidence: Evidence) -> Finding | None:
    """The quality on all rows of this rollout whose truth is known.

    Failed when the challenger's is worse than the champion's beyond noise; or beyond the threshold beyond noise while the
    champion's keeps it. Successful when nothing shows that it is worse, and its value keeps the threshold: to show that two
    models are equally good takes far more truths than a rollout sees. Truth that comes late never holds a rollout up: without
    any the metric does not apply, unless the plan asks for it with a threshold.

    Rows that a shadow computed too are compared in pairs, which needs far fewer of them. Requests that a client sent to a
    version by its name are left out: they are not a draw of the traffic.
    """
    spec = _spec(metric, evidence)
    if spec is None:
        return None
    mine, theirs, is_paired = _sides(evidence, metric.min_requests)
    if not mine.rows and not theirs.rows and spec.threshold_of_plan is None:
        return None
    for whom, side in (("challenger", mine), ("champion", theirs)):
        if len(side.rows) < metric.min_requests:
            return too_few(whom, len(side.rows), metric.min_requests, what="rows with ground truth")
    own, others = (quality_of(spec.metric, side.rows, evidence.labels) for side in (mine, theirs))
    if math.isnan(own.value) or math.isnan(others.value):
        text = f"{spec.metric} is not defined: no row was predicted as, or is, a class that it counts"
        return Finding(outcome="Inconclusive", message=text)
    errors = _Errors(
        error_of(own.moves, mine.keys, own.largest),
        error_of(others.moves, theirs.keys, others.largest),
        error_of(own.moves - others.moves, mine.keys, max(own.largest, others.largest)) if is_paired else None,
    )
    passing, failing = (_compared(own, others, errors, alpha) for alpha in (PASS_ALPHA, FAIL_ALPHA))
    return _judged(spec, passing, failing, is_paired=is_paired)


class _Wanted(msgspec.Struct, frozen=True):
    """What is measured, with the threshold that is in force and the plan's own."""

    metric: str
    threshold: float | None
    threshold_of_plan: float | None


def _spec(metric: ResolvedMetric, evidence: Evidence) -> _Wanted | None:
    name = metric.metric or (evidence.quality.metric if evidence.quality is not None else default_quality(evidence.task))
    if name is None:
        return None
    of_plan = metric.max if name in ERRORS else metric.min
    of_spec = evidence.quality.threshold if evidence.quality is not None and evidence.quality.metric == name else None
    return _Wanted(name, of_plan if of_plan is not None else of_spec, of_plan)


def _sides(evidence: Evidence, enough: int) -> tuple[_Side, _Side, bool]:
    """The challenger's rows, the champion's, and whether they are the same rows in the same order."""
    answered: tuple[dict[tuple[str, int], Row], dict[tuple[str, int], Row]] = ({}, {})
    keys: dict[tuple[str, int], str] = {}
    for exposure, truth in evidence.joined:
        if exposure.arm == _PINNED or exposure.version not in (evidence.challenger_version, evidence.champion_version):
            continue
        row = row_of(exposure, truth, evidence.labels)
        if row is not None:
            key = (exposure.request_id, exposure.row)
            answered[exposure.version == evidence.champion_version][key] = row
            keys[key] = exposure.key
    mine, theirs = answered
    paired = [key for key in mine if key in theirs]
    if len(paired) >= max(enough, (len(mine) - len(paired)) // 10):
        return _side(mine, keys, paired), _side(theirs, keys, paired), True
    return _side(mine, keys, list(mine)), _side(theirs, keys, list(theirs)), False


def _side(rows: dict[tuple[str, int], Row], keys: dict[tuple[str, int], str], which: Sequence[tuple[str, int]]) -> _Side:
    return _Side([rows[key] for key in which], [keys[key] for key in which])


def _compared(own: Quality, others: Quality, errors: _Errors, alpha: float) -> _Compared:
    """Both sides with intervals at a level that holds for the two of them and their difference together."""
    (own_error, own_n), (others_error, others_n) = errors.mine, errors.theirs
    apart, n = errors.paired or (math.hypot(own_error, others_error), own_n + others_n)
    difference = own.value - others.value
    alpha /= 2
    return _Compared(
        Estimate(own.value, *mean_interval(own.value, own_error, own_n, alpha), len(own.moves)),
        Estimate(others.value, *mean_interval(others.value, others_error, others_n, alpha), len(others.moves)),
        Estimate(difference, *mean_interval(difference, apart, n, alpha), n),
        min(own.counted, others.counted),
    )


def _judged(wanted: _Wanted, passing: _Compared, failing: _Compared, *, is_paired: bool) -> Finding:
    metric, threshold = wanted.metric, wanted.threshold

    def finding(outcome: Outcome, text: str, at: _Compared) -> Finding:
        rows = f"{at.mine.n:,} rows" if is_paired else f"{at.mine.n:,} and {at.theirs.n:,} rows"
        message = f"{metric} of the challenger is {number_of(at.mine)}, the champion's {number_of(at.theirs)}, on {rows} with truth: {text}"
        return Finding(outcome=outcome, message=message, challenger=at.mine, champion=at.theirs, limit=threshold)

    def is_beyond(value: float) -> bool:
        return threshold is not None and is_worse(metric, value - threshold)

    best = failing.mine.low if metric in ERRORS else failing.mine.high
    may_fail = failing.counted >= _ENOUGH_TO_FAIL
    if may_fail and _is_surely_worse(metric, failing):
        return finding("Failed", f"worse, {number_of(failing.difference)} apart", failing)
    if may_fail and is_beyond(best):
        if is_beyond(failing.theirs.value):
            return finding("Inconclusive", f"surely beyond {threshold:g}, but so is the champion", failing)
        return finding("Failed", f"surely beyond {threshold:g}", failing)
    if _is_surely_worse(metric, passing):
        return finding("Inconclusive", "probably worse; more rows will show it", passing)
    if is_beyond(passing.mine.value):
        return finding("Inconclusive", f"beyond {threshold:g}, which may be noise", passing)
    return finding("Successful", "nothing shows that it is worse", passing)


def _is_surely_worse(metric: str, compared: _Compared) -> bool:
    return is_worse(metric, compared.difference.low) and is_worse(metric, compared.difference.high)
