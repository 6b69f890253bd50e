from __future__ import annotations

import asyncio
import tracemalloc

import numpy as np
import pytest
from unit.guards.row_outputs import classes, numbers, ragged, same

from ekiben.guards.cache import MemoryRows
from ekiben.model.outputs import Outputs


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def store(clock, max_bytes=10**6, ttl_s=60.0) -> MemoryRows:
    return MemoryRows(ttl_s=ttl_s, max_bytes=max_bytes, clock=clock)


def find(rows: MemoryRows, *keys: bytes) -> Outputs | None:
    return asyncio.run(rows.find(keys))


@pytest.mark.parametrize("outputs", [numbers(), classes(), ragged()], ids=["numbers", "classes", "ragged"])
def test_rows_come_back_as_they_were_one_by_one_and_together(clock, outputs):
    rows = store(clock)
    rows.put([b"1", b"2"], outputs, 1)
    assert same(find(rows, b"1"), outputs.take(1, 2))
    assert same(find(rows, b"2"), outputs.take(2, 3))
    assert same(find(rows, b"2", b"1", b"2"), outputs.pick(np.array([2, 1, 2])))
    assert str(find(rows, b"1").rows()) == str(outputs.rows()[1:2])  # a NaN is not equal to itself
    assert rows.entries == 2


def test_all_rows_must_be_there(clock):
    rows = store(clock)
    rows.put([b"1"], numbers(), 0)
    assert find(rows, b"1", b"2") is None
    assert find(rows, b"2", b"1") is None


def test_keys_that_are_nearly_alike_are_two(clock):
    rows = store(clock)
    rows.put([b"k" * 31 + b"1"], numbers(), 0)
    assert find(rows, b"k" * 31 + b"2") is None
    assert find(rows, b"k" * 31) is None


def test_a_row_is_good_for_its_time_however_often_it_is_asked_for(clock):
    rows = store(clock, ttl_s=10)
    rows.put([b"1"], numbers(), 0)
    clock.now += 9.99
    assert find(rows, b"1") is not None
    clock.now += 0.01
    assert find(rows, b"1") is None
    assert (rows.entries, rows.held_bytes) == (0, 0)
    rows.put([b"1"], numbers(), 0)
    clock.now += 9.99
    assert find(rows, b"1") is not None


def test_the_least_recently_used_go_first(clock):
    one = store(clock)
    one.put([b"1"], numbers(), 0)
    rows = store(clock, max_bytes=3 * one.held_bytes)
    rows.put([b"1", b"2", b"3"], numbers(), 0)
    assert find(rows, b"1") is not None
    rows.put([b"4"], numbers(), 0)
    assert [find(rows, key) is not None for key in (b"1", b"2", b"3", b"4")] == [True, False, True, True]
    assert rows.held_bytes == 3 * one.held_bytes


def test_a_row_put_twice_counts_once_and_the_later_is_kept(clock):
    rows = store(clock)
    rows.put([b"1"], numbers(), 0)
    before = rows.held_bytes
    rows.put([b"1"], numbers(), 2)
    assert (rows.entries, rows.held_bytes) == (1, before)
    assert same(find(rows, b"1"), numbers().take(2, 3))


def test_a_row_larger_than_all_may_be_is_not_kept_and_drives_nothing_out(clock):
    rows = store(clock, max_bytes=5000)
    rows.put([b"1"], numbers(), 0)
    rows.put([b"2"], numbers(1, 5000), 0)
    assert find(rows, b"2") is None
    assert find(rows, b"1") is not None


def test_what_is_kept_is_nobodys_elses_and_cannot_be_changed(clock):
    rows = store(clock)
    outputs, other = numbers(), ragged()
    rows.put([b"1"], outputs, 0)
    rows.put([b"2"], other, 0)
    outputs.arrays["y"][:] = 99
    other.arrays["arrays"][0][:] = 99
    found = find(rows, b"1")
    assert same(found, numbers().take(0, 1))
    assert same(find(rows, b"2"), ragged().take(0, 1))
    with pytest.raises(ValueError, match="read-only"):
        found.arrays["y"][0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        find(rows, b"2").arrays["arrays"][0][0] = 1


def test_what_answers_are_made_into_does_not_stay(clock):
    rows = store(clock)
    rows.put([b"1"], classes(), 0)
    first, second = find(rows, b"1"), find(rows, b"1")
    assert first is not second
    assert first.rows() is not second.rows()


@pytest.mark.parametrize("make", [numbers, classes, ragged, lambda n: numbers(n, 300)], ids=["numbers", "classes", "ragged", "wide"])
def test_memory_stays_within_its_bounds(clock, make):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rows = store(clock, max_bytes=200_000)
        for n in range(1000):
            rows.put([n.to_bytes(32, "big")], make(2), n % 2)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0 < rows.entries < 1000
    assert 150_000 < rows.held_bytes <= 200_000
    # As much as is counted and not more, save for the table of places, which grows by leaps.
    assert 0.5 * rows.held_bytes < used < 1.1 * rows.held_bytes + 20_000


def test_objects_of_all_kinds_are_counted(clock):
    def size_of(value) -> int:
        array = np.empty(1, object)
        array[0] = value
        rows = store(clock, max_bytes=10**7)
        rows.put([b"1"], Outputs(1, {"y": array}), 0)
        return rows.held_bytes

    nested = np.empty(1, object)
    nested[0] = "x" * 10_000
    for value in ("x" * 10_000, np.zeros(10_000, np.uint8), nested, ["x" * 10_000], {"a": "x" * 10_000}, {"x" * 10_000: 1}):
        assert 10_000 < size_of(value) < 12_000


def test_closing_forgets_everything(clock):
    rows = store(clock)
    rows.put([b"1"], numbers(), 0)
    asyncio.run(rows.close())
    assert (find(rows, b"1"), rows.entries, rows.held_bytes) == (None, 0, 0)
