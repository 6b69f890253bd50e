import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ekiben.monitoring.resampling import RESAMPLES, Bootstrap, Estimate, around, mean_estimate, share_estimate


@pytest.mark.parametrize(("k", "n"), [(8, 10), (0, 50), (50, 50), (123, 1000)])
def test_the_interval_of_a_share_is_wilsons(k, n):
    found, expected = share_estimate(k, n), stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((k / n, expected.low, expected.high))


@given(n=st.integers(1, 10_000), k=st.integers(0, 10_000))
def test_a_share_lies_in_its_interval(n, k):
    found = share_estimate(min(k, n), n)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_a_mean_of_zeros_and_ones_is_a_share():
    assert mean_estimate(np.array([1.0, 0.0, 1.0])) == share_estimate(2, 3)
    found = mean_estimate(np.array([2.0, 4.0]))
    assert (found.value, found.low, found.high) == (3.0, pytest.approx(3 - 1.96, abs=1e-3), pytest.approx(3 + 1.96, abs=1e-3))
    assert mean_estimate(np.array([2.5])) == Estimate(2.5, None, None)


def mean_error(values, **options):
    bootstrap = Bootstrap(len(values), **options)
    rows = values[bootstrap.rows]
    return bootstrap.errors(lambda weights: {"mean": weights @ rows / weights.sum(axis=1)})["mean"]


@pytest.mark.parametrize("most", [20_000, 500])
def test_the_error_of_a_mean_is_known_also_of_a_part_of_the_rows(most):
    values = np.random.default_rng(3).normal(size=4000)
    assert mean_error(values, most=most) == pytest.approx(1 / math.sqrt(4000), rel=0.15)


def test_the_same_rows_give_the_same_error():
    values = np.random.default_rng(3).normal(size=300)
    assert mean_error(values) == mean_error(values)


def test_each_resample_counts_as_many_rows_as_there_are():
    sums, sizes = [], []

    def look(weights):
        sums.extend(weights.sum(axis=1))
        sizes.append(weights.shape)
        return {}

    assert Bootstrap(30).errors(look) == {}
    assert set(sums) == {30.0}
    assert sum(size[0] for size in sizes) == RESAMPLES


def test_what_most_resamples_do_not_define_has_no_error():
    assert math.isinf(Bootstrap(9).errors(lambda weights: {"x": np.full(len(weights), np.nan)})["x"])
    assert around(3.0, math.inf) == Estimate(3.0, None, None)


def test_an_interval_keeps_to_what_can_be():
    found = around(0.99, 0.1, low=0.0, high=1.0)
    assert (found.high, found.low) == (1.0, pytest.approx(0.794, abs=1e-3))
    assert around(1.0, 0.0, one_more=0.01, high=1.0).low == pytest.approx(1 - 0.0196, abs=1e-4)


@pytest.mark.parametrize("n", [1, 7, 50, 1003])
def test_the_share_of_none_and_of_all_ends_exactly(n):
    assert share_estimate(0, n).low == 0.0
    assert share_estimate(n, n).high == 1.0
    assert share_estimate(0, n).high == pytest.approx(1 - share_estimate(n, n).low)
