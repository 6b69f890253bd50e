"""Quality of answers whose truth is known: the value, and how much each row moves it, which gives the value's error.

A mean is moved by each row as much as the row deviates from it. F1, precision, recall and RMSE are functions of means; by the
delta method a row moves them by the function's derivative times its deviations (van der Vaart: "Asymptotic Statistics", 1998,
chapters 3 and 20). Rows of one routing key belong together and count as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.labels import label_of, number_of
from ekiben.state.truth import Exposure, Truth

Numbers = npt.NDArray[np.float64]

_SMALLEST_PROBABILITY: Final = float(np.finfo(np.float32).eps)
_TWO: Final = 2


class Row(msgspec.Struct, frozen=True):
    """What was answered and what is true.

    Attributes:
        predicted: The predicted class, or number.
        actual: The real one.
        score: The probability of a binary classifier's positive class; None of others.
    """

    predicted: str | float
    actual: str | float
    score: float | None = None


class Quality(msgspec.Struct, frozen=True):
    """How good some rows' answers are.

    Attributes:
        value: The quality; NaN where it is not defined: precision without a row that was predicted positive.
        moves: How much each row moves it, ``[n]``; their sum is 0, the value's variance is their variance over n.
        largest: How much one more row might move it, about.
        counted: Rows that it rests on: all, or, of F1, precision and recall, those of the class that has the fewest.
    """

    value: float
    moves: Numbers
    largest: float
    counted: int


def row_of(exposure: Exposure, truth: Truth, labels: Sequence[str]) -> Row | None:
    """The row of an exposure; None where it says nothing: the answer, or what was true, is no class or no number."""
    if exposure.prediction is None or truth.actual is None:
        return None
    if not labels:
        predicted, actual = number_of(exposure.prediction), number_of(truth.actual)
        return None if predicted is None or actual is None else Row(predicted, actual)
    label = label_of(truth.actual, labels)
    return None if label is None else Row(str(exposure.prediction), label, exposure.score if len(labels) == _TWO else None)


def quality_of(metric: str, rows: Sequence[Row], labels: Sequence[str] = ()) -> Quality:
    """How good the answers are.

    Args:
        metric: One of `QualitySpec`'s; of several classes, F1, precision and recall are the mean over those that occur.
        rows: At least one.
        labels: The classes; of two, the second is the positive one.
    """
    if metric in ("f1", "precision", "recall"):
        classes = labels[1:] if len(labels) == _TWO else labels
        predicted, actual = (np.array([getattr(r, field) for r in rows]) for field in ("predicted", "actual"))
        found = [_of_class(metric, predicted == label, actual == label) for label in classes]
        defined = [q for q in found if not math.isnan(q.value)]
        if not defined:
            return Quality(math.nan, np.zeros(len(rows)), 0.0, 0)
        return Quality(
            float(np.mean([q.value for q in defined])),
            np.mean([q.moves for q in defined], axis=0),
            float(np.mean([q.largest for q in defined])),
            min(q.counted for q in defined),
        )
    numbers = _ROW_BY_ROW[metric](rows, labels)
    mean = float(numbers.mean())
    moves = numbers - mean
    if metric == "rmse" and mean > 0:
        mean, moves = math.sqrt(mean), moves / (2 * math.sqrt(mean))
    return Quality(mean, moves, 1.0 if metric in ("accuracy", "brier") else float(np.abs(moves).max()), len(rows))


def error_of(moves: Numbers, keys: Sequence[str], largest: float) -> tuple[float, int]:
    """The standard error of a quality, or of a difference, and how many independent units it rests on.

    Rows of a key are added before the variance is taken (Liang, Zeger: "Longitudinal data analysis using generalized linear
    models", Biometrika 1986). As if one more row moved the value by ``largest``, its square is added: a hundred right answers
    have no variance, and do not show that the hundred and first is right.

    Args:
        moves: How much each row moves the value, ``[n]``.
        keys: The routing key of each.
        largest: How much one more row might.
    """
    _, of_row = np.unique(np.asarray(keys), return_inverse=True)
    units = np.bincount(of_row, weights=moves)
    sizes = np.bincount(of_row)
    squares = float((units**2).sum()) + (largest * float(sizes.max())) ** 2
    return math.sqrt(squares) / len(moves), len(units)


def _of_class(metric: str, predicted: npt.NDArray[np.bool_], actual: npt.NDArray[np.bool_]) -> Quality:
    """A ratio of means: of hits, once or twice, over what F1, precision or recall hold them against."""
    hits = (predicted & actual).astype(np.float64)
    against = {"precision": predicted.astype(np.float64), "recall": actual.astype(np.float64)}.get(metric)
    if against is None:
        hits, against = 2 * hits, predicted.astype(np.float64) + actual.astype(np.float64)
    mean = float(against.mean())
    if mean == 0:
        return Quality(math.nan, np.zeros(len(hits)), 0.0, 0)
    value = float(hits.mean()) / mean
    return Quality(value, (hits - value * against) / mean, 1 / mean, int(np.count_nonzero(against)))


def _positives(rows: Sequence[Row], labels: Sequence[str]) -> tuple[Numbers, Numbers]:
    """The probability of the positive class, and 1 where it was; a row without a probability has that of its prediction."""
    scores = [r.score if r.score is not None else float(r.predicted == labels[1]) for r in rows]
    return np.array(scores, np.float64), np.array([r.actual == labels[1] for r in rows], np.float64)


def _accuracy(rows: Sequence[Row], _labels: Sequence[str]) -> Numbers:
    return np.array([r.predicted == r.actual for r in rows], np.float64)


def _brier(rows: Sequence[Row], labels: Sequence[str]) -> Numbers:
    scores, positive = _positives(rows, labels)
    squares: Numbers = (scores - positive) ** 2
    return squares


def _log_loss(rows: Sequence[Row], labels: Sequence[str]) -> Numbers:
    scores, positive = _positives(rows, labels)
    scores = np.clip(scores, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    losses: Numbers = -np.log(np.where(positive == 1, scores, 1 - scores))
    return losses


def _absolute(rows: Sequence[Row], _labels: Sequence[str]) -> Numbers:
    return np.array([abs(float(r.predicted) - float(r.actual)) for r in rows], np.float64)


def _squared(rows: Sequence[Row], labels: Sequence[str]) -> Numbers:
    squares: Numbers = _absolute(rows, labels) ** 2
    return squares


_ROW_BY_ROW: Final[dict[str, Callable[[Sequence[Row], Sequence[str]], Numbers]]] = {
    "accuracy": _accuracy,
    "brier": _brier,
    "log_loss": _log_loss,
    "mae": _absolute,
    "rmse": _squared,
}
