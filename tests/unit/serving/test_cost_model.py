import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.serving.cost_model import WORTHWHILE, CostModel

runs = st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 100)), min_size=1, max_size=60)


def test_nothing_learned_predicts_nothing():
    assert CostModel().seconds(100) == 0.0
    assert CostModel().queue_seconds(1000, 10) == 0.0


@given(runs)
def test_predictions_are_never_negative_and_never_fall_with_rows(observed):
    cost = CostModel()
    for rows, seconds in observed:
        cost.observe(rows, seconds)
    assert cost.fixed_s >= 0
    assert cost.per_row_s >= 0
    predicted = [cost.seconds(rows) for rows in (0, 1, 2, 10, 1000)]
    assert predicted == sorted(predicted)
    assert cost.queue_seconds(1000, 10) >= cost.queue_seconds(1000, 100) >= 0


@given(fixed=st.floats(1e-5, 1), per_row=st.floats(1e-6, 0.1), sizes=st.lists(st.integers(1, 500), min_size=2, max_size=30, unique=True))
def test_a_line_is_found(fixed, per_row, sizes):
    cost = CostModel()
    for rows in sizes:
        cost.observe(rows, fixed + rows * per_row)
    for rows in sizes:
        assert cost.seconds(rows) == pytest.approx(fixed + rows * per_row, rel=1e-3, abs=1e-6)


def test_runs_of_one_size_are_predicted_and_the_slope_learned_before_is_kept():
    cost = CostModel()
    for rows in (1, 10, 20):
        cost.observe(rows, 1 + 0.1 * rows)
    for _ in range(500):
        cost.observe(10, 2.0)
    assert cost.seconds(10) == pytest.approx(2.0)
    assert 0 <= cost.per_row_s <= 0.2


def test_a_line_through_a_negative_intercept_stays_above_nothing():
    cost = CostModel()
    cost.observe(10, 0.01)
    cost.observe(20, 1.0)
    assert cost.fixed_s == 0
    assert cost.per_row_s > 0


def test_it_follows_a_machine_that_becomes_slower():
    cost = CostModel()
    for _ in range(200):
        for rows in (1, 8, 32):
            cost.observe(rows, 0.001 + rows * 0.0001)
    for _ in range(200):
        for rows in (1, 8, 32):
            cost.observe(rows, 0.01 + rows * 0.001)
    assert cost.seconds(32) == pytest.approx(0.042, rel=0.05)


def test_a_queue_is_worked_off_in_batches():
    cost = CostModel()
    for rows in (1, 10):
        cost.observe(rows, 1 + rows)
    assert cost.queue_seconds(25, 10) == pytest.approx(3 * 1 + 25, rel=1e-6)


@given(fixed=st.floats(0, 1), per_row=st.floats(0, 0.1), most=st.integers(1, 512))
def test_a_batch_grows_as_long_as_that_saves_time(fixed, per_row, most):
    cost = CostModel()
    cost.fixed_s, cost.per_row_s = fixed, per_row
    useful = cost.useful_rows(most)
    assert 1 <= useful <= most
    if useful < most:
        # What twice the rows would save of each row's time is no longer worth it.
        assert fixed / useful - fixed / (2 * useful) <= WORTHWHILE * per_row


def test_a_model_that_gains_nothing_from_batches_runs_row_by_row_and_one_that_costs_nothing_a_row_as_many_as_it_can():
    alone, together = CostModel(), CostModel()
    alone.per_row_s, together.fixed_s = 1.0, 1.0
    assert alone.useful_rows(128) == 1
    assert together.useful_rows(128) == 128
