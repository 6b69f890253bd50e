"""Which rows teach, which tune, and which judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.datasets import DataError, Dataset

_FEWEST_DAYS = 7


@dataclass(frozen=True)
class Split:
    """Three parts of a dataset that share no row.

    Attributes:
        train: What the model learns from.
        validation: What the decision threshold is tuned on; None where nothing is tuned.
        test: What the metrics are measured on; nothing about the model was chosen by it.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset


def by_days(data: Dataset, *, validation: float = 0.15, test: float = 0.15) -> Split:
    """Splits by whole days in the order of time, as the model will be used: the last days judge it, those before tune it.

    A random split would let the model learn the weather of a day from some of its flights, and be judged on the others.

    Args:
        data: Rows with times.
        validation: Share of the days.
        test: Share of the days.

    Raises:
        DataError: The rows have no times, or span less than a week.
    """
    if data.times is None:
        raise DataError(f"{data.name} has no times to split by")
    days = data.times.astype("datetime64[D]")
    distinct = np.unique(days)
    if len(distinct) < _FEWEST_DAYS:
        raise DataError(f"{data.name} spans {len(distinct)} days; a split by time needs {_FEWEST_DAYS} at least")
    n_test, n_validation = max(round(len(distinct) * test), 1), max(round(len(distinct) * validation), 1)
    first_test, first_validation = distinct[-n_test], distinct[-n_test - n_validation]
    return Split(
        data.take(days < first_validation),
        data.take((days >= first_validation) & (days < first_test)),
        data.take(days >= first_test),
    )


def at_random(data: Dataset, *, test: float = 0.25, seed: int = 0) -> Split:
    """Splits into two parts at random; equal seeds, equal parts."""
    order = np.random.default_rng(seed).permutation(data.n)
    n_test = round(data.n * test)
    return Split(data.take(np.sort(order[n_test:])), None, data.take(np.sort(order[:n_test])))
