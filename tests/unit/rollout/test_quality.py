from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ekiben.rollout.quality import Row, error_of, quality_of, row_of
from ekiben.state.truth import Exposure, Truth

LABELS = ("no", "yes")
THREE = ("a", "b", "c")


def exposure(prediction, score=None):
    return Exposure(model="m", request_id="r", row=0, version="v", arm="champion", key="k", time=0.0, prediction=prediction, score=score)


def truth(actual):
    return Truth(model="m", request_id="r", row=0, time=0.0, actual=actual)


def binary(n, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    actual = rng.random(n) < scores
    return [Row(LABELS[int(s > 0.6)], LABELS[int(a)], float(s)) for s, a in zip(scores, actual, strict=True)]


def test_a_row_is_what_was_answered_and_what_was_true():
    assert row_of(exposure("yes", 0.9), truth(1.0), LABELS) == Row("yes", "yes", 0.9)
    assert row_of(exposure("a", 0.9), truth("b"), THREE) == Row("a", "b")
    assert row_of(exposure(2.5), truth(3), ()) == Row(2.5, 3.0)


@pytest.mark.parametrize(
    ("prediction", "actual", "labels"),
    [(None, 1.0, ()), (1.0, None, ()), ("yes", "other", LABELS), (1.0, "late", ()), (math.nan, 1.0, ()), (1.0, math.inf, ())],
)
def test_a_row_that_says_nothing_is_left_out(prediction, actual, labels):
    assert row_of(exposure(prediction), truth(actual), labels) is None


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("accuracy", lambda a, p, s: sk.accuracy_score(a, p)),
        ("f1", lambda a, p, s: sk.f1_score(a, p, pos_label="yes")),
        ("precision", lambda a, p, s: sk.precision_score(a, p, pos_label="yes")),
        ("recall", lambda a, p, s: sk.recall_score(a, p, pos_label="yes")),
        ("brier", lambda a, p, s: sk.brier_score_loss(a, s, pos_label="yes")),
        ("log_loss", lambda a, p, s: sk.log_loss(a, np.column_stack([1 - s, s]), labels=LABELS)),
    ],
)
def test_the_values_of_a_binary_classifier_are_those_of_scikit_learn(metric, reference):
    rows = binary(500)
    actual, predicted, scores = ([getattr(r, f) for r in rows] for f in ("actual", "predicted", "score"))

    found = quality_of(metric, rows, LABELS)
    assert found.value == pytest.approx(reference(actual, predicted, np.array(scores)), rel=1e-5)
    assert found.moves.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("metric", "function"), [("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)])
def test_of_several_classes_it_is_the_mean(metric, function):
    rng = np.random.default_rng(1)
    actual = rng.choice(THREE, 300)
    predicted = np.where(rng.random(300) < 0.7, actual, rng.choice(THREE, 300))
    rows = [Row(str(p), str(a)) for p, a in zip(predicted, actual, strict=True)]

    assert quality_of(metric, rows, THREE).value == pytest.approx(function(actual, predicted, average="macro"))
    assert quality_of(metric, rows, (*THREE, "never")).value == pytest.approx(function(actual, predicted, average="macro"))


def test_the_values_of_a_regressor_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    actual, predicted = rng.normal(size=300), rng.normal(size=300)
    rows = [Row(float(p), float(a)) for p, a in zip(predicted, actual, strict=True)]

    assert quality_of("mae", rows).value == pytest.approx(sk.mean_absolute_error(actual, predicted))
    assert quality_of("rmse", rows).value == pytest.approx(sk.root_mean_squared_error(actual, predicted))
    assert quality_of("rmse", [Row(1.0, 1.0)] * 9).value == 0


@pytest.mark.parametrize("metric", ["accuracy", "f1", "precision", "recall", "brier", "log_loss"])
def test_the_moves_say_how_much_the_value_scatters(metric):
    values = [quality_of(metric, binary(400, seed), LABELS).value for seed in range(300)]
    found = quality_of(metric, binary(400, 1000), LABELS)
    error, n = error_of(found.moves, [str(i) for i in range(400)], 0.0)

    assert n == 400
    assert error == pytest.approx(np.std(values), rel=0.25)


def test_the_moves_of_rmse_say_how_much_it_scatters():
    def rows(seed):
        return [Row(float(v), 0.0) for v in np.random.default_rng(seed).normal(size=400)]

    found = quality_of("rmse", rows(1000))
    error, _ = error_of(found.moves, [str(i) for i in range(400)], 0.0)
    assert error == pytest.approx(np.std([quality_of("rmse", rows(s)).value for s in range(300)]), rel=0.25)


def test_rows_of_one_key_count_as_one():
    found = quality_of("accuracy", binary(400), LABELS)
    alone, n = error_of(found.moves, [str(i) for i in range(400)], 0.0)
    ten_times, m = error_of(np.repeat(found.moves, 10), [str(i // 10) for i in range(4000)], 0.0)

    assert (n, m) == (400, 400)
    assert ten_times == pytest.approx(alone)


def test_a_hundred_right_answers_do_not_show_that_the_next_is_right():
    found = quality_of("accuracy", [Row("yes", "yes")] * 100, LABELS)
    error, _ = error_of(found.moves, [str(i) for i in range(100)], found.largest)

    assert found.value == 1
    assert error == pytest.approx(0.01)


def test_a_class_that_never_occurs_has_no_f1_and_no_precision():
    rows = [Row("no", "no")] * 10

    assert math.isnan(quality_of("f1", rows, LABELS).value)
    assert math.isnan(quality_of("precision", [Row("no", "yes")], LABELS).value)
    assert quality_of("recall", [Row("no", "yes")], LABELS).value == 0
    assert quality_of("f1", [*rows, Row("yes", "yes"), Row("no", "yes")], LABELS).counted == 2


def test_a_classifier_without_probabilities_is_as_sure_as_its_prediction():
    rows = [Row("yes", "yes"), Row("no", "yes")]

    assert quality_of("brier", rows, LABELS).value == 0.5
    assert math.isfinite(quality_of("log_loss", rows, LABELS).value)


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=50))
def test_every_value_is_a_share(pairs):
    rows = [Row(p, a, 0.5) for p, a in pairs]
    for metric in ("accuracy", "f1", "precision", "recall", "brier"):
        found = quality_of(metric, rows, LABELS)
        assert math.isnan(found.value) or 0 <= found.value <= 1
        assert found.moves.shape == (len(rows),)
