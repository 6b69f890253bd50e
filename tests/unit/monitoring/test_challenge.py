from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ekiben.model import Outputs
from ekiben.monitoring.challenge import compare

LABELS = ("no", "yes")
DAYS = np.datetime64("2026-01-01", "us") + np.arange(3000) * np.timedelta64(24 * 60 // 100, "m")
N = len(DAYS)


def answers(positive, labels=LABELS, threshold=0.5):
    p = np.stack([1 - positive, positive], axis=1).astype(np.float32)
    return Outputs(len(p), {"probabilities": p}, labels, (p[:, 1] >= threshold).astype(np.intp), threshold)


def numbers(values):
    return Outputs(len(values), {"prediction": np.asarray(values)})


def case(seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    true = rng.random(N) < 0.4
    logit = skill * (true - 0.5) + rng.normal(0, 1, N)
    return np.array(LABELS, object)[true.astype(int)], answers(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("metric", ["f1", "accuracy", "precision", "recall", "brier", "log_loss"])
def test_the_values_are_scikit_learns_and_better_is_above_zero(metric):
    target, good = case(skill=3.0)
    _, chance = case(seed=1, skill=0.0)
    true = target == "yes"
    expected = {
        "f1": lambda o: sk.f1_score(true, o.class_index),
        "accuracy": lambda o: sk.accuracy_score(true, o.class_index),
        "precision": lambda o: sk.precision_score(true, o.class_index),
        "recall": lambda o: sk.recall_score(true, o.class_index),
        "brier": lambda o: sk.brier_score_loss(true, o.arrays["probabilities"][:, 1].astype(float)),
        "log_loss": lambda o: sk.log_loss(true, o.arrays["probabilities"][:, 1].astype(float)),
    }[metric]
    found = compare(metric, chance, good, target, DAYS)
    assert found.challenger == pytest.approx(expected(good), rel=1e-6)
    assert found.champion == pytest.approx(expected(chance), rel=1e-6)
    assert found.is_better
    assert 0 < found.low < found.difference < found.high
    back = compare(metric, good, chance, target, DAYS)
    assert not back.is_better
    assert back.high < 0
    assert back.difference == -found.difference


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_regressors(metric):
    rng = np.random.default_rng(0)
    target = rng.normal(0, 1, N)
    close, far = numbers(target + rng.normal(0, 0.1, N)), numbers(target + rng.normal(0, 0.3, N)[:])
    found = compare(metric, far, close, target, DAYS)
    of = {"mae": sk.mean_absolute_error, "rmse": sk.root_mean_squared_error}[metric]
    assert found.challenger == pytest.approx(of(target, close.arrays["prediction"]))
    assert found.is_better
    assert found.difference == pytest.approx(found.champion - found.challenger)


def test_several_classes_count_alike():
    rng = np.random.default_rng(0)
    labels, true = ("a", "b", "c", "never"), rng.integers(0, 3, N)
    found = np.where(rng.random(N) < 0.7, true, rng.integers(0, 3, N))
    outputs = Outputs(N, {"probabilities": np.zeros((N, 4), np.float32)}, labels, found)
    compared = compare("f1", outputs, outputs, np.array(labels, object)[true], DAYS)
    assert compared.challenger == pytest.approx(sk.f1_score(true, found, average="macro"))


def test_equal_answers_are_not_better():
    target, same = case()
    found = compare("f1", same, same, target, DAYS)
    assert (found.difference, found.low, found.high, found.is_better) == (0, 0, 0, False)


def test_a_margin_must_be_passed_for_sure():
    target, good = case(skill=3.0)
    _, chance = case(seed=1, skill=0.0)
    found = compare("f1", chance, good, target, DAYS)
    assert compare("f1", chance, good, target, DAYS, margin=found.low - 1e-9).is_better
    assert not compare("f1", chance, good, target, DAYS, margin=found.low).is_better


def test_one_strange_day_is_one_day_and_not_a_thousand_proofs():
    """The new version is right on all rows of one day of thirty, and answers the same on the others."""
    target = np.array(["yes", "no"] * (N // 2), object)
    false = answers(np.where(target == "yes", 0.1, 0.9))
    right_once = np.where(target == "yes", 0.1, 0.9)
    day = (DAYS - DAYS[0]) < np.timedelta64(1, "D")
    right_once[day] = 1 - right_once[day]
    found = compare("accuracy", false, answers(right_once), target, DAYS)
    assert day.sum() > 90
    assert found.pieces == 30
    assert found.difference > 0
    assert not found.is_better


def test_less_than_two_weeks_are_cut_in_pieces():
    target, good = case()
    found = compare("f1", good, good, target, DAYS[0] + np.arange(N) * np.timedelta64(1, "s"))
    assert found.pieces == 1000
    few = slice(0, 60)
    assert compare("accuracy", answers(np.full(60, 0.9)), answers(np.full(60, 0.9)), target[few], DAYS[few]).pieces == 60


def test_a_quality_that_is_not_defined_is_not_better():
    target = np.full(N, "no", object)
    found = compare("f1", answers(np.zeros(N)), answers(np.zeros(N)), target, DAYS)
    assert math.isnan(found.low)
    assert not found.is_better


def test_the_sentence_says_what_was_found():
    target, good = case(skill=3.0)
    _, chance = case(seed=1, skill=0.0)
    text = str(compare("f1", chance, good, target, DAYS))
    assert text.startswith("better: f1 is 0.")
    assert "on the newest 3,000 rows" in text
    assert str(compare("f1", good, chance, target, DAYS, margin=0.1)).startswith("not better by more than 0.1: ")


@given(seed=st.integers(0, 50))
def test_equal_seeds_draw_alike(seed):
    target, one = case()
    _, other = case(seed=1)
    few = slice(0, 200)
    pair = [Outputs(200, {"probabilities": o.arrays["probabilities"][few]}, LABELS, o.class_index[few], 0.5) for o in (one, other)]
    assert compare("f1", *pair, target[few], DAYS[few], seed=seed) == compare("f1", *pair, target[few], DAYS[few], seed=seed)
