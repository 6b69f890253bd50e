from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.model import Outputs
from training.datasets import DataError
from training.metrics import measure, threshold_of_best_f1


def f1(target, called) -> float:
    return 2 * (target & called).sum() / (target.sum() + called.sum()) if called.any() else 0.0


scored = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=1, max_size=40).filter(
    lambda rows: any(positive for positive, _ in rows)
)


@given(scored)
def test_no_threshold_gives_a_higher_f1(rows):
    target, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    threshold = threshold_of_best_f1(target.astype(np.int64), score)
    best = max(f1(target, score >= cut) for cut in [*score, 2.0])
    assert f1(target, score >= threshold) == pytest.approx(best)
    assert 0 <= threshold <= 1


def test_the_threshold_lies_between_two_scores():
    assert threshold_of_best_f1(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.8])) == pytest.approx(0.4)


def test_without_a_positive_row_there_is_no_threshold():
    with pytest.raises(DataError, match="none of the 2 validation rows"):
        threshold_of_best_f1(np.array([0, 0]), np.array([0.1, 0.2]))


def outputs(probabilities, index, labels) -> Outputs:
    return Outputs(len(index), {"probabilities": np.array(probabilities, np.float32)}, labels, np.array(index))


def test_metrics_of_two_classes_judge_decisions_by_the_threshold_used():
    # Two of three positives are called, beside one of two negatives.
    score = np.array([0.9, 0.3, 0.1, 0.4, 0.2])
    given_ = outputs(np.stack([1 - score, score], axis=1), [1, 1, 0, 1, 0], ("no", "yes"))
    found = measure(np.array([1, 1, 1, 0, 0]), given_)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["roc_auc"] == pytest.approx(3 / 6)
    assert found["brier"] == pytest.approx((0.01 + 0.49 + 0.81 + 0.16 + 0.04) / 5, abs=1e-6)
    assert found["base_rate"] == pytest.approx(0.6)
    assert found["rows"] == 5


def test_metrics_of_more_classes():
    perfect = outputs(np.eye(3)[[0, 1, 2, 2]] * 0.8 + 0.2 / 3, [0, 1, 2, 1], ("a", "b", "c"))
    found = measure(np.array([0, 1, 2, 2]), perfect)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["worst_recall"] == pytest.approx(0.5)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["rows"] == 4


def test_a_class_that_is_absent_is_named():
    with pytest.raises(DataError, match="none of the 2 held-out rows is 'yes'"):
        measure(np.array([0, 0]), outputs([[0.9, 0.1], [0.8, 0.2]], [0, 0], ("no", "yes")))
