"""How good a classifier is on rows it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.model import Outputs
from training.datasets import DataError

Array = npt.NDArray[Any]


def measure(target: Array, outputs: Outputs) -> dict[str, float]:
    """Metrics of a classifier's outputs.

    Args:
        target: ``[n]`` indices of the true labels.
        outputs: What the predictor gave for the same rows. Its decisions are judged as they are, threshold and all.

    Returns:
        Of two classes: roc_auc, average_precision, brier, log_loss, f1, precision, recall, accuracy, base_rate, rows; all
        but accuracy and log_loss about the second label. Of more: accuracy, macro_f1, worst_recall, log_loss, rows.

    Raises:
        DataError: A class is absent, and without it nothing can be said.
    """
    from sklearn import metrics as m  # noqa: PLC0415  a run that finds its model registered needs no scikit-learn

    assert outputs.class_index is not None
    classes = np.arange(len(outputs.labels))
    absent = [outputs.labels[i] for i in classes if not (target == i).any()]
    if absent:
        raise DataError(f"none of the {len(target)} held-out rows is {absent[0]!r}; take a larger window")
    found = outputs.class_index
    probabilities = outputs.arrays["probabilities"].astype(np.float64)
    shared = {
        "accuracy": m.accuracy_score(target, found),
        "log_loss": m.log_loss(target, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes),
        "rows": len(target),
    }
    if len(classes) > 2:  # noqa: PLR2004  more than two classes
        own: dict[str, Any] = {
            "macro_f1": m.f1_score(target, found, average="macro"),
            "worst_recall": m.recall_score(target, found, average=None).min(),
        }
    else:
        score = probabilities[:, 1]
        own = {
            "roc_auc": m.roc_auc_score(target, score),
            "average_precision": m.average_precision_score(target, score),
            "brier": m.brier_score_loss(target, score),
            "f1": m.f1_score(target, found),
            "precision": m.precision_score(target, found, zero_division=0.0),
            "recall": m.recall_score(target, found),
            "base_rate": target.mean(),
        }
    return {name: float(value) for name, value in {**own, **shared}.items()}


def threshold_of_best_f1(target: Array, score: Array) -> float:
    """The score from which on calling a row positive gives the highest F1.

    Args:
        target: ``[n]`` 0 or 1.
        score: ``[n]`` probabilities of 1.

    Returns:
        A number halfway between two scores that occur, so that a rounding error in an export moves no row across it.

    Raises:
        DataError: No row is positive.
    """
    if not target.any():
        raise DataError(f"none of the {len(target)} validation rows is positive; take a larger window")
    order = np.argsort(-score, kind="stable")
    ranked = score[order].astype(np.float64)
    hits = np.cumsum(target[order])
    # Calling the first k rows positive: F1 = 2 hits / (k + positives).
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    # Rows of equal scores are called together: only the last of them is a place to cut.
    cuts = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    best = int(cuts[f1[cuts].argmax()])
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)
