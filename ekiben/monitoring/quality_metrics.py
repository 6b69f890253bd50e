"""Quality metrics of answers whose truth is known, each with its interval.

| of | metrics |
|---|---|
| classifiers | ``accuracy``, ``precision``, ``recall``, ``f1``, ``roc_auc``, ``log_loss``, ``brier``, ``calibration_error`` |
| regressors | ``mae``, ``rmse``, ``bias`` (predicted minus actual), ``error_p50`` and ``error_p90`` (quantiles of the absolute error) |

Of two classes precision, recall, F1, AUC, Brier score and calibration are those of the second label. Of more, precision, recall
and F1 are means over the classes that occur, AUC the mean over each class against the rest, the Brier score the sum over all classes
(from 0 to 2), and calibration is that of the predicted class's probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiben.monitoring.answers import Amounts, Classes
from ekiben.monitoring.calibration import calibration_error
from ekiben.monitoring.resampling import MOST_ROWS, Bootstrap, Estimate, around, share_estimate

Numbers = npt.NDArray[np.float64]

_MOST_CLASSES: Final = 50
_SMALLEST: Final = float(np.finfo(np.float64).eps)
_QUANTILES: Final = {"error_p50": 0.5, "error_p90": 0.9}
_NO_PROBABILITIES: Final = "the log has no probabilities of these rows"


@dataclass
class Measured:
    """Metrics, and why others could not be measured.

    Attributes:
        metrics: Name → value and interval.
        reasons: Name → why there is no value.
    """

    metrics: dict[str, Estimate] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def measured(answers: Classes | Amounts) -> Measured:
    """All metrics of some answers; of none, none."""
    if len(answers.actual) == 0:
        return Measured()
    return _of_classes(answers) if isinstance(answers, Classes) else _of_amounts(answers)


def roc_auc(scores: Numbers, positive: npt.NDArray[np.bool_], weights: Numbers) -> Numbers:
    """The area under the ROC curve for each of b weightings, ``[b]``: NaN where one class has no weight.

    It is the probability that a positive row's score is above a negative one's, half where they are equal (Hanley, McNeil: "The
    Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve", Radiology 1982).

    Args:
        scores: ``[n]``.
        positive: ``[n]``.
        weights: ``[b, n]``.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: Numbers = np.where(pairs > 0, (positives * below).sum(axis=1) / pairs, np.nan)
    return areas


def _of_classes(answers: Classes) -> Measured:
    found = Measured()
    predicted, actual, n = answers.predicted, answers.actual, len(answers.actual)
    found.metrics["accuracy"] = share_estimate(int((predicted == actual).sum()), n)
    bootstrap = Bootstrap(n)
    errors = bootstrap.errors(partial(_class_statistics, answers.take(bootstrap.rows)))
    _put_by_label(found, answers, errors)
    if answers.probabilities is None:
        found.reasons |= dict.fromkeys(("roc_auc", "log_loss", "brier", "calibration_error"), _NO_PROBABILITIES)
        return found
    _put_probabilistic(found, answers, answers.probabilities, errors)
    _put_roc_auc(found, answers, answers.probabilities)
    return found


def _put_by_label(found: Measured, answers: Classes, errors: dict[str, float]) -> None:
    """Precision, recall and F1."""
    from sklearn import metrics as m  # noqa: PLC0415  a second that only those pay who measure

    predicted, actual = answers.predicted, answers.actual
    if answers.is_binary:
        hits, n_predicted, n_actual = (int(rows.sum()) for rows in (predicted & actual, predicted, actual))
        positive = answers.labels[1]
        for name, n, reason in (
            ("precision", n_predicted, f"no row was predicted {positive!r}"),
            ("recall", n_actual, f"no row was {positive!r}"),
        ):
            if n:
                found.metrics[name] = share_estimate(hits, n)
            else:
                found.reasons[name] = reason
        if n_predicted + n_actual == 0:
            found.reasons["f1"] = f"no row was {positive!r}, nor predicted so"
            return
        value = m.f1_score(actual, predicted, zero_division=0.0)
        found.metrics["f1"] = around(float(value), errors["f1"], one_more=1 / (n_predicted + n_actual), low=0.0, high=1.0)
        return
    scores: dict[str, Callable[..., Any]] = {"precision": m.precision_score, "recall": m.recall_score, "f1": m.f1_score}
    for name, score in scores.items():
        value = float(score(actual, predicted, labels=np.arange(len(answers.labels)), average="macro", zero_division=np.nan))
        found.metrics[name] = around(value, errors[name], one_more=1 / len(actual), low=0.0, high=1.0)


def _put_probabilistic(found: Measured, answers: Classes, probabilities: Numbers, errors: dict[str, float]) -> None:
    """Log loss, Brier score and calibration error."""
    from sklearn import metrics as m  # noqa: PLC0415  as above

    actual, classes = answers.actual, np.arange(len(answers.labels))
    log_loss = float(m.log_loss(actual, probabilities, labels=classes))
    found.metrics["log_loss"] = around(log_loss, errors["log_loss"], low=0.0)
    if answers.is_binary:
        brier = m.brier_score_loss(actual, probabilities[:, 1], labels=classes)
    else:
        brier = m.brier_score_loss(actual, probabilities, labels=classes)
    found.metrics["brier"] = around(float(brier), errors["brier"], low=0.0, high=1.0 if answers.is_binary else 2.0)
    error = float(calibration_error(*calibrated(answers, probabilities))[0])
    found.metrics["calibration_error"] = around(error, errors["calibration_error"], low=0.0, high=1.0)


def calibrated(answers: Classes, probabilities: Numbers) -> tuple[Numbers, Numbers]:
    """The probabilities that are to be calibrated, ``[n]``, and 1 where it was so: of the positive class, or of the predicted one."""
    if answers.is_binary:
        return probabilities[:, 1], answers.actual.astype(np.float64)
    of_predicted = probabilities[np.arange(len(answers.predicted)), answers.predicted]
    return of_predicted, (answers.predicted == answers.actual).astype(np.float64)


def _put_roc_auc(found: Measured, answers: Classes, probabilities: Numbers) -> None:
    """AUC: its error takes a bootstrap of its own, of fewer rows where there are many classes to sort them for."""
    from sklearn import metrics as m  # noqa: PLC0415  as above

    counts = np.bincount(answers.actual, minlength=len(answers.labels))
    classes = np.array([1]) if answers.is_binary else np.flatnonzero(counts)
    if np.count_nonzero(counts) == 1:
        found.reasons["roc_auc"] = f"all rows were {answers.labels[int(np.flatnonzero(counts)[0])]!r}"
        return
    if len(classes) > _MOST_CLASSES:
        found.reasons["roc_auc"] = f"there are {len(classes)} classes; it is measured of {_MOST_CLASSES} at most"
        return
    value = float(np.mean([m.roc_auc_score(answers.actual == c, probabilities[:, c]) for c in classes]))
    bootstrap = Bootstrap(len(answers.actual), most=max(MOST_ROWS // len(classes), 1000))
    actual, scores = answers.actual[bootstrap.rows], probabilities[bootstrap.rows]

    def areas(weights: Numbers) -> dict[str, Numbers]:
        return {"roc_auc": np.mean([roc_auc(scores[:, c], actual == c, weights) for c in classes], axis=0)}

    fewest = int(min(counts[classes].min(), (len(answers.actual) - counts[classes]).min()))
    found.metrics["roc_auc"] = around(value, bootstrap.errors(areas)["roc_auc"], one_more=1 / fewest / len(classes), low=0.0, high=1.0)


def _class_statistics(answers: Classes, weights: Numbers) -> dict[str, Numbers]:
    """Statistics of weighted rows, ``[b]`` each."""
    of_class = np.arange(1, 2) if answers.is_binary else np.arange(len(answers.labels))
    predicted = (answers.predicted[:, None] == of_class).astype(np.float64)
    actual = (answers.actual[:, None] == of_class).astype(np.float64)
    hits, n_predicted, n_actual = weights @ (predicted * actual), weights @ predicted, weights @ actual
    found = {
        "precision": _mean_share(hits, n_predicted),
        "recall": _mean_share(hits, n_actual),
        "f1": _mean_share(2 * hits, n_predicted + n_actual),
    }
    if answers.probabilities is None:
        return found
    p, total = answers.probabilities, weights.sum(axis=1)
    at_actual = p[np.arange(len(p)), answers.actual]
    squares = ((p - (answers.actual[:, None] == np.arange(p.shape[1]))) ** 2).sum(axis=1) / (2 if answers.is_binary else 1)
    found["log_loss"] = weights @ -np.log(np.maximum(at_actual, _SMALLEST)) / total
    found["brier"] = weights @ squares / total
    found["calibration_error"] = calibration_error(*calibrated(answers, p), weights)
    return found


def _mean_share(hits: Numbers, of: Numbers) -> Numbers:
    """The mean over the classes, ``[b]`` of ``[b, k]``, of those shares that are defined; NaN where none is."""
    defined = of > 0
    shares = np.divide(hits, of, out=np.zeros_like(hits), where=defined)
    n = defined.sum(axis=1)
    means: Numbers = np.where(n > 0, shares.sum(axis=1) / np.maximum(n, 1), np.nan)
    return means


def _of_amounts(answers: Amounts) -> Measured:
    from sklearn import metrics as m  # noqa: PLC0415  as above

    predicted, actual = answers.predicted, answers.actual
    errors = predicted - actual
    values = {
        "mae": float(m.mean_absolute_error(actual, predicted)),
        "rmse": float(m.root_mean_squared_error(actual, predicted)),
        "bias": float(errors.mean()),
        **{name: float(np.quantile(np.abs(errors), q, method="inverted_cdf")) for name, q in _QUANTILES.items()},
    }
    if len(errors) == 1:
        return Measured({name: Estimate(value, None, None) for name, value in values.items()})
    bootstrap = Bootstrap(len(errors))
    spread = bootstrap.errors(partial(_amount_statistics, errors[bootstrap.rows]))
    floor = {"bias": -math.inf}
    return Measured({name: around(value, spread[name], low=floor.get(name, 0.0)) for name, value in values.items()})


def _amount_statistics(errors: Numbers, weights: Numbers) -> dict[str, Numbers]:
    total = weights.sum(axis=1)
    absolute = np.sort(np.abs(errors))
    reached = np.cumsum(weights[:, np.argsort(np.abs(errors), kind="stable")], axis=1)
    return {
        "mae": weights @ np.abs(errors) / total,
        "rmse": np.sqrt(weights @ errors**2 / total),
        "bias": weights @ errors / total,
        **{name: absolute[(reached >= q * total[:, None]).argmax(axis=1)] for name, q in _QUANTILES.items()},
    }
