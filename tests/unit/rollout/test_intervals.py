from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.rollout.intervals import errors_wide, mean_interval, mean_p_value, quantile_interval, rate_interval
from ekiben.state.histogram import Histogram

counts = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.0001, 0.05, 0.2]), st.sampled_from([0.05, 0.5]))
def test_the_interval_holds_the_share_and_is_wider_for_a_smaller_alpha(count, alpha, near):
    k, n = count
    low, high = rate_interval(k, n, alpha, near=near)
    wider = rate_interval(k, n, alpha / 10, near=near)

    assert 0 <= wider[0] <= low <= k / n <= high <= wider[1] <= 1
    assert high > low


@given(counts)
def test_a_rate_and_its_opposite_have_opposite_intervals_where_the_mixture_is_even(count):
    k, n = count
    low, high = rate_interval(k, n, 0.01, near=0.5)
    other = rate_interval(n - k, n, 0.01, near=0.5)

    assert (1 - high, 1 - low) == pytest.approx(other, abs=1e-8)


def test_of_no_requests_nothing_is_known_and_of_many_much():
    assert rate_interval(0, 0, 0.05) == (0.0, 1.0)
    assert rate_interval(0, 100, 0.05) == (0.0, pytest.approx(0.0414, abs=0.001))
    low, high = rate_interval(50_000, 1_000_000, 0.05)
    assert 0.049 < low < 0.05 < high < 0.051


def test_an_interval_that_ends_nearer_to_one_than_numbers_tell_apart_ends_at_one():
    low, high = rate_interval(99_999, 100_000, 0.0001)

    assert 0.99 < low < 0.99999 < high <= 1


def test_at_the_edge_of_the_interval_the_likelihood_ratio_is_one_over_alpha():
    k, n, alpha, b = 30, 1000, 0.01, 9.5
    beta = lambda x, y: math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)  # noqa: E731
    for edge in rate_interval(k, n, alpha):
        log_ratio = beta(0.5 + k, b + n - k) - beta(0.5, b) - k * math.log(edge) - (n - k) * math.log1p(-edge)
        assert log_ratio == pytest.approx(math.log(1 / alpha), abs=1e-6)


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.3])
def test_looked_at_after_every_request_the_interval_misses_the_real_rate_at_most_as_often_as_alpha_says(rate):
    rng = np.random.default_rng(5)
    looks, missed = 1000, 0
    for _ in range(300):
        k = np.cumsum(rng.random(looks) < rate)
        missed += any(not low <= rate <= high for low, high in (rate_interval(int(k[n - 1]), n, 0.1) for n in range(1, looks + 1, 7)))

    assert missed <= 300 * 0.1 + 3 * math.sqrt(300 * 0.1 * 0.9)


def test_an_interval_that_holds_at_one_look_would_miss_far_more_often():
    rng = np.random.default_rng(5)
    k = np.cumsum(rng.random((300, 1000)) < 0.3, axis=1)
    n = np.arange(1, 1001)
    usual = 1.645 * np.sqrt(0.3 * 0.7 / n)

    assert (np.abs(k / n - 0.3) > usual)[:, 50:].any(axis=1).mean() > 0.3


def test_the_interval_of_a_quantile_holds_it_and_shrinks():
    rng = np.random.default_rng(1)
    real = math.exp(1.6449)
    few, many = (quantile_interval(Histogram.of(rng.lognormal(0, 1, n)), 0.95, 0.05) for n in (500, 50_000))

    assert few[0] < many[0] < real < many[1] < few[1]
    assert many[1] / many[0] < 1.15


def test_of_few_numbers_a_high_quantile_has_no_upper_end():
    assert quantile_interval(Histogram(), 0.95, 0.05) == (0.0, math.inf)
    low, high = quantile_interval(Histogram.of(np.linspace(1, 2, 20)), 0.95, 0.05)
    assert low > 0
    assert high == math.inf
    assert quantile_interval(Histogram.of([3.0]), 0.95, 0.0005) == (0.0, math.inf)


def test_numbers_that_are_all_the_same_have_that_quantile():
    low, high = quantile_interval(Histogram.of(np.full(1000, 5.0)), 0.95, 0.0005)

    assert low == high == pytest.approx(5, rel=0.02)


def test_looked_at_again_and_again_the_interval_of_a_quantile_misses_at_most_as_often_as_alpha_says():
    rng = np.random.default_rng(2)
    real, missed = math.exp(1.6449 * 0.5), 0
    for _ in range(150):
        numbers = rng.lognormal(0, 0.5, 2000)
        looks = (quantile_interval(Histogram.of(numbers[:n]), 0.95, 0.1) for n in range(50, 2001, 50))
        missed += any(not low / 1.02 <= real <= high * 1.02 for low, high in looks)

    assert missed <= 150 * 0.1 + 3 * math.sqrt(150 * 0.1 * 0.9)


def test_the_interval_of_a_mean_is_twice_the_usual_one_or_less_where_it_is_to_be_narrowest():
    assert 1.96 < errors_wide(1000, 0.05) < 2 * 1.96
    assert errors_wide(1000, 0.05) < errors_wide(1000, 0.0005) < errors_wide(1000, 1e-6)
    assert errors_wide(0, 0.05) == math.inf
    assert errors_wide(100, 0.05, around=100) < errors_wide(100, 0.05, around=10_000)


def test_looked_at_again_and_again_the_interval_of_a_mean_misses_at_most_as_often_as_alpha_says():
    rng = np.random.default_rng(3)
    numbers = rng.exponential(1.0, (500, 3000))
    n = np.arange(1, 3001)
    means = np.cumsum(numbers, axis=1) / n
    deviations = np.sqrt(np.maximum(np.cumsum(numbers**2, axis=1) / n - means**2, 0))
    missed = np.zeros(500, bool)
    for look in range(100, 3001, 25):
        errors = deviations[:, look - 1] / math.sqrt(look)
        low, high = mean_interval(0.0, 1.0, look, 0.1)
        missed |= np.abs(means[:, look - 1] - 1) > high * errors
        assert low == -high

    assert missed.mean() <= 0.1


@pytest.mark.parametrize("n", [50, 1000, 100_000])
def test_the_p_value_is_alpha_where_the_interval_ends_at_zero(n):
    edge = errors_wide(n, 0.05)

    assert mean_p_value(edge, 1.0, n, 0.05) == pytest.approx(0.05)
    assert mean_p_value(-edge, 1.0, n, 0.05) == pytest.approx(0.05)
    assert mean_p_value(edge * 1.1, 1.0, n, 0.05) < 0.05 < mean_p_value(edge * 0.9, 1.0, n, 0.05)
    assert mean_p_value(0.0, 1.0, n, 0.05) == mean_p_value(0.0, 0.0, n, 0.05) == 1
    assert mean_p_value(0.1, 0.0, n, 0.05) == 0
