"""``agreement`` and ``drift``: whether the challenger predicts what the champion does, row by row and on the whole."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import FAIL_ALPHA, PASS_ALPHA, Estimate, Finding, number_of, percent, percent_of, too_few
from ekiben.rollout.intervals import errors_wide, rate_interval
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.histogram import Histogram

Counts = npt.NDArray[np.float64]

_PARTS: Final = 10
_TWO: Final = 2


def agreement(metric: ResolvedMetric, evidence: Evidence) -> Finding | None:
    """Rows of which the shadow predicted the same as the champion; applies in shadow stages only."""
    if not evidence.is_shadow:
        return None
    limit = 0.8 if metric.min is None else metric.min
    window = evidence.challenger
    if window.compared < metric.min_requests:
        return too_few("challenger", window.compared, metric.min_requests, what="compared rows")
    passing, failing = (_agreed(window.agreed, window.compared, alpha) for alpha in (PASS_ALPHA, FAIL_ALPHA))
    about = f"same prediction as the champion's for {percent_of(passing)} of {passing.n:,} rows"
    if passing.low >= limit:
        return Finding(outcome="Successful", message=f"{about}, at least {percent(limit)}", challenger=passing, limit=limit)
    if failing.high < limit:
        about = f"same prediction as the champion's for {percent_of(failing)} of {failing.n:,} rows"
        return Finding(outcome="Failed", message=f"{about}, less than {percent(limit)}", challenger=failing, limit=limit)
    text = f"{about}; more rows will show whether that is at least {percent(limit)}"
    return Finding(outcome="Inconclusive", message=text, challenger=passing, limit=limit)


def drift(metric: ResolvedMetric, evidence: Evidence) -> Finding | None:
    """The population stability index of the predictions, challenger against champion on the same traffic.

    Of a regressor, and of a classifier of two classes, of the scores in tenths of the champion's; else of the classes. PSI is
    the sum of (p - q) ln(p / q) over the parts. Two samples of one distribution differ by (parts - 1) (1 / n + 1 / m) on
    average, which is taken off; and their PSI over (1 / n + 1 / m) has a chi-squared distribution, so that its variance is at
    least twice that of (Yurdakul, Naranjo: "Statistical properties of the population stability index", Journal of Risk Model
    Validation 2020). The rest of the variance is by the delta method. Where the challenger has all traffic there is nothing
    that is the same, and it does not apply.
    """
    parts = _parts(evidence)
    if parts is None or evidence.is_alone:
        return None
    limit = 0.25 if metric.max is None else metric.max
    mine, theirs = parts
    n, m = int(mine.sum()), int(theirs.sum())
    for whom, rows in (("challenger", n), ("champion", m)):
        if rows < metric.min_requests:
            return too_few(whom, rows, metric.min_requests, what="predictions")
    value, error = _stability(mine, theirs)
    passing, failing = (_index(value, error, n, m, alpha) for alpha in (PASS_ALPHA, FAIL_ALPHA))
    about = f"the predictions' PSI against the champion's is {number_of(passing)} in {n:,} and {m:,} rows"
    if passing.high <= limit:
        return Finding(outcome="Successful", message=f"{about}, at most {limit:g}", challenger=passing, limit=limit)
    if failing.low > limit:
        text = f"the predictions' PSI against the champion's is {number_of(failing)} in {n:,} and {m:,} rows, above {limit:g}"
        return Finding(outcome="Failed", message=text, challenger=failing, limit=limit)
    return Finding(
        outcome="Inconclusive", message=f"{about}; more rows will show whether that is at most {limit:g}", challenger=passing, limit=limit
    )


def _agreed(k: int, n: int, alpha: float) -> Estimate:
    """The rate of those that agree, by the rate of those that do not, which is the small one."""
    low, high = rate_interval(n - k, n, alpha)
    return Estimate(k / n, 1 - high, 1 - low, n)


def _index(value: float, error: float, n: int, m: int, alpha: float) -> Estimate:
    half = error * errors_wide(n + m, alpha)
    return Estimate(value, max(0.0, value - half), value + half, n)


def _parts(evidence: Evidence) -> tuple[Counts, Counts] | None:
    """Rows of challenger and champion in the same parts; None of a model that gives neither class nor number."""
    mine, theirs = evidence.challenger, evidence.champion
    if evidence.task == "tensor":
        return None
    has_scores = evidence.task == "regression" or (len(evidence.labels) == _TWO and mine.scores.n > 0 and theirs.scores.n > 0)
    if has_scores:
        return _tenths(mine.scores, theirs.scores)
    classes = sorted({*evidence.labels, *mine.classes, *theirs.classes})
    counts = np.array([[window.classes.get(c, 0) for c in classes] for window in (mine, theirs)], np.float64)
    counts = counts[:, counts.sum(axis=0) > 0]
    return counts[0], counts[1]


def _tenths(mine: Histogram, theirs: Histogram) -> tuple[Counts, Counts]:
    """Counts of both between the deciles of the champion's; fewer parts where deciles fall together."""
    edges = np.unique([theirs.quantile(part / _PARTS) for part in range(1, _PARTS)]) if theirs.n else np.zeros(0)
    counts = np.zeros((2, len(edges) + 1))
    for row, histogram in enumerate((mine, theirs)):
        for value, count in histogram.bins():
            counts[row, np.searchsorted(edges, value)] += count
    counts = counts[:, counts.sum(axis=0) > 0]
    return counts[0], counts[1]


def _stability(mine: Counts, theirs: Counts) -> tuple[float, float]:
    """PSI without what chance adds, and its standard error; half a row is added to each part, so that none is empty."""
    n, m = mine.sum(), theirs.sum()
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (mine, theirs))
    by_chance = 1 / n + 1 / m
    log = np.log(p / q)
    index = float(((p - q) * log).sum() - (len(p) - 1) * by_chance)
    variance = 2 * (len(p) - 1) * by_chance**2
    for share, slope, rows in ((p, log + 1 - q / p, n), (q, -log + 1 - p / q, m)):
        variance += float((share * slope**2).sum() - (share * slope).sum() ** 2) / rows
    return max(0.0, index), float(np.sqrt(variance))
