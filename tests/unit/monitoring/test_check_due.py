import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.model.monitor_spec import MonitorSpec
from ekiben.monitoring.check_due import FIRST_LOOK_S, MOST_ROWS, bounded, due_of, has_any, quality_window_of, window_of
from ekiben.state.checks import Check

SPEC = MonitorSpec(every_predictions=1000, every="10m", min_rows=200, truth_within="1h")
NOW = 1_000_000.0


def last(ago_s, *, rows=500, lag_s=2.0):
    at = NOW - ago_s
    return Check(
        model="m", version="1", kind="drift", time=at, since=at - 900, until=at - lag_s, rows=rows, outcome="ok", summary="all is well"
    )


def due(rows, ago_s=None, newest_truth=None, spec=SPEC):
    return due_of(spec, last=None if ago_s is None else last(ago_s), rows=rows, newest_truth=newest_truth, now=NOW)


@pytest.mark.parametrize(
    ("rows", "ago_s", "expected"),
    [
        (200, None, True),
        (199, None, False),
        (1000, 60, True),
        (1000, 59, False),
        (999, 60, False),
        (1, 600, True),
        (1, 599, False),
        (0, 6000, False),
    ],
)
def test_due_after_so_many_predictions_or_so_much_time_with_any_and_once_a_minute_at_most(rows, ago_s, expected):
    assert due(rows, ago_s).is_due is expected


def test_a_first_check_of_a_model_that_wants_one_for_every_few_predictions():
    assert due(50, spec=MonitorSpec(every_predictions=50)).is_due


def test_new_ground_truth_makes_one_due_without_new_predictions():
    assert due(0, 600, newest_truth=NOW - 10).is_due
    assert not due(0, 599, newest_truth=NOW - 10).is_due
    assert not due(0, 600, newest_truth=NOW - 601).is_due


def test_it_says_what_it_waits_for_and_until_when():
    assert due(150).why == "150 of 200 predictions that a first check needs"
    assert (due(150).at, due(0, 60).at, due(0, 60).why) == (None, None, "no new predictions")
    assert (due(7, 100).at, due(7, 100).why) == (NOW + 500, "7 of 1000 new predictions, or 10m after the last check")
    assert (due(5000, 20).at, due(5000, 20).why, due(5000, 20).rows) == (NOW + 40, "5000 new predictions", 5000)


def test_a_short_pause_is_never_shorter_than_a_minute():
    assert due(7, 10, spec=MonitorSpec(every="1s")).at == NOW + 50


def test_a_window_goes_on_where_the_last_one_ended():
    assert window_of(SPEC, last=last(600), until=NOW, count=lambda *_: 10) == (NOW - 602, NOW)


def test_rows_of_a_check_that_had_too_few_are_looked_at_again():
    assert window_of(SPEC, last=last(600, rows=199), until=NOW, count=lambda *_: 10) == (NOW - 1500, NOW)


def test_a_first_window_reaches_back():
    assert window_of(SPEC, last=None, until=NOW, count=lambda *_: 10) == (NOW - FIRST_LOOK_S, NOW)


def steady(per_s):
    return lambda since, until: int(per_s * (until - since))


def test_of_many_rows_the_last_are_looked_at():
    since, until = window_of(SPEC, last=None, until=NOW, count=steady(1000))
    assert until == NOW
    assert 0.9 * MOST_ROWS <= 1000 * (until - since) <= MOST_ROWS


def test_quality_is_of_twice_the_time_that_ground_truth_takes():
    assert quality_window_of(SPEC, until=NOW, count=steady(1)) == (NOW - 7200, NOW)


def test_quality_of_many_rows_is_of_those_that_should_have_their_truth():
    since, until = quality_window_of(SPEC, until=NOW, count=steady(1000))
    assert until == NOW - 3600
    assert 0.9 * MOST_ROWS <= 1000 * (until - since) <= MOST_ROWS


def test_nothing_is_counted_between_ends_that_do_not_follow_each_other():
    assert bounded(5.0, 4.0, lambda *_: 1 / 0) == 4.0


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 20))
def test_never_more_rows_than_are_wanted_and_no_fewer_than_needed(times, most):
    def count(since, until):
        return sum(since <= t < until for t in times)

    since = bounded(0.0, 101.0, count, most)
    assert count(since, 101.0) <= most
    if len(times) <= most:
        assert since == 0.0


def test_of_a_long_time_with_many_rows_only_a_few_times_as_many_are_counted():
    counted = []

    def count(since, until):
        counted.append(int(1000 * (until - since)))
        return counted[-1]

    bounded(NOW - 30 * 86_400, NOW, count)
    assert sum(counted) < 10 * MOST_ROWS


def test_whether_there_are_any_rows():
    def count(since, until):
        return int(since <= 10.0 < until)

    assert [has_any(since, until, count) for since, until in ((0, 100), (10, 11), (11, 100), (0, 10), (5, 5))] == [
        True,
        True,
        False,
        False,
        False,
    ]
