"""``errorRate`` and ``invalidRate``: how often the challenger fails, and how often it refuses what the champion takes."""

from __future__ import annotations

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import FAIL_ALPHA, PASS_ALPHA, Estimate, Finding, percent, percent_of, too_few
from ekiben.rollout.intervals import rate_interval
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.measurements import Outcome
from ekiben.state.windows import Window


def error_rate(metric: ResolvedMetric, evidence: Evidence) -> Finding:
    """Requests that ended with an error that was not the client's fault, of all that were not.

    Failed when the challenger's rate is above ``max`` and above the champion's, both beyond noise. Where both suffer alike
    the challenger is not at fault, and it is Inconclusive. A champion without any request leaves the limit alone to decide.
    """
    limit = 0.05 if metric.max is None else metric.max
    window, reference = evidence.challenger, evidence.reference
    if window.requests < metric.min_requests:
        return too_few("challenger", window.requests, metric.min_requests)
    mine = _share(window.failed, window.requests, PASS_ALPHA)
    theirs = _share(reference.failed, reference.requests, PASS_ALPHA)
    about = f"{percent_of(mine)} of the challenger's {mine.n:,} requests failed{_mostly(window)}"
    if mine.high <= limit:
        return _found("Successful", f"{about}, within {percent(limit)}", mine, theirs, limit)
    surely = _share(window.failed, window.requests, FAIL_ALPHA / 2)
    if surely.low <= limit:
        return _found("Inconclusive", f"{about}; more requests will show whether that is within {percent(limit)}", mine, theirs, limit)
    about = f"{percent_of(surely)} of the challenger's {surely.n:,} requests failed{_mostly(window)}, above {percent(limit)}"
    surely_theirs = _share(reference.failed, reference.requests, FAIL_ALPHA / 2)
    if reference.requests == 0:
        return _found("Failed", f"{about}; the champion has no requests to compare with", surely, None, limit)
    if surely.low > surely_theirs.high:
        against = f"and above the champion's {percent_of(surely_theirs)} of {surely_theirs.n:,}"
        return _found("Failed", f"{about} {against}", surely, surely_theirs, limit)
    against = f"but the champion's {percent_of(surely_theirs)} of {surely_theirs.n:,} may be just as many"
    return _found("Inconclusive", f"{about}, {against}", surely, surely_theirs, limit)


def invalid_rate(metric: ResolvedMetric, evidence: Evidence) -> Finding:
    """Requests that were refused as the client's fault, of all; the limit is how much the challenger's share may exceed the champion's.

    What a shadow is given the champion has taken already, so each that a shadow refuses is a difference.
    """
    limit = 0.05 if metric.max is None else metric.max
    window, reference = evidence.challenger, evidence.reference
    n, m = window.requests + window.invalid, reference.requests + reference.invalid
    if n < metric.min_requests:
        return too_few("challenger", n, metric.min_requests)
    if not evidence.is_shadow and m < metric.min_requests:
        return too_few("champion", m, metric.min_requests)

    def at(alpha: float) -> tuple[Estimate, Estimate]:
        mine = _share(window.invalid, n, alpha / 2)
        return mine, Estimate(0.0, 0.0, 0.0, m) if evidence.is_shadow else _share(reference.invalid, m, alpha / 2)

    mine, theirs = at(PASS_ALPHA)
    if mine.high - theirs.low <= limit:
        return _found("Successful", f"{_refused(mine, theirs)}, within {percent(limit)} of each other", mine, theirs, limit)
    surely, surely_theirs = at(FAIL_ALPHA)
    if surely.low - surely_theirs.high > limit:
        text = f"{_refused(surely, surely_theirs)}, more than {percent(limit)} apart"
        return _found("Failed", text, surely, surely_theirs, limit)
    text = f"{_refused(mine, theirs)}; more requests will show whether they are within {percent(limit)} of each other"
    return _found("Inconclusive", text, mine, theirs, limit)


def _share(k: int, n: int, alpha: float) -> Estimate:
    return Estimate(k / n if n else 0.0, *rate_interval(k, n, alpha), n)


def _found(outcome: Outcome, message: str, mine: Estimate, theirs: Estimate | None, limit: float) -> Finding:
    return Finding(
        outcome=outcome,
        message=message,
        challenger=mine,
        champion=theirs if theirs is not None and theirs.n else None,
        limit=limit,
    )


def _refused(mine: Estimate, theirs: Estimate) -> str:
    return (
        f"{percent_of(mine)} of the challenger's {mine.n:,} requests were refused as invalid, "
        f"{percent_of(theirs)} of the champion's {theirs.n:,}"
    )


def _mostly(window: Window) -> str:
    if not window.errors:
        return ""
    return f", mostly with {max(window.errors, key=lambda kind: window.errors[kind])}"
