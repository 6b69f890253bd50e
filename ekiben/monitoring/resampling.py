"""Intervals of 95 percent: Wilson's of a share, the bootstrap's of any statistic that can be had of weighted rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

Statistics = Callable[[Numbers], Mapping[str, Numbers]]
"""Of weights ``[b, m]``, so many times each row is counted, the statistics' values ``[b]`` by name."""

RESAMPLES: Final = 200
MOST_ROWS: Final = 20_000
_ERRORS_WIDE: Final = 1.959963984540054
_AT_ONCE: Final = 50
_SEED: Final = 20_250_101


class Estimate(msgspec.Struct, frozen=True):
    """A value, and the interval that holds the real one in 95 of 100 cases.

    Attributes:
        value: The value.
        low, high: The interval; None where too little is known for one.
    """

    value: float
    low: float | None
    high: float | None


def share_estimate(k: int, n: int) -> Estimate:
    """A share: k of n, n above 0.

    The interval is that of Wilson: "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 1927. It stays within 0 and 1, and has a width where none or all have it.
    """
    share, z2 = k / n, _ERRORS_WIDE**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _ERRORS_WIDE * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Of none and of all an end is 0 and 1 exactly, which rounding would miss by a hair.
    return Estimate(share, max(middle - half, 0.0) if k else 0.0, min(middle + half, 1.0) if k < n else 1.0)


def mean_estimate(values: Numbers) -> Estimate:
    """A mean of ``[n]`` numbers, n above 0: of zeros and ones a share, of others by the central limit theorem."""
    if np.isin(values, (0.0, 1.0)).all():
        return share_estimate(int(values.sum()), len(values))
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, None, None)
    half = _ERRORS_WIDE * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


class Bootstrap:
    """Draws rows again, with replacement (Efron, Tibshirani: "An Introduction to the Bootstrap", 1993).

    An interval is the value and 1.96 standard errors to each side: for those, 200 resamples do, while the percentiles' tails would
    need a thousand (chapters 6 and 13). Of many rows a part is drawn from, and the error scaled by the root of the part's size over
    theirs, as a standard error falls with the root of n (Politis, Romano, Wolf: "Subsampling", 1999). The same rows give the same
    interval. Rows count as independent: those of one user, which suffer together, make it too narrow.

    Args:
        n: How many rows there are, 1 or more.
        most: From how many is drawn, at most.
    """

    def __init__(self, n: int, *, most: int = MOST_ROWS) -> None:
        self._random = np.random.default_rng(_SEED)
        self.rows: Indices = np.arange(n) if n <= most else np.sort(self._random.choice(n, most, replace=False))
        self._scale = math.sqrt(len(self.rows) / n)

    def errors(self, statistics: Statistics) -> dict[str, float]:
        """Standard errors by name; infinity where most resamples do not define the statistic.

        Args:
            statistics: Of the rows ``self.rows``.
        """
        found: dict[str, list[Numbers]] = {}
        for _ in range(RESAMPLES // _AT_ONCE):
            for name, values in statistics(self._weights()).items():
                found.setdefault(name, []).append(values)
        return {name: self._error(np.concatenate(values)) for name, values in found.items()}

    def _weights(self) -> Numbers:
        m = len(self.rows)
        drawn = self._random.integers(0, m, (_AT_ONCE, m)) + np.arange(_AT_ONCE)[:, None] * m
        return np.bincount(drawn.ravel(), minlength=_AT_ONCE * m).reshape(_AT_ONCE, m).astype(np.float64)

    def _error(self, values: Numbers) -> float:
        finite = values[np.isfinite(values)]
        return float(finite.std(ddof=1)) * self._scale if len(finite) > len(values) / 2 else math.inf


def around(value: float, error: float, *, one_more: float = 0.0, low: float = -math.inf, high: float = math.inf) -> Estimate:
    """An estimate of a value and its standard error.

    Args:
        value: The value.
        error: Its standard error; infinity where none is known.
        one_more: How much one more row might move it: a hundred right answers have no variance, and do not show that the next is
            right, so the square of this is added to that of the error.
        low: The least that it can be.
        high: The most.
    """
    if math.isinf(error):
        return Estimate(value, None, None)
    half = _ERRORS_WIDE * math.hypot(error, one_more)
    return Estimate(value, max(value - half, low), min(value + half, high))
