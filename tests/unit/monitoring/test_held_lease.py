from __future__ import annotations

import time

import pytest

from ekiben.errors import StateError
from ekiben.monitoring.held_lease import held_lease
from ekiben.state.leases import MemoryLeases


def test_it_is_held_while_something_takes_and_free_afterwards():
    leases = MemoryLeases(lambda: 0.0)
    with held_lease(leases, "retrain:m", "a:1") as is_mine:
        assert is_mine
        assert leases.holder("retrain:m") == "a:1"
        with held_lease(leases, "retrain:m", "b:2") as is_others:
            assert not is_others
        assert leases.holder("retrain:m") == "a:1"
    assert leases.holder("retrain:m") is None


def test_it_outlives_its_time_to_live():
    leases = MemoryLeases(time.monotonic)
    with held_lease(leases, "m", "a:1", ttl_s=0.3):
        time.sleep(0.7)
        assert leases.holder("m") == "a:1"


def test_what_fails_meanwhile_gives_it_back():
    leases = MemoryLeases(lambda: 0.0)
    with pytest.raises(ValueError, match="no"), held_lease(leases, "m", "a:1"):
        raise ValueError("no")
    assert leases.holder("m") is None


def test_a_database_that_is_away_meanwhile_ends_nothing():
    class Away(MemoryLeases):
        asked = 0

        def acquire(self, name, holder, ttl_s):
            self.asked += 1
            if self.asked > 1:
                raise StateError("away")
            return super().acquire(name, holder, ttl_s)

        def release(self, name, holder):
            raise StateError("away")

    leases = Away(lambda: 0.0)
    with held_lease(leases, "m", "a:1", ttl_s=0.03):
        time.sleep(0.1)
    assert leases.asked > 1
