import fcntl
import os
from pathlib import Path

import pytest
from unit.guards.limit_worlds import Clock

from ekiben.guards import shared_places
from ekiben.guards.shared_places import SharedPlaces


@pytest.fixture
def clock():
    return Clock(100.0)


@pytest.fixture
def worker(tmp_path, clock):
    """A function that gives one more worker of the same places."""
    opened = []

    def start():
        opened.append(SharedPlaces(tmp_path, clock=clock))
        return opened[-1]

    yield start
    for places in opened:
        places.close()


def held(places, name, limit, times):
    return [place for _ in range(times) if (place := places.hold(name, limit)) is not None]


def killed(places):
    """Ends a worker as the kernel does: its lock is gone, what it wrote stays."""
    fcntl.flock(places._alive, fcntl.LOCK_UN)


def test_places_are_counted_over_all_workers(worker):
    one, other = worker(), worker()
    mine = held(one, b"k", 5, 3)
    theirs = held(other, b"k", 5, 9)
    assert (len(mine), len(theirs)) == (3, 2)
    assert len(held(other, b"another", 5, 9)) == 5
    one.release(mine.pop())
    assert len(held(other, b"k", 5, 9)) == 1
    assert held(one, b"k", 5, 1) == []


def test_those_of_a_killed_worker_are_free_at_the_next_refusal_and_those_of_a_living_one_are_not(worker, clock):
    dead, living, asking = worker(), worker(), worker()
    held(dead, b"k", 5, 3)
    held(living, b"k", 5, 2)
    assert held(asking, b"k", 5, 1) == []
    killed(dead)
    assert held(asking, b"k", 5, 1) == [], "it has just looked"
    clock.now += 0.06
    assert len(held(asking, b"k", 5, 9)) == 3
    clock.now += 0.06
    assert held(asking, b"k", 5, 9) == []


def test_who_takes_a_killed_workers_column_begins_with_nothing_held(worker):
    dead, other = worker(), worker()
    held(dead, b"k", 5, 5)
    killed(dead)
    heir = worker()
    assert heir._column == dead._column
    assert len(held(other, b"k", 5, 9)) == 5


def test_giving_back_twice_gives_nobody_elses(worker):
    one, other = worker(), worker()
    (place,) = held(one, b"k", 3, 1)
    held(other, b"k", 3, 2)
    more = held(one, b"k", 4, 1)
    one.release(place)
    one.release(place)
    assert len(held(one, b"k", 4, 5)) == 1
    assert len(more) == 1


def test_who_ends_gives_back_all(tmp_path, worker):
    one = worker()
    ending = SharedPlaces(tmp_path)
    held(ending, b"k", 2, 2)
    ending.close()
    assert len(held(one, b"k", 2, 5)) == 2


def test_where_a_bucket_has_no_room_a_place_is_not_counted(worker, monkeypatch):
    one = worker()
    monkeypatch.setattr(one._table, "bucket_of", lambda _: 4096)
    first = [held(one, b"%d" % n, 1, 1)[0] for n in range(8)]
    more = held(one, b"more", 1, 3)
    assert [place.index for place in more] == [-1, -1, -1]
    one.release(more[0])
    one.release(first[3])
    assert len(held(one, b"more", 1, 3)) == 1, "the entry of one that nobody holds is taken"
    assert held(one, b"4", 1, 1) == []


def test_no_more_workers_than_there_are_columns(tmp_path, worker, monkeypatch):
    monkeypatch.setattr(shared_places, "WORKERS", 2)
    worker()
    worker()
    with pytest.raises(OSError, match="2 workers already"):
        SharedPlaces(tmp_path)


def test_a_worker_of_which_nothing_can_be_told_counts_as_living(worker, clock, monkeypatch, caplog):
    one, other = worker(), worker()
    held(one, b"k", 1, 1)
    monkeypatch.setattr(other, "_locked", lambda _: os.open("/nowhere/at/all", os.O_RDWR))
    assert held(other, b"k", 1, 1) == []
    assert "cannot be told" in caplog.text


def test_a_file_that_cannot_be_locked_is_closed(worker, monkeypatch):
    one = worker()

    def refuse(*_):
        raise OSError("no locks available")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="no locks"):
        one._locked(7)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_columns_hold_no_more_than_their_numbers_can(worker):
    one = worker()
    (place,) = held(one, b"k", 10**6, 1)
    one._numbers[place.index] = 65535
    assert one.hold(b"k", 10**6) is None
