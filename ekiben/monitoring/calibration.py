"""Calibration: whether of the rows that were given a probability of 80 percent, 80 in 100 are so."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

BINS: Final = 15


class CalibrationBin(msgspec.Struct, frozen=True):
    """Rows of similar probabilities.

    Attributes:
        rows: How many.
        probability: Their mean probability.
        share: Which share of them is so.
    """

    rows: int
    probability: float
    share: float


def calibration_error(probabilities: Numbers, hits: Numbers, weights: Numbers | None = None) -> Numbers:
    """The expected calibration error: how far probability and share are apart, the mean over all rows.

    The rows are put into 15 bins of equal width by their probability; a bin's distance is that of its mean probability from its share
    of hits, and bins count by their rows (Naeini, Cooper, Hauskrecht: "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI 2015; 15 bins as Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML 2017). Chance alone
    makes it positive: with few rows it is too high.

    Args:
        probabilities: ``[n]``, 0 to 1.
        hits: ``[n]``, 1 where it was so, else 0.
        weights: ``[b, n]``, how many times each row counts; None counts each once.

    Returns:
        ``[b]``.
    """
    bins = _bins(probabilities)
    if weights is None:
        weights = np.ones((1, len(bins)))
    # Rows over rows cancels out: a bin's share of the rows times its distance is the sum of its residuals over all rows.
    residuals = weights @ ((hits - probabilities)[:, None] * (bins[:, None] == np.arange(BINS)))
    errors: Numbers = np.abs(residuals).sum(axis=1) / weights.sum(axis=1)
    return errors


def calibration_bins(probabilities: Numbers, hits: Numbers) -> tuple[CalibrationBin, ...]:
    """The bins of `calibration_error` that have rows, from the lowest probability to the highest."""
    bins = _bins(probabilities)
    rows, sums, shares = (np.bincount(bins, weights=values, minlength=BINS) for values in (None, probabilities, hits))
    return tuple(CalibrationBin(int(n), float(p / n), float(h / n)) for n, p, h in zip(rows, sums, shares, strict=True) if n)


def _bins(probabilities: Numbers) -> npt.NDArray[np.intp]:
    return np.clip((probabilities * BINS).astype(np.intp), 0, BINS - 1)
