import msgspec
import pytest

from ekiben.state.schema import WORKERS
from ekiben.state.sql_workers import SqlWorkers
from ekiben.state.workers import MemoryWorkers, WorkerState


@pytest.fixture(params=["memory", "sqlite"])
def workers(request, clock):
    return MemoryWorkers(clock) if request.param == "memory" else SqlWorkers(request.getfixturevalue("database"))


def test_who_is_silent_for_too_long_is_not_alive(workers, clock):
    workers.say(WorkerState(id="b", models=("m",)))
    clock.now += 3
    workers.say(WorkerState(id="a"))
    clock.now += 2
    assert workers.alive(5) == [WorkerState(id="a", seen_at=clock.now - 2), WorkerState(id="b", models=("m",), seen_at=clock.now - 5)]
    assert [w.id for w in workers.alive(4.9)] == ["a"]
    workers.forget("a")
    assert [w.id for w in workers.alive(5)] == ["b"]


@pytest.mark.parametrize(
    ("has", "follows"), [((1, 2, 3), True), ((1, 2, 4), True), ((2, 2, 2), False), ((1, 2), False), ((0, 9, 9), False)]
)
def test_a_worker_follows_what_is_in_force_in_it(has, follows):
    assert WorkerState(id="a", generation=has).follows((1, 2, 3)) == follows


def test_a_worker_that_starts_takes_away_those_that_ended_long_ago_without_a_word(database, clock):
    SqlWorkers(database).say(WorkerState(id="killed"))
    clock.now += 24 * 3600
    workers = SqlWorkers(database)
    workers.say(WorkerState(id="a"))
    assert len(database.read(WORKERS.select())) == 2
    clock.now += 1
    workers.say(WorkerState(id="a"))
    assert len(database.read(WORKERS.select())) == 2
    workers.say(WorkerState(id="b"))
    assert sorted(row.id for row in database.read(WORKERS.select())) == ["a", "b"]


def test_what_a_newer_version_says_of_itself_is_understood(database):
    workers = SqlWorkers(database)
    workers.say(WorkerState(id="a"))
    raw = {**msgspec.to_builtins(WorkerState(id="a", models=("m",))), "mood": "new"}
    with database.writing() as connection:
        connection.execute(WORKERS.update().values(state=msgspec.json.encode(raw).decode()))
    assert workers.alive(5)[0].models == ("m",)
