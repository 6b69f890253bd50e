from __future__ import annotations

import math

import pytest

from ekiben.model.labels import label_of, number_of

LABELS = ("no", "yes")
THREE = ("a", "b", "c")


@pytest.mark.parametrize(
    ("actual", "labels", "label"),
    [
        ("yes", LABELS, "yes"),
        ("maybe", LABELS, None),
        (1.0, LABELS, "yes"),
        (False, LABELS, "no"),
        (True, LABELS, "yes"),
        (0.5, LABELS, None),
        (2, LABELS, None),
        (math.nan, LABELS, None),
        (3.0, ("1", "2", "3"), "3"),
        (3.0, ("1.0", "2.0", "3.0"), "3.0"),
        (1, THREE, None),
        (1, ("1", "0"), "1"),
        (True, ("false", "true"), "true"),
        (True, ("0", "1"), "1"),
        ("1", LABELS, None),
    ],
)
def test_what_was_true_is_the_label_that_is_meant(actual, labels, label):
    assert label_of(actual, labels) == label


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), ("3.5", 3.5), (True, 1.0), ("late", None), (None, None), (math.nan, None), (-math.inf, None)],
)
def test_a_number_is_what_is_finite(value, number):
    assert number_of(value) == number
