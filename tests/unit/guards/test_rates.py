import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.guards.rates import FRESH, Outcome, SlidingWindow, TokenBucket, rates_of, standing_of
from ekiben.model.guard_spec import RateSpec

NOW = 28_000_000.0


def bucket(**fields):
    return TokenBucket(RateSpec(**{"requests": 10, "every": "1s", **fields}), "m")


def window(**fields):
    return SlidingWindow(RateSpec(**{"requests": 10, "every": "1s", "algorithm": "sliding_window", **fields}), "m")


def run(rate, events):
    """Takes costs at times; returns those that were allowed."""
    state, passed = FRESH, []
    for at, cost in events:
        outcome = rate.outcome(state, at, cost)
        state = outcome.state
        if outcome.allowed:
            passed.append((at, cost))
    return passed


def most_in_any(window_s, passed):
    """The largest sum of costs in any half-open span of a length."""
    return max((sum(c for t, c in passed if at <= t < at + window_s) for at, _ in passed), default=0)


traffic = st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 10)), max_size=120).map(
    lambda gaps: [(NOW + sum(g for g, _ in gaps[: n + 1]), cost) for n, (_, cost) in enumerate(gaps)]
)


@given(traffic, st.floats(0.5, 100), st.floats(10, 40), st.floats(0.1, 3))
def test_a_bucket_lets_no_more_pass_in_any_time_than_the_burst_and_what_refilled(events, rate, burst, span_s):
    passed = run(bucket(requests=rate, burst=burst), events)
    assert most_in_any(span_s, passed) <= burst + rate * (span_s + 2e-6) + 1e-6


