"""One column of the log beside its reference: both in the reference's bins, and the figures that come of it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.profile import Distribution
from ekiben.monitoring.drift_tests import (
    FEWEST_EXPECTED,
    chi_squared,
    jensen_shannon,
    ks_p_value,
    pooled,
    population_stability,
    wasserstein,
)
from ekiben.monitoring.log_columns import Kind, LogColumn, categories, elements, is_list, is_text, n_elements, numbers

Array = npt.NDArray[Any]


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How a column differs from its reference. Shares are from 0 to 1.

    Attributes:
        name: The input's or output's.
        kind: An input, a score (any number that the model gives), or the predicted class.
        type: ``bool``, ``int``, ``float``, ``string``, or ``tensor``, of which the mean of each row is compared.
        test: Kolmogorov-Smirnov for numbers, chi-squared for categories.
        statistic: The test's, of the values that are there.
        p_value: The smaller one of the test's and of that for missing values, doubled where there were both.
        p_adjusted: Corrected over all columns that count, and apart from them over those that are ignored.
        psi, psi_high: Population stability index, missing values as a bin of their own, and its upper 95 % bound.
        wasserstein: How far values move on average, in standard deviations of the reference; None for categories, and where it has none.
        jensen_shannon: Distance from 0 to 1.
        missing, missing_reference: Share of missing values, of a tensor of its elements.
        out_of_range: Share of the values outside of what the reference holds; None where that is not known.
        unseen: Share of the values that are categories which the reference does not hold; None for numbers, or where not all are known.
        drifted: The p-value is small enough and the effect large enough.
        ignored: It never makes the model count as drifted.
    """

    name: str
    kind: Kind
    type: str
    test: Literal["ks", "chi2"]
    statistic: float
    p_value: float
    p_adjusted: float = 1.0
    psi: float
    psi_high: float
    wasserstein: float | None = None
    jensen_shannon: float
    missing: float
    missing_reference: float
    out_of_range: float | None = None
    unseen: float | None = None
    drifted: bool = False
    ignored: bool = False


def column_drift(column: LogColumn, reference: Distribution, m: int, against: LogColumn | None = None) -> ColumnDrift | None:
    """Compares a column with its reference.

    Args:
        column: Of the window; one row at least.
        reference: Its distribution, see `ekiben.model.profile`.
        m: How many rows that was made of.
        against: Those rows themselves, where there are any: numbers are tested exactly then, not in bins.

    Returns:
        None where the two are not of one kind: numbers here, categories there.
    """
    if is_text(column) != (reference["kind"] == "categorical"):
        return None
    return _of_categories(column, reference, m) if is_text(column) else _of_numbers(column, reference, m, against)


def _of_categories(column: LogColumn, reference: Distribution, m: int) -> ColumnDrift:
    names, found = categories(column)
    known = {name: share for name, share in reference["shares"].items() if share > 0}
    where = pc.index_in(names, pa.array(list(known), pa.string()))
    is_unseen = where.is_null().to_numpy(zero_copy_only=False)
    n_values, there, unlisted = n_elements(column), int(found.sum()), int(found[is_unseen].sum())
    counts, shares = _beside(names, found, where, known)
    if reference["other"] > 0:
        # Which of those the reference does not list it has all the same is not known: they are one.
        counts, shares = counts[shares > 0], shares[shares > 0]
        counts, shares = np.append(counts, unlisted), np.append(shares, reference["other"])
    missing = reference["missing"]
    # The elements of one row's tensor depend on each other: what counts as evidence are rows.
    per_row = len(column.values) / n_values if n_values else 0.0
    counts = np.append(counts, n_values - there) * per_row
    shares = np.append(shares * (1 - missing), missing)
    joined = pooled(counts, shares, m)
    statistic, p_value = chi_squared(*joined, m)
    effect = population_stability(*joined, m)
    return ColumnDrift(
        name=column.name,
        kind=column.kind,
        type=column.type,
        test="chi2",
        statistic=statistic,
        p_value=p_value,
        psi=effect.psi,
        psi_high=effect.psi_high,
        jensen_shannon=jensen_shannon(counts, shares),
        missing=_share(n_values - there, n_values),
        missing_reference=missing,
        unseen=None if reference["other"] > 0 else _share(unlisted, there),
    )


def _beside(names: pa.Array, found: Array, where: pa.Array, known: dict[str, float]) -> tuple[Array, Array]:
    """Counts and shares of all categories that either side has, by name: an order in which nothing says which side has them."""
    is_unseen = where.is_null().to_numpy(zero_copy_only=False)
    listed = np.zeros(len(known))
    listed[where.drop_null().to_numpy()] = found[~is_unseen]
    every = pa.concat_arrays([pa.array(list(known), pa.string()), names.filter(where.is_null())])
    order = pc.sort_indices(every).to_numpy()
    counts = np.concatenate([listed, found[is_unseen]])
    return counts[order], np.concatenate([list(known.values()), np.zeros(int(is_unseen.sum()))])[order]


