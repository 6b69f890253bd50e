"""What a model's guards must not say."""

from __future__ import annotations

from collections.abc import Iterator

from ekiben.model.guard_spec import BreakerSpec, CacheSpec, LimitsSpec, RateSpec
from ekiben.model.rollout_spec import Duration, seconds

Contradiction = tuple[str, str, str]
"""Field, what is wrong, what would be right."""


def limits_contradictions(limits: LimitsSpec) -> list[Contradiction]:
    """What is wrong with a model's limits."""
    found = [
        (f"limits.{field}", "is out of range", "must be 1 or more, or left out")
        for field in ("max_rows", "concurrent")
        if (value := getattr(limits, field)) is not None and value < 1
    ]
    for n, rate in enumerate(limits.rates):
        found += [(f"limits.rates[{n}].{field}", problem, right) for field, problem, right in rate_contradictions(rate)]
    return found


def rate_contradictions(rate: RateSpec) -> Iterator[Contradiction]:
    """What is wrong with one rate."""
    if (rate.requests is None) == (rate.rows is None):
        yield "requests", "must stand alone or leave its place to rows", "say either requests or rows"
        return
    most = rate.requests if rate.requests is not None else rate.rows
    if most is not None and not 0 < most < float("inf"):
        yield "requests" if rate.requests is not None else "rows", f"is {most:g}", "must be more than 0"
    elif most is not None and most < 1 and rate.algorithm == "sliding_window":
        yield "requests" if rate.requests is not None else "rows", f"is {most:g}, so none would ever fit", "take 1 in a longer time"
    yield from _duration("every", rate.every)
    if rate.burst is not None:
        if rate.algorithm != "token_bucket":
            yield "burst", "goes with a token bucket alone", "leave it out: a sliding window has none"
        elif not 1 <= rate.burst < float("inf"):
            yield "burst", f"is {rate.burst:g}", "must be 1 or more"


def breaker_contradictions(breaker: BreakerSpec) -> list[Contradiction]:
    """What is wrong with a breaker."""
    found = [
        (f"breaker.{field}", "is out of range", f"must be {right}")
        for field, ok, right in (
            ("error_rate", 0 < breaker.error_rate <= 1, "above 0 and at most 1; to have none say enabled: false"),
            ("min_requests", breaker.min_requests >= 1, "1 or more"),
            ("probes", breaker.probes >= 1, "1 or more"),
        )
        if not ok
    ]
    for field in ("window", "open_for"):
        found += [(f"breaker.{name}", problem, right) for name, problem, right in _duration(field, getattr(breaker, field))]
    if (breaker.fallback == "default") != (breaker.default is not None):
        found.append(("breaker.default", "goes with fallback: default", "give both, or neither"))
    return found


def cache_contradictions(cache: CacheSpec) -> list[Contradiction]:
    """What is wrong with a cache."""
    found = [(f"cache.{name}", problem, right) for name, problem, right in _duration("ttl", cache.ttl)]
    if not 0 < cache.max_mb < float("inf"):
        found.append(("cache.max_mb", "is out of range", "must be more than 0; to keep nothing say enabled: false"))
    return found


def _duration(field: str, duration: Duration) -> Iterator[Contradiction]:
    try:
        value = seconds(duration)
    except ValueError as e:
        yield field, str(e), "a duration above 0"
        return
    if not value:
        yield field, "is 0", "must be more than 0"
