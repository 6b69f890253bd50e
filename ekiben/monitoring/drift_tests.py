"""Whether two samples differ, and by how much: tests and effect sizes on counts in bins.

A window of n rows is compared with a reference of which the share of rows in each bin is known, and how many rows m it was made of.
The reference is a sample too, so all p-values are those of two samples: a small reference proves little.

| figure | says |
|---|---|
| Kolmogorov-Smirnov, chi-squared | whether the difference could be chance |
| population stability index (PSI) | how large it is, whatever n: below 0.1 little, above 0.2 much, by custom |
| Jensen-Shannon distance | the same from 0 (equal) to 1 (nothing in common) |
| Wasserstein distance | how far values would have to move |
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FEWEST_EXPECTED: Final = 5.0
"""Rows that a bin must expect, or it is pooled with others (Cochran, Biometrics 10, 1954)."""

_Z_95: Final = 1.6449
"""One-sided 95 % of the normal distribution."""


class Effect(NamedTuple):
    """A population stability index.

    Attributes:
        psi: Freed of what chance alone would make of it; 0 or more.
        psi_high: Its upper bound, one-sided 95 %: a smaller window knows it less well.
    """

    psi: float
    psi_high: float


def pooled(counts: Array, shares: Array, m: int) -> tuple[Array, Array]:
    """Joins bins in which the window or the reference would be expected to have too few rows for a test.

    Which bins are joined depends on the rows of both together. These do not say which of the two a row belongs to, so the test stays
    true where the bins were found in the data: a rare category that only one of the two happens to hold is nothing special.

    Args:
        counts: Rows of the window, ``[bins]``, in an order that does not depend on them either: bins of as many rows are joined in it.
        shares: Of the reference, ``[bins]``, sum 1.
        m: Rows of the reference, 1 or more.

    Returns:
        Both, of fewer bins, the largest first.
    """
    n = float(counts.sum())
    reference = shares * m
    order = np.argsort(-(counts + reference), kind="stable")
    counts, reference = counts[order], reference[order]
    expected = (counts + reference) * min(n, m) / (n + m)
    n_kept = int(np.count_nonzero(expected >= FEWEST_EXPECTED))
    # Of rare bins none expects as much as half of a group's width, so that each group but the last expects the other half.
    rare = np.cumsum(expected[n_kept:]) // (2 * FEWEST_EXPECTED)
    groups = np.concatenate([np.arange(n_kept), n_kept + rare]).astype(np.int64)
    joined, of_reference = np.bincount(groups, weights=counts), np.bincount(groups, weights=reference)
    too_few = np.bincount(groups, weights=expected)[-1] < FEWEST_EXPECTED
    # Beside a single bin there is nothing to hide in: what a constant changed to stays apart, unless it may be a mistake or two.
    if len(joined) > 2 or (len(joined) == 2 and joined[-1] < FEWEST_EXPECTED):  # noqa: PLR2004  beside a single bin
        keep = len(joined) - int(too_few)
        groups = np.minimum(np.arange(len(joined)), keep - 1)
        joined, of_reference = np.bincount(groups, weights=joined), np.bincount(groups, weights=of_reference)
    return joined, of_reference / m


def ks_p_value(statistic: float, n: int, m: int) -> float:
    """The p-value of a Kolmogorov-Smirnov statistic of samples of n and m values.

    That of the limiting distribution at ``(√k + 0.12 + 0.11 / √k) D`` with ``k = nm / (n + m)`` (Stephens, J. R. Stat. Soc. B 32,
    1970), which holds from k = 4 on. Where the statistic is the largest difference at the edges of bins only, it is at most that of
    the values, and the p-value at least theirs: conservative.
    """
    from scipy.special import kolmogorov  # noqa: PLC0415  a server that never checks needs no scipy

    root = sqrt(n * m / (n + m))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * statistic)) if root else 1.0


def chi_squared(counts: Array, shares: Array, m: int) -> tuple[float, float]:
    """Pearson's chi-squared test of homogeneity of the window's counts and the reference's.

    Args:
        counts: Rows of the window, ``[bins]``, `pooled`.
        shares: Of the reference, ``[bins]``.
        m: Rows of the reference.

    Returns:
        The statistic and its p-value; 0 and 1 where there is but one bin.
    """
    from scipy.stats import chi2_contingency  # noqa: PLC0415  as above

    table = np.array([counts, shares * m], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] <= 1 or not table.sum(axis=1).all():
        return 0.0, 1.0
    statistic, p_value, *_ = chi2_contingency(table, correction=False)
    return float(statistic), float(p_value)


def population_stability(counts: Array, shares: Array, m: int) -> Effect:
    """The population stability index ``Σ (p - q) ln(p / q)`` of shares p of the window and q of the reference.

    Without any drift it is not 0: it is distributed as ``(1/n + 1/m) χ²`` of bins - 1 degrees of freedom (Yurdakul and Naranjo, J. Risk
    Model Validation 14(4), 2020), so its mean, ``(bins - 1)(1/n + 1/m)``, is subtracted. The bound follows from the multinomial variance
    of p and q by the delta method. An empty bin counts as half a row, since the logarithm of 0 is none.

    Args:
        counts: Rows of the window, ``[bins]``, `pooled`.
        shares: Of the reference, ``[bins]``.
        m: Rows of the reference.
    """
    n = float(counts.sum())
    if not n or not m or len(counts) <= 1:
        return Effect(0.0, 0.0)
    p, q = np.maximum(counts / n, 0.5 / n), np.maximum(shares, 0.5 / m)
    ratio = np.log(p / q)
    by_chance = (len(counts) - 1) * (1 / n + 1 / m)
    psi = max(float(np.sum((p - q) * ratio)) - by_chance, 0.0)
    variance = _variance(p, ratio + 1 - q / p) / n + _variance(q, -ratio + 1 - p / q) / m
    return Effect(psi, psi + _Z_95 * sqrt(variance))


def _variance(weights: Array, values: Array) -> float:
    weights = weights / weights.sum()
    return max(float(np.sum(weights * values**2) - np.sum(weights * values) ** 2), 0.0)


def jensen_shannon(counts: Array, shares: Array) -> float:
    """The Jensen-Shannon distance, base 2: the root of the divergence (Endres and Schindelin, IEEE Trans. Inf. Theory 49, 2003)."""
    from scipy.special import rel_entr  # noqa: PLC0415  as above

    if not counts.sum() or not shares.sum():
        return 0.0
    p, q = counts / counts.sum(), shares / shares.sum()
    middle = (p + q) / 2
    divergence = float(np.sum(rel_entr(p, middle) + rel_entr(q, middle))) / 2 / np.log(2)
    return sqrt(min(max(divergence, 0.0), 1.0))


def wasserstein(points: Array, gap: Array, mean_gap: float | None = None) -> float:
    """The area between two distribution functions: how far a value must move on average.

    Between the first and the last point it is that of straight lines (trapezoidal rule). What lies beyond is told by the means, since
    the signed area is their difference: exactly where all of it has one sign (values have moved one way), else at least.

    Args:
        points: ``[k]``, increasing, in whatever unit the distance shall have.
        gap: Share of the window at or below each point, less that of the reference.
        mean_gap: Mean of the reference less that of the window, in that unit; None where nothing lies beyond the points.
    """
    within = float(np.trapezoid(np.abs(gap), points))
    return within if mean_gap is None else within + abs(mean_gap - float(np.trapezoid(gap, points)))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values that may be compared with one level together: of those below it, at most that share is wrong on average.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57, 1995. Where nothing has drifted, the chance that any falls below the level is the level.
    """
    from scipy.stats import false_discovery_control  # noqa: PLC0415  as above

    return [float(p) for p in false_discovery_control(p_values)] if len(p_values) else []