@given(traffic, st.integers(10, 40))
def test_a_window_lets_no_more_pass_in_a_window_of_the_clock_than_its_number_and_never_twice(events, limit):
    passed = run(window(requests=limit), events)
    for at, _ in passed:
        assert sum(c for t, c in passed if t // 1 == at // 1) <= limit + 1e-6
    assert most_in_any(1, passed) <= 2 * limit + 1e-6


@given(st.integers(1, 50), st.integers(1, 5))
def test_of_more_than_the_rate_just_the_rate_passes(limit, times):
    offered = [(NOW + n / (limit * (times + 1)), 1) for n in range(limit * (times + 1) * 4)]
    for rate, more in ((bucket(requests=limit), limit), (window(requests=limit), limit)):
        passed = run(rate, offered)
        assert 3.9 * limit - 6 <= len(passed) <= 4 * limit + more


@given(traffic, st.sampled_from([bucket(), window()]))
def test_what_does_not_fit_takes_nothing_and_fits_after_the_wait(events, rate):
    state = FRESH
    for at, cost in events:
        outcome = rate.outcome(state, at, cost)
        assert outcome.left >= 0
        assert outcome.reset_s >= 0
        if outcome.allowed:
            assert outcome.wait_s == 0
            assert rate.outcome(state, at, outcome.left + cost).allowed
            assert rate.outcome(outcome.state, at + outcome.reset_s + 1e-6, rate.capacity).allowed
        else:
            assert outcome.state == state
            assert cost > outcome.left
            assert rate.outcome(state, at + outcome.wait_s + 1e-6, cost).allowed
            assert not rate.outcome(state, at + outcome.wait_s * 0.9 - 1e-5, cost).allowed
        state = outcome.state


@pytest.mark.parametrize("rate", [bucket(), window()], ids=["bucket", "window"])
def test_a_clock_that_is_set_back_by_much_begins_anew_and_counts_on(rate):
    state = FRESH
    for _ in range(10):
        state = rate.outcome(state, NOW, 1).state
    hour_ago = NOW - 3600
    allowed = 0
    for _ in range(20):
        outcome = rate.outcome(state, hour_ago, 1)
        state, allowed = outcome.state, allowed + outcome.allowed
    assert allowed == 10


@pytest.mark.parametrize("rate", [bucket(), window()], ids=["bucket", "window"])
def test_a_clock_that_is_set_back_by_little_gives_nothing_away(rate):
    state = FRESH
    for _ in range(10):
        state = rate.outcome(state, NOW + 0.5, 1).state
    for back_s in (0.001, 0.4, 0.9):
        outcome = rate.outcome(state, NOW + 0.5 - back_s, 1)
        assert not outcome.allowed
        assert outcome.left == 0
        assert outcome.wait_s <= 1.1 + back_s


@pytest.mark.parametrize("rate", [bucket(), window()], ids=["bucket", "window"])
@pytest.mark.parametrize("torn", [(math.nan, math.nan, math.nan), (math.inf, 0.0, 0.0), (-math.inf, -1.0, -1.0), (1e300, 1e300, 1e300)])
def test_a_torn_counter_heals(rate, torn):
    state = torn
    state = rate.outcome(state, NOW, 1).state
    state = rate.outcome(state, NOW + 2.5, 1).state
    allowed = 0
    for _ in range(20):
        outcome = rate.outcome(state, NOW + 5, 1)
        state, allowed = outcome.state, allowed + outcome.allowed
    assert allowed == 10


def test_a_process_whose_clock_was_read_just_before_the_window_begins_counts_in_it():
    rate = window()
    state = run_state = FRESH
    for _ in range(6):
        run_state = rate.outcome(run_state, NOW + 0.001, 1).state
    outcome = rate.outcome(run_state, NOW - 0.001, 4)
    assert outcome.allowed
    assert outcome.state[0] == 10
    assert not rate.outcome(outcome.state, NOW + 0.002, 1).allowed
    assert rate.outcome(state, NOW - 0.001, 4).state[0] == 4


def test_a_window_counts_the_share_of_the_former_that_it_covers():
    rate = window()
    state = rate.outcome(FRESH, NOW + 0.9, 10).state
    assert rate.outcome(state, NOW + 1.0, 1).wait_s == pytest.approx(0.1)
    outcome = rate.outcome(state, NOW + 1.5, 1)
    assert (outcome.allowed, outcome.left) == (True, pytest.approx(4))
    assert rate.outcome(outcome.state, NOW + 1.5, 9).wait_s == pytest.approx(0.5)
    assert rate.outcome(state, NOW + 2.0, 10).allowed


def test_a_rate_that_changes_keeps_its_counter():
    before, after = bucket(requests=100), bucket(requests=10)
    assert before.prefix == after.prefix
    state = before.outcome(FRESH, NOW, 100).state
    assert not after.outcome(state, NOW, 1).allowed
    assert after.outcome(state, NOW + 1.1, 1).allowed
    smaller = bucket(burst=2)
    state = bucket(burst=50).outcome(FRESH, NOW, 50).state  # 5 s ahead: more than the smaller holds
    assert smaller.outcome(state, NOW, 2).allowed
    state = bucket(burst=3).outcome(FRESH, NOW, 3).state
    assert smaller.outcome(state, NOW, 1).wait_s == pytest.approx(0.2)


def test_less_than_one_each_time_still_lets_one_pass():
    rate = bucket(requests=0.5)
    outcome = rate.outcome(FRESH, NOW, 1)
    assert outcome.allowed
    assert rate.outcome(outcome.state, NOW, 1).wait_s == pytest.approx(2)


def test_rates_have_counters_of_their_own_and_names_without_numbers():
    specs = [
        RateSpec(requests=10),
        RateSpec(requests=20),
        RateSpec(requests=10, every="1m"),
        RateSpec(rows=10),
        RateSpec(requests=10, per="ip"),
        RateSpec(requests=10, algorithm="sliding_window"),
        RateSpec(requests=10, every=2),
    ]
    rates = rates_of(specs, "m") + rates_of(specs, "*") + rates_of(specs, "other")
    assert len({rate.prefix for rate in rates}) == len(rates)
    assert [type(rate) for rate in rates[4:6]] == [TokenBucket, SlidingWindow]
    assert [rate.label for rate in rates[:5]] == ["key:requests:1s", "key:requests:1s", "key:requests:1m", "key:rows:1s", "ip:requests:1s"]
    assert rates[7].label == "all:key:requests:1s"
    assert str(rates[3]) == "10 rows every 1s for each key"
    assert str(rates[6]) == "10 requests every 2s for each key"


def test_told_is_the_rate_with_the_least_left_or_the_longest_wait():
    small, large = rates = rates_of([RateSpec(requests=10), RateSpec(requests=1000, every="1m")], "m")

    def outcomes(*pairs):
        return [Outcome(not wait, FRESH, left, 1.0, wait) for left, wait in pairs]

    assert standing_of(rates, outcomes((5, 0), (100, 0))).rate is large
    assert standing_of(rates, outcomes((5, 0), (900, 0))).rate is small
    refused = standing_of(rates, outcomes((0, 0.1), (3, 0)))
    assert (refused.allowed, refused.rate, refused.wait_s) == (False, small, 0.1)
    assert standing_of(rates, outcomes((0, 0.1), (0, 30))).rate is large
    assert standing_of(rates, outcomes((0, 30), (0, 0.1))).rate is small
