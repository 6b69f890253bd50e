"""Histograms that can be added: logarithmic bins, so that a quantile is right within two percent whatever the scale.

The bins are those of DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019), one each
for the positive and the negative numbers, and one for zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

GROWTH: Final = 1.04
"""Each bin's upper edge over its lower edge."""

SMALLEST: Final = 1e-9
"""What is nearer to zero counts as zero."""

_LOG_GROWTH: Final = math.log(GROWTH)


class Histogram(msgspec.Struct, omit_defaults=True):
    """Counts of numbers; NaN and infinities are left out.

    Attributes:
        positive: Bin → count; bin i holds numbers above ``GROWTH ** (i - 1)`` up to ``GROWTH ** i``.
        negative: The same of the numbers' absolute values.
        zeros: Count of numbers that are zero.
        total: Sum of all numbers.
    """

    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    zeros: int = 0
    total: float = 0.0

    @staticmethod
    def of(values: Any) -> Histogram:
        """The histogram of numbers: a list or array, of any shape."""
        numbers = np.asarray(values, np.float64).reshape(-1)
        numbers = numbers[np.isfinite(numbers)]
        positive, negative = numbers[numbers > SMALLEST], -numbers[numbers < -SMALLEST]
        zeros = len(numbers) - len(positive) - len(negative)
        return Histogram(_binned(positive), _binned(negative), zeros, float(numbers.sum()))

    @property
    def n(self) -> int:
        """How many numbers."""
        return sum(self.positive.values()) + sum(self.negative.values()) + self.zeros

    @property
    def mean(self) -> float:
        """Their mean; NaN of none."""
        n = self.n
        return self.total / n if n else math.nan

    def __add__(self, other: Histogram) -> Histogram:
        """Both together."""
        return Histogram(
            _added(self.positive, other.positive), _added(self.negative, other.negative), self.zeros + other.zeros, self.total + other.total
        )

    def bins(self) -> Iterator[tuple[float, int]]:
        """A number in the middle of each bin that is not empty, and its count, from the smallest number to the largest."""
        for i in sorted(self.negative, reverse=True):
            yield -_middle(i), self.negative[i]
        if self.zeros:
            yield 0.0, self.zeros
        for i in sorted(self.positive):
            yield _middle(i), self.positive[i]

    def quantile(self, q: float) -> float:
        """The q-quantile (0 to 1), right within two percent; NaN of none."""
        return self.of_rank(math.ceil(q * self.n))

    def of_rank(self, rank: int) -> float:
        """The rank-th smallest number, counted from 1 and kept within 1 and n; NaN of none."""
        seen = 0
        found = math.nan
        for found, count in self.bins():  # noqa: B007  the last one where the rank is beyond all
            seen += count
            if seen >= rank:
                break
        return found

    def above(self, limit: float) -> int:
        """How many numbers are larger than the limit, right but for those in the limit's own bin."""
        return sum(count for value, count in self.bins() if value > limit)


def _binned(absolute: npt.NDArray[np.float64]) -> dict[int, int]:
    if not len(absolute):
        return {}
    bins, counts = np.unique(np.ceil(np.log(absolute) / _LOG_GROWTH).astype(np.int64), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def _middle(i: int) -> float:
    return 2 * GROWTH**i / (GROWTH + 1)


def _added(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    both = dict(one)
    for i, count in other.items():
        both[i] = both.get(i, 0) + count
    return both
