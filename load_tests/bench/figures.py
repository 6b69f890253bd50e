"""The few statistics the benchmark needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed (the nearest-rank method); NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


def median(values: Iterable[float]) -> float:
    """The median; NaN of none."""
    found = list(values)
    return statistics.median(found) if found else math.nan


def median_or_none(values: Iterable[float]) -> float | None:
    """The median; None of none."""
    found = list(values)
    return median(found) if found else None


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of several counts by name."""
    total: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number
    return total
