import pytest
from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import Clock, allowed, rates

from ekiben.guards import shared_counts
from ekiben.guards.shared_counts import SharedCounts


@pytest.fixture
def clock():
    return Clock()


@in_loop
async def test_workers_share_counters_and_these_outlive_them(tmp_path, clock):
    (rate,) = rates({"requests": 10, "every": "1m"})
    one, other = SharedCounts(tmp_path, wall=clock), SharedCounts(tmp_path, wall=clock)
    assert await allowed(one, rate, b"k", 6) == 6
    assert await allowed(other, rate, b"k", 6) == 4
    await one.close()
    await other.close()
    later = SharedCounts(tmp_path, wall=clock)
    assert await allowed(later, rate, b"k", 1) == 0
    await later.close()


@in_loop
async def test_in_a_full_bucket_the_counter_goes_that_was_idle_longest(tmp_path, clock):
    counts = SharedCounts(tmp_path, wall=clock, most=8)
    (rate,) = rates({"requests": 1, "every": "1h"})
    for n in range(8):
        clock.now += 1
        assert await allowed(counts, rate, b"%d" % n, 2) == 1
    assert await allowed(counts, rate, b"new", 2) == 1
    assert await allowed(counts, rate, b"1", 2) == 0
    assert await allowed(counts, rate, b"0", 2) == 1, "it was forgotten"
    assert (tmp_path / "limits.counts").stat().st_size < 5000
    await counts.close()


@in_loop
async def test_names_of_one_step_that_share_a_full_bucket_are_all_counted(tmp_path, clock):
    counts = SharedCounts(tmp_path, wall=clock, most=8)
    both = rates({"requests": 3, "every": "1h"}, {"requests": 2, "every": "1h", "per": "ip"})
    (filler,) = rates({"requests": 1, "every": "1m"})
    for n in range(8):
        await allowed(counts, filler, b"f%d" % n, 1)
    clock.now += 1
    assert sum([(await counts.take(both, [b"a", b"b"], 1)).allowed for _ in range(5)]) == 2
    assert sum([(await counts.take(both, [b"a", b"c"], 1)).allowed for _ in range(5)]) == 1
    await counts.close()


@in_loop
async def test_whatever_a_killed_worker_left_the_file_can_be_used(tmp_path, clock):
    (rate,) = rates({"requests": 10, "every": "1s"})
    counts = SharedCounts(tmp_path, wall=clock, most=8)
    counts._table.data[4096:] = b"\xff" * (counts._table.size_bytes - 4096)
    assert await allowed(counts, rate, b"k", 20) == 10
    entry = counts._table.find(counts._table.key_of(b"k"), 4096)
    counts._table.data[entry + 16 : entry + 24] = b"\xff" * 8  # no number
    clock.now += 1
    assert await allowed(counts, rate, b"k", 20) == 10
    await counts.close()


def test_where_one_file_cannot_be_made_the_other_is_let_go(tmp_path, monkeypatch):
    closed, close = [], shared_counts.SharedPlaces.close
    monkeypatch.setattr(shared_counts.SharedPlaces, "close", lambda places: (close(places), closed.append(places)))
    (tmp_path / "limits.counts").mkdir()
    with pytest.raises(OSError, match=r"limits\.counts"):
        SharedCounts(tmp_path)
    assert len(closed) == 1
