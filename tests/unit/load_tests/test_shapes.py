import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.shapes import DEFAULT_S, SHAPES, users_at


def _over_time(shape, users=100, run_s=100.0):
    return [users_at(shape, float(second), users=users, run_s=run_s) for second in range(100)]


def test_a_ramp_grows_to_all_and_stays():
    over_time = _over_time("ramp")

    assert over_time[0] == 1
    assert over_time == sorted(over_time)
    assert over_time[40] == 50
    assert set(over_time[80:]) == {100}


def test_a_spike_is_sudden_and_over_again():
    assert _over_time("spike") == [10] * 40 + [100] * 20 + [10] * 40


def test_a_soak_has_all_users_nearly_all_the_time():
    assert set(_over_time("soak")[2:]) == {100}


def test_steady_is_steady():
    assert set(_over_time("steady")) == {100}


@given(st.sampled_from(SHAPES), st.floats(0, 2), st.integers(1, 500), st.floats(1, 1e5))
def test_there_is_a_user_while_there_is_time_and_never_more_than_asked_for(shape, part, users, run_s):
    found = users_at(shape, part * run_s, users=users, run_s=run_s)

    if part * run_s >= run_s:
        assert found is None
    else:
        assert 1 <= found <= users


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_a_usual_length(shape):
    assert DEFAULT_S[shape] > 0
