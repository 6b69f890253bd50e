import pytest

from ekiben.monitoring.latency_budget import BurnRate


class Clock:
    def __init__(self):
        self.now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_one_uses_up_exactly_what_is_allowed(clock):
    rate = BurnRate(clock)
    assert rate.value() == 0
    rate.add(1000, 10)
    assert rate.value() == pytest.approx(1)
    rate.add(1000, 990)
    assert rate.value() == pytest.approx(50)


def test_nothing_answered_is_no_reason_to_look_at(clock):
    rate = BurnRate(clock)
    rate.add(0, 0)
    assert rate.value() == 0


def test_after_five_minutes_it_is_forgotten(clock):
    rate = BurnRate(clock)
    rate.add(100, 100)
    clock.now += 280
    rate.add(100, 0)
    assert rate.value() == pytest.approx(50)
    clock.now += 30
    assert rate.value() == 0
    clock.now += 300
    rate.add(10, 1)
    assert rate.value() == pytest.approx(10)
