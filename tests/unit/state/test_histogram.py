from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.state.histogram import GROWTH, SMALLEST, Histogram

numbers = st.floats(-1e12, 1e12, allow_nan=False)
lists = st.lists(numbers, max_size=60)


def same(one: Histogram, two: Histogram) -> bool:
    """Whether the counts are equal, and the sums but for rounding."""
    counts = (one.positive, one.negative, one.zeros) == (two.positive, two.negative, two.zeros)
    return counts and math.isclose(one.total, two.total, rel_tol=1e-9, abs_tol=1e-3)


@given(lists, lists)
def test_a_sum_is_the_histogram_of_all(some, others):
    both = Histogram.of(some) + Histogram.of(others)
    assert same(both, Histogram.of(some + others))
    assert both.n == len(some) + len(others)


@given(lists)
def test_it_goes_through_json_unchanged(values):
    histogram = Histogram.of(values)
    assert msgspec.json.decode(msgspec.json.encode(histogram), type=Histogram) == histogram


@given(st.lists(numbers, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_right_within_two_percent(values, q):
    exact = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
    found = Histogram.of(values).quantile(q)
    assert abs(found - exact) <= 0.02 * abs(exact) + SMALLEST


@given(st.lists(numbers, min_size=1, max_size=30), st.integers(-5, 40))
def test_a_rank_is_kept_within_what_there_is(values, rank):
    histogram = Histogram.of(values)
    exact = sorted(values)[min(max(rank, 1), len(values)) - 1]
    assert abs(histogram.of_rank(rank) - exact) <= 0.02 * abs(exact) + SMALLEST


@given(lists)
def test_bins_go_up_and_hold_every_number(values):
    bins = list(Histogram.of(values).bins())
    middles = [middle for middle, _ in bins]
    assert middles == sorted(set(middles))
    assert sum(count for _, count in bins) == len(values)
    assert all(count > 0 for _, count in bins)


@given(lists, numbers)
def test_above_is_right_but_for_the_bin_of_the_limit(values, limit):
    width = GROWTH * GROWTH
    near = sum(limit / width < v < limit * width if limit > 0 else limit * width < v < limit / width for v in values)
    exact = sum(v > limit for v in values)
    assert abs(Histogram.of(values).above(limit) - exact) <= near + sum(abs(v) <= SMALLEST for v in values)


def test_the_mean_is_exact():
    assert Histogram.of([1.0, 2.0, 6.0, -5.0]).mean == 1.0


def test_of_none():
    empty = Histogram.of([])
    assert empty == Histogram()
    assert empty.n == 0
    for found in (empty.mean, empty.quantile(0.5), empty.of_rank(1)):
        assert math.isnan(found)
    assert empty.above(0) == 0
    assert list(empty.bins()) == []


def test_zero_and_what_is_nearer_to_it_than_anything():
    histogram = Histogram.of([0.0, -0.0, SMALLEST / 2, -SMALLEST / 2, 1.0])
    assert (histogram.zeros, histogram.n) == (4, 5)
    assert histogram.quantile(0.5) == 0.0


def test_what_is_no_number_is_left_out():
    histogram = Histogram.of([math.nan, math.inf, -math.inf, 2.0])
    assert histogram.n == 1
    assert histogram.mean == 2.0


@pytest.mark.parametrize("values", [[1, 2, 3], (1, 2, 3), np.array([[1, 2, 3]], np.float32), np.array([1, 2, 3], np.int64)])
def test_it_takes_lists_and_arrays_of_any_shape(values):
    assert Histogram.of(values) == Histogram.of([1.0, 2.0, 3.0])


def test_adding_changes_neither():
    one, two = Histogram.of([1.0, -1.0]), Histogram.of([1.0, 5.0])
    before = msgspec.json.encode([one, two])
    assert (one + two).n == 4
    assert msgspec.json.encode([one, two]) == before


def test_an_edge_belongs_to_the_bin_below_it():
    # The bins of DDSketch: above GROWTH ** (i - 1), up to GROWTH ** i.
    assert Histogram.of([1.0]).positive == {0: 1}
    assert Histogram.of([1.0001]).positive == {1: 1}
    assert Histogram.of([-1.0]).negative == {0: 1}
