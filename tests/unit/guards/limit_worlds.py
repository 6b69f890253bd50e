"""What tests of limits share: a clock, rates, requests one after another."""

from __future__ import annotations

from ekiben.guards.rates import EPOCH_S, rates_of
from ekiben.model.guard_spec import RateSpec

NOW = EPOCH_S + 28_000_000.0


class Clock:
    """Seconds that a test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rates(*specs, scope="m"):
    return rates_of([spec if isinstance(spec, RateSpec) else RateSpec(**spec) for spec in specs], scope)


async def allowed(counts, rate, name, times, cost=1.0):
    """How many of so many costs one rate allows."""
    return sum([(await counts.take([rate], [name], cost)).allowed for _ in range(times)])