def _of_numbers(column: LogColumn, reference: Distribution, m: int, against: LogColumn | None) -> ColumnDrift:
    values = numbers(column)
    finite = values[np.isfinite(values)]
    grid = _Grid(finite, reference)
    # Of a tensor `missing` tells of elements, which are no evidence of their own, and a row hardly ever lacks all of them.
    is_tensor = is_list(column)
    missing_reference = 0.0 if is_tensor else reference["missing"]
    absent = 0 if is_tensor else len(values) - len(finite)
    counts = np.array([*grid.counts, absent])
    shares = np.array([*(grid.shares * (1 - missing_reference)), missing_reference])
    m_there = round(m * (1 - missing_reference))
    if against is None:
        statistic = grid.largest_gap()
        p_value = ks_p_value(statistic, len(finite), m_there) if len(finite) and m_there else 1.0
    else:
        statistic, p_value = _two_sample(finite, against)
    effect = population_stability(*pooled(counts, shares, m), m)
    return ColumnDrift(
        name=column.name,
        kind=column.kind,
        type=column.type,
        test="ks",
        statistic=statistic,
        p_value=_with_missing(p_value, absent, len(values), missing_reference, m),
        psi=effect.psi,
        psi_high=effect.psi_high,
        wasserstein=grid.distance(),
        jensen_shannon=jensen_shannon(counts, shares),
        missing=_missing_elements(column) if is_tensor else _share(absent, len(values)),
        missing_reference=reference["missing"],
        out_of_range=_elements_out_of_range(column, reference) if is_tensor else grid.out_of_range(),
    )


class _Grid:
    """The numbers of a window, all of them finite, in the bins of their reference."""

    def __init__(self, finite: Array, reference: Distribution) -> None:
        self.n = len(finite)
        self._edges = np.asarray(reference["edges"], np.float64)
        shares = np.asarray(reference["shares"], np.float64)
        self._is_known = bool(shares.sum() > 0)
        self.shares = shares if self._is_known else np.full(len(shares), 1 / len(shares))
        # Comparing with each of a few edges reads the values in order; searching each value among the edges is ten times slower.
        self._at_or_below = np.array([np.count_nonzero(finite <= edge) for edge in self._edges], np.int64)
        self.counts = np.diff(self._at_or_below, prepend=0, append=self.n)
        # A tensor's smallest and largest are those of its elements, not of the means that are in the bins.
        low, high = (None, None) if reference["kind"] == "tensor" else (reference["min"], reference["max"])
        self._below = 0 if low is None else int(np.count_nonzero(finite < low))
        self._above = 0 if high is None else int(np.count_nonzero(finite > high))
        self._has_range = low is not None
        self._mean: float | None = reference["mean"] if self._has_range else None
        self._std: float | None = reference["std"] if self._has_range else None
        self._own_mean = float(finite.mean()) if self.n else 0.0

    def largest_gap(self) -> float:
        """The largest difference of the distribution functions where that of the reference is known: at edges, minimum and maximum."""
        if not self.n or not self._is_known:
            return 0.0
        gaps = np.abs(self._at_or_below / self.n - np.cumsum(self.shares)[:-1])
        return float(max([*gaps.tolist(), self._below / self.n, self._above / self.n]))

    def out_of_range(self) -> float | None:
        """The share of the values below the reference's smallest and above its largest."""
        return _share(self._below + self._above, self.n) if self._has_range else None

    def distance(self) -> float | None:
        """The Wasserstein distance in standard deviations of the reference; None where that is 0 or not known.

        Of scores and tensors the reference says neither mean nor deviation, but their bins are even: the outermost are taken to be as wide
        as those beside them, and all values to lie in the middle of their bin.
        """
        if not self.n or not self._is_known or not len(self._edges):
            return None
        gap = self._at_or_below / self.n - np.cumsum(self.shares)[:-1]
        mean, std = self._mean, self._std
        if mean is None or std is None:
            width = float(self._edges[-1] - self._edges[0]) / max(len(self._edges) - 1, 1)
            middles = np.array([self._edges[0] - width / 2, *(self._edges + width / 2)])
            mean = float(np.sum(self.shares * middles))
            std = float(np.sqrt(np.sum(self.shares * (middles - mean) ** 2)))
        return wasserstein(self._edges / std, gap, (mean - self._own_mean) / std) if std else None


def _two_sample(finite: Array, against: LogColumn) -> tuple[float, float]:
    """Kolmogorov-Smirnov's statistic and asymptotic p-value of the values themselves."""
    from scipy.stats import ks_2samp  # noqa: PLC0415  a server that never checks needs no scipy

    other = numbers(against)
    other = other[np.isfinite(other)]
    if not len(finite) or not len(other):
        return 0.0, 1.0
    tested = ks_2samp(finite, other, method="asymp")
    return float(tested.statistic), float(tested.pvalue)


def _with_missing(p_value: float, absent: int, n: int, missing_reference: float, m: int) -> float:
    """The p-value of values and of missing ones together: twice the smaller (Bonferroni), where any are missing here or there."""
    if not absent and not missing_reference:
        return p_value
    share = min(max(missing_reference, 0.0), 1.0)
    if max(absent, share * n) < FEWEST_EXPECTED:
        return p_value
    _, of_missing = chi_squared(np.array([n - absent, absent]), np.array([1 - share, share]), m)
    return min(1.0, 2 * min(p_value, of_missing))


def _elements_out_of_range(column: LogColumn, reference: Distribution) -> float | None:
    if reference["min"] is None:
        return None
    every = elements(column)
    every = every[np.isfinite(every)]
    return _share(int(np.count_nonzero((every < reference["min"]) | (every > reference["max"]))), len(every))


def _missing_elements(column: LogColumn) -> float:
    every = elements(column)
    return _share(int(np.count_nonzero(~np.isfinite(every))), len(every))


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
