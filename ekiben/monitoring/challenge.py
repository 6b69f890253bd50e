"""Whether a new version is better than the champion on rows that it has not seen.

Both answer the same rows, so that what they have in common cancels out: the difference of the quality is measured, with an
interval by the paired bootstrap (Efron, Tibshirani: "An introduction to the bootstrap", 1993, chapters 13 and 16). Rows that lie
close together in time are alike; they are drawn together, a day at a time where there are days enough, else in pieces of equal
length (the block bootstrap: Künsch: "The jackknife and the bootstrap for general stationary observations", Annals of Statistics
1989). Drawn one by one, a single strange day would look like a thousand proofs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.metric_checks import ERRORS
from ekiben.model.outputs import Outputs

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
_FEWEST_DAYS: Final = 14
_MOST_PIECES: Final = 1000
_TWO: Final = 2
_SMALLEST_PROBABILITY: Final = float(np.finfo(np.float32).eps)
_OF_CLASSES: Final = ("f1", "precision", "recall")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two versions do on the same rows.

    Attributes:
        metric: The quality that is compared.
        rows: How many rows.
        pieces: In how many pieces of time they were drawn.
        champion, challenger: The quality of each; NaN where it is not defined.
        difference: By how much the challenger is better: of an error, the champion's less the challenger's.
        low, high: The difference's interval, at 95 %.
        margin: What the difference must surely be above.
        is_better: Whether it is: ``low`` is above ``margin``.
    """

    metric: str
    rows: int
    pieces: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    margin: float
    is_better: bool

    def __str__(self) -> str:
        verdict = "better" if self.is_better else "not better"
        beyond = f" by more than {self.margin:g}" if self.margin else ""
        return (
            f"{verdict}{beyond}: {self.metric} is {self.challenger:.4f}, the champion's {self.champion:.4f}, on the newest "
            f"{self.rows:,} rows; it is ahead by {self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"
        )


def compare(
    metric: str, champion: Outputs, challenger: Outputs, target: Array, times: Array, *, margin: float = 0.0, seed: int = 0
) -> Comparison:
    """Compares what two versions answer to the same rows.

    Args:
        metric: One of `QualitySpec`'s; of several classes, F1, precision and recall are the mean over those that occur.
        champion: What one answers.
        challenger: What the other does.
        target: ``[n]``, what was true: labels as text, or numbers.
        times: ``[n]`` datetime64, rising.
        margin: By how much the challenger must be better.
        seed: Of the draws.
    """
    piece = _pieces(times)
    pieces, sizes = int(piece[-1]) + 1, np.bincount(piece).astype(np.float64)
    mine, theirs = (_summed(_statistics(metric, outputs, target), piece) for outputs in (challenger, champion))
    draws = np.random.default_rng(seed).multinomial(pieces, np.full(pieces, 1 / pieces), size=RESAMPLES).astype(np.float64)
    sign = -1.0 if metric in ERRORS else 1.0

    def quality(side: Numbers, weights: Numbers) -> Numbers:
        return _quality(metric, weights @ side, weights @ sizes)

    whole = np.ones((1, pieces))
    own, others = (float(quality(side, whole)[0]) for side in (mine, theirs))
    drawn = sign * (quality(mine, draws) - quality(theirs, draws))
    defined = drawn[np.isfinite(drawn)]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if defined.size > RESAMPLES * LEVEL else (math.nan, math.nan)
    return Comparison(
        metric=metric,
        rows=len(target),
        pieces=pieces,
        champion=others,
        challenger=own,
        difference=sign * (own - others),
        low=float(low),
        high=float(high),
        margin=margin,
        is_better=bool(low > margin),
    )


def _pieces(times: Array) -> Array:
    """The piece of time that each row belongs to, from 0, rising."""
    days = np.unique(times.astype("datetime64[D]"), return_inverse=True)[1]
    if days[-1] + 1 >= _FEWEST_DAYS:
        return days
    n = len(times)
    return np.arange(n) * min(n, _MOST_PIECES) // n


def _summed(statistics: Numbers, piece: Array) -> Numbers:
    """Sums over the rows of each piece, ``[pieces, statistics]``."""
    return np.stack([np.bincount(piece, weights=column) for column in statistics.T], axis=1)


def _statistics(metric: str, outputs: Outputs, target: Array) -> Numbers:
    """What of each row goes into the sums that the quality is made of, ``[n, k]``."""
    if metric in ("mae", "rmse"):
        away: Numbers = np.abs(outputs.arrays["prediction"].astype(np.float64).reshape(len(target)) - target)
        errors: Numbers = away if metric == "mae" else away**2
        return errors[:, None]
    assert outputs.class_index is not None
    labels = np.array(outputs.labels, object)
    if metric in ("brier", "log_loss"):
        positive, score = (target == labels[1]).astype(np.float64), outputs.arrays["probabilities"][:, 1].astype(np.float64)
        if metric == "brier":
            squares: Numbers = (score - positive) ** 2
            return squares[:, None]
        score = np.clip(score, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        losses: Numbers = -np.log(np.where(positive == 1, score, 1 - score))
        return losses[:, None]
    predicted = labels[outputs.class_index]
    if metric == "accuracy":
        hits: Numbers = (predicted == target).astype(np.float64)
        return hits[:, None]
    return _counts(predicted, target, outputs.labels[1:] if len(labels) == _TWO else outputs.labels)


def _counts(predicted: Array, target: Array, classes: Sequence[str]) -> Numbers:
    """Of each class: whether it was hit, predicted, and true; ``[n, 3 * classes]``."""
    columns = []
    for label in classes:
        said, is_true = predicted == label, target == label
        columns += [said & is_true, said, is_true]
    counts: Numbers = np.stack(columns, axis=1).astype(np.float64)
    return counts


def _quality(metric: str, sums: Numbers, rows: Numbers) -> Numbers:
    """The quality of each draw, ``[draws]``, from its sums, ``[draws, k]``; NaN where it is not defined."""
    if metric not in _OF_CLASSES:
        mean: Numbers = sums[:, 0] / rows
        root: Numbers = np.sqrt(mean)
        return root if metric == "rmse" else mean
    hits, said, true = (sums[:, start::3] for start in range(3))
    over, against = {"f1": (2 * hits, said + true), "precision": (hits, said), "recall": (hits, true)}[metric]
    ratios = np.divide(over, against, out=np.full(over.shape, np.nan), where=against > 0)
    occurs = ~np.isnan(ratios)
    counted = occurs.sum(axis=1)
    total = np.where(occurs, ratios, 0.0).sum(axis=1)
    macro: Numbers = np.divide(total, counted, out=np.full(len(total), np.nan), where=counted > 0)
    return macro
