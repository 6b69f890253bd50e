"""``latencyP95``: how long 95 of 100 requests take at most, as a ratio to the champion's."""

from __future__ import annotations

import math

from ekiben.rollout.bursts import FEWEST_BLOCKS, design_effect
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import FAIL_ALPHA, PASS_ALPHA, Estimate, Finding, duration_of, too_few
from ekiben.rollout.intervals import quantile_interval, rate_interval
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.histogram import Histogram

_Q = 0.95


def latency_p95(metric: ResolvedMetric, evidence: Evidence) -> Finding:
    """The challenger's p95 over the champion's, of requests that were answered.

    Latency is from a request's arrival to its answer; in a shadow stage nobody waits for the challenger, and what its batches
    took is held against what the champion's took.

    Requests of one moment are slow together: a machine that stalls for a moment makes all of them wait. So a challenger fails
    only if it would with as many fewer requests as they come in bursts, see `ekiben.rollout.bursts`, and not in its first seconds.

    The few requests of a small weight wait for the champion's batches, and share none with each other. Where the model itself
    takes a fraction of a millisecond that alone may double their latency, whatever version answers. So a challenger that
    computes surely no more than so many times as long, and keeps the latency budget of its spec, is Successful too.
    """
    limit = 2.0 if metric.max_ratio is None else metric.max_ratio
    what = "compute" if evidence.is_shadow else "latency"
    mine, theirs = getattr(evidence.challenger, what), getattr(evidence.reference, what)
    for whom, n in (("challenger", mine.n), ("champion", theirs.n)):
        if n < metric.min_requests:
            return too_few(whom, n, metric.min_requests, what="answers")
    passing, passing_theirs = _p95(mine, PASS_ALPHA / 2), _p95(theirs, PASS_ALPHA / 2)
    # Shorter than a clock's tick is zero, and nothing is a multiple of that.
    if passing.high <= limit * passing_theirs.low or passing.high == 0:
        text = f"{_told(what, passing, passing_theirs)}, at most {limit:g} times"
        return Finding(outcome="Successful", message=text, challenger=passing, champion=passing_theirs, limit=limit)
    if (why := _waits_only(evidence, passing, limit)) is not None:
        text = f"{_told(what, passing, passing_theirs)}, but {why}"
        return Finding(outcome="Successful", message=text, challenger=passing, champion=passing_theirs, limit=limit)
    failing, failing_theirs = _p95(mine, FAIL_ALPHA / 2), _p95(theirs, FAIL_ALPHA / 2)
    if failing.low > limit * failing_theirs.high:
        text = f"{_told(what, failing, failing_theirs)}, more than {limit:g} times"
        if (doubt := _doubt(evidence, what, limit * failing_theirs.high)) is not None:
            return Finding(outcome="Inconclusive", message=f"{text}, but {doubt}", challenger=failing, champion=failing_theirs, limit=limit)
        return Finding(outcome="Failed", message=text, challenger=failing, champion=failing_theirs, limit=limit)
    text = f"{_told(what, passing, passing_theirs)}; more requests will show whether that is at most {limit:g} times"
    return Finding(outcome="Inconclusive", message=text, challenger=passing, champion=passing_theirs, limit=limit)


def _waits_only(evidence: Evidence, latency: Estimate, limit: float) -> str | None:
    """Why longer latencies are not the challenger's doing and hurt nobody; None where they may be, or do."""
    mine, theirs = evidence.challenger.compute, evidence.reference.compute
    if evidence.is_shadow or not mine.n or not theirs.n or latency.high > evidence.latency_budget_s:
        return None
    computing, computing_theirs = _p95(mine, PASS_ALPHA / 2), _p95(theirs, PASS_ALPHA / 2)
    if computing.high > limit * computing_theirs.low:
        return None
    within = f"within the latency budget of {evidence.latency_budget_s * 1000:g} ms"
    return f"{within}, and it computes at most {limit:g} times as long ({duration_of(computing)}, champion {duration_of(computing_theirs)})"


def _doubt(evidence: Evidence, what: str, slow_s: float) -> str | None:
    """Why slow requests need not be the challenger's fault; None where they are.

    Args:
        evidence: What happened.
        what: ``latency`` or ``compute``.
        slow_s: What takes longer is slow, seconds.
    """
    if not evidence.blocks:
        return None
    apart: list[Histogram] = [getattr(block, what) for block in evidence.blocks]
    counts = [(histogram.above(slow_s), histogram.n) for histogram in apart]
    effect = design_effect(counts)
    if effect is None:
        return f"only {sum(n > 0 for _, n in counts)} of the {FEWEST_BLOCKS} seconds that tell a moment's stall from slowness have passed"
    mine: Histogram = getattr(evidence.challenger, what)
    if rate_interval(mine.above(slow_s) / effect, mine.n / effect, FAIL_ALPHA / 2)[0] > 1 - _Q:
        return None
    return f"the slow ones came in bursts, {effect:.2g} of them count as one"


def _p95(histogram: Histogram, alpha: float) -> Estimate:
    return Estimate(histogram.quantile(_Q), *quantile_interval(histogram, _Q, alpha), histogram.n)


def _told(what: str, mine: Estimate, theirs: Estimate) -> str:
    ratio = f", {mine.value / theirs.value:.2g} times the" if theirs.value > 0 and math.isfinite(mine.value) else ", the"
    return f"the challenger's p95 of {what} is {duration_of(mine)} in {mine.n:,} requests{ratio} champion's {duration_of(theirs)}"
