"""Alert rules: whether one holds now, judged by the latest checks and by what the workers report.

| when | holds where | default of the threshold |
|---|---|---|
| ``drift`` | an input that is not ignored drifted; with ``above``, its PSI is above it | as the check judged |
| ``score_drift`` | the same of scores or classes | as the check judged |
| ``quality`` | the quality is bad; with ``below`` (of an error ``above``), the metric's value is beyond it | as the check judged |
| ``ground_truth_age`` | the newest ground truth, and a prediction, are older than so many seconds | twice ``truth_within`` |
| ``log_dropping`` | the inference log could not keep more than so many rows of the last five minutes | 0 |
| ``error_rate`` | more than this share of the requests of the last five minutes failed | 0.05 |
| ``latency`` | p95 of the last five minutes is above so many milliseconds | ``latency_budget_ms`` |

A rule that looks at checks is judged once a check, any other once a minute. Where there is too little to judge (a check that says
``unknown``, less than 20 requests in five minutes) it neither begins nor ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ekiben.model.monitor_spec import AlertSpec
from ekiben.model.rollout_spec import seconds
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.check_due import has_any
from ekiben.monitoring.check_figures import ColumnFigures, figures_of
from ekiben.state.checks import Check
from ekiben.state.windows import Window

LOOK_S: Final = 300.0
"""What rules about requests look back at."""

MIN_REQUESTS: Final = 20
"""Of fewer requests nothing is said."""

DEFAULT_ERROR_RATE: Final = 0.05
_EVERY_S: Final = 60.0
_HOUR_S: Final = 3600.0
_NAMED: Final = 3


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What rules of one model are judged by.

    Attributes:
        spec: The model's spec.
        version: Its champion.
        now: Seconds since the epoch.
        drift, quality: The champion's latest checks of all arms; None before the first.
        requests: What happened to the requests of the last five minutes, all versions together, without shadows.
        newest_truth: When the newest ground truth happened, seconds since the epoch; None where there is none.
        count: Counts the model's rows that were answered in [since, until).
    """

    spec: ModelSpec
    version: str
    now: float
    drift: Check | None
    quality: Check | None
    requests: Window
    newest_truth: float | None
    count: Callable[[float, float], int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a rule holds.

    Attributes:
        holds: Whether it does; None where there is too little to say.
        time: When what it was judged by was found, seconds since the epoch; the same again counts once.
        message: What was found, a sentence.
        value, threshold: The figure, and what it was held against; None where there is none.
        version: The version; empty where it is about all.
    """

    holds: bool | None
    time: float
    message: str
    value: float | None = None
    threshold: float | None = None
    version: str = ""


def judge(rule: AlertSpec, facts: Facts) -> Verdict:
    """Whether a rule holds."""
    minute = facts.now - facts.now % _EVERY_S
    if rule.when == "drift":
        return _drift(rule, facts, ("input",), "no input drifted")
    if rule.when == "score_drift":
        return _drift(rule, facts, ("score", "class"), "neither scores nor classes drifted")
    if rule.when == "quality":
        return _quality(rule, facts)
    if rule.when == "ground_truth_age":
        return _truth_age(rule, facts, minute)
    if rule.when == "log_dropping":
        return _dropping(rule, facts, minute)
    return (_error_rate if rule.when == "error_rate" else _latency)(rule, facts, minute)


def names_of(rules: Sequence[AlertSpec]) -> list[str]:
    """The rules' names: what they look at, from the second of the same kind on with a number behind it."""
    seen: dict[str, int] = {}
    names = []
    for rule in rules:
        seen[rule.when] = n = seen.get(rule.when, 0) + 1
        names.append(rule.when if n == 1 else f"{rule.when}-{n}")
    return names


def _drift(rule: AlertSpec, facts: Facts, kinds: tuple[str, ...], otherwise: str) -> Verdict:
    check = facts.drift
    if check is None:
        return Verdict(holds=None, time=0.0, message="there is no drift check yet", version=facts.version)
    columns = [c for c in figures_of(check).columns if c.kind in kinds and not c.ignored]
    value = max((c.psi for c in columns if c.psi is not None), default=None)
    bad = [c for c in columns if c.drifted] if rule.above is None else [c for c in columns if c.psi is not None and c.psi > rule.above]
    known = check.outcome != "unknown" and bool(columns)
    message = f"{_named(bad)} drifted, in {check.rows} rows" if bad else f"{otherwise} in {check.rows} rows"
    return Verdict(
        holds=bool(bad) if known else None,
        time=check.time,
        message=message if known else check.summary,
        value=value,
        threshold=rule.above,
        version=check.version,
    )


def _named(columns: list[ColumnFigures]) -> str:
    """The columns that differ most."""
    worst = sorted(columns, key=lambda c: -(c.psi or 0.0))
    named = ", ".join(c.name if c.psi is None else f"{c.name} (PSI {c.psi:.2f})" for c in worst[:_NAMED])
    return named if len(worst) <= _NAMED else f"{named} and {len(worst) - _NAMED} more"


def _quality(rule: AlertSpec, facts: Facts) -> Verdict:
    check = facts.quality
    if check is None:
        return Verdict(holds=None, time=0.0, message="there is no quality check yet", version=facts.version)
    figures = figures_of(check)
    metric = figures.metrics.get(figures.metric)
    value = None if metric is None else metric.value
    threshold = rule.below if rule.below is not None else rule.above
    holds: bool | None = {"ok": False, "bad": True}.get(check.outcome)
    if threshold is not None:
        holds = None if value is None or check.outcome == "unknown" else _is_beyond(rule, value)
    elif facts.spec.quality is not None:
        threshold = facts.spec.quality.threshold
    return Verdict(holds=holds, time=check.time, message=check.summary, value=value, threshold=threshold, version=check.version)


def _is_beyond(rule: AlertSpec, value: float) -> bool:
    return (rule.below is not None and value < rule.below) or (rule.above is not None and value > rule.above)


def _truth_age(rule: AlertSpec, facts: Facts, minute: float) -> Verdict:
    limit = rule.above if rule.above is not None else 2 * seconds(facts.spec.monitor.truth_within)
    newest, now = facts.newest_truth, facts.now
    age = None if newest is None else max(0.0, now - newest)
    is_old = age is None or age > limit
    holds = is_old and has_any(now - 2 * limit, now - limit, facts.count)
    said = "there is no ground truth" if age is None else f"the newest ground truth is {_hours(age)} old"
    owed = f", and predictions older than {_hours(limit)} are without" if holds else ""
    return Verdict(holds=holds, time=minute, message=f"{said}{owed}", value=age, threshold=limit)


def _dropping(rule: AlertSpec, facts: Facts, minute: float) -> Verdict:
    limit, dropped = rule.above or 0.0, facts.requests.unlogged
    message = f"the inference log could not keep {dropped} rows in {LOOK_S / 60:g} minutes"
    return Verdict(holds=dropped > limit, time=minute, message=message, value=float(dropped), threshold=limit)


def _error_rate(rule: AlertSpec, facts: Facts, minute: float) -> Verdict:
    limit = rule.above if rule.above is not None else DEFAULT_ERROR_RATE
    # What an arm failed and the champion answered instead is there twice, and nobody saw the failure.
    fallbacks = facts.requests.fallbacks
    requests, failed = facts.requests.requests - fallbacks, facts.requests.failed - fallbacks
    rate = failed / requests if requests else 0.0
    message = f"{rate:.1%} of {requests} requests failed in {LOOK_S / 60:g} minutes"
    return Verdict(holds=_of_enough(requests, rate > limit), time=minute, message=message, value=rate, threshold=limit)


def _latency(rule: AlertSpec, facts: Facts, minute: float) -> Verdict:
    limit = rule.above if rule.above is not None else facts.spec.latency_budget_ms
    latency = facts.requests.latency
    if not latency.n:
        return Verdict(holds=False, time=minute, message=f"no request was answered in {LOOK_S / 60:g} minutes", threshold=limit)
    p95_ms = 1000 * latency.quantile(0.95)
    message = f"p95 is {p95_ms:.3g} ms of {latency.n} requests in {LOOK_S / 60:g} minutes; {limit:g} ms will do"
    return Verdict(holds=_of_enough(latency.n, p95_ms > limit), time=minute, message=message, value=p95_ms, threshold=limit)


def _of_enough(requests: int, holds: bool) -> bool | None:  # noqa: FBT001  what was found, of so many
    return holds if requests >= MIN_REQUESTS else None if requests else False


def _hours(duration_s: float) -> str:
    return f"{duration_s / _HOUR_S:.3g} h" if duration_s >= _HOUR_S else f"{duration_s / 60:.3g} min"
