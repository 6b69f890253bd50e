"""What is promised of the cache: one Ekiben against itself, within a round."""

from __future__ import annotations

from typing import Final

from load_tests.bench.results import Promise, Results
from load_tests.bench.routing_promises import over_plain
from load_tests.bench.sides import CACHED, CACHED_MODEL

GAIN: Final = 1.3
"""Where 40 % of the requests need no computing, a model that does nothing else could do 1.67 times as many."""

COST_PERCENT: Final = 95.0


def judge_remembering(results: Results) -> list[Promise]:
    """Holds a run against what is promised; what was not measured is listed all the same."""
    gain, cost = (_ratio(results, percent) for percent in (40, 0))
    where = "1 worker, 32 connections"
    return [
        Promise(promise=f"cache, {CACHED_MODEL}: rps over that without, 40 % repeat", where=where, found=gain, target=GAIN, unit="x"),
        Promise(
            promise=f"cache, {CACHED_MODEL}: rps of that without, nothing repeats",
            where=where,
            found=None if cost is None else cost * 100,
            target=COST_PERCENT,
            unit="%",
        ),
    ]


def _ratio(results: Results, percent: int) -> float | None:
    records = [r for r in results.cached if r.repeats_percent == percent]
    return over_plain(records, CACHED, (records[0].workers, records[0].connections)) if records else None
