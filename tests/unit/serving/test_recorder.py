from __future__ import annotations

import asyncio
import logging
import threading

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from unit.serving.inprocess import Trouble, troubled

from ekiben.errors import StateError
from ekiben.model.outputs import Outputs
from ekiben.monitoring.metrics import Metrics
from ekiben.serving import recorder as module
from ekiben.serving.arm_record import Taken
from ekiben.serving.control_link import ControlLink
from ekiben.serving.recorder import Recorder, worker_id
from ekiben.state import memory_control
from ekiben.state.events import Event
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

OUTPUTS = Outputs(1, {"prediction": np.array([1.5])})


class Request(msgspec.Struct):
    request_id: str
    key: str | None = None


class Host:
    """What a recorder knows of a host: what happened, what is loaded, and the link."""

    def __init__(self, metrics):
        self.link = ControlLink(metrics, metrics.wall)
        self.taken = []
        self.versions = {"m": ("1",)}
        self.news = []

    def happens(self, ok: int = 0, *, arm: str = "champion", exposed: tuple[str, ...] = (), **more):
        taken = Taken(computes=[(0.5, ok)] if ok else [], exposed=[(Request(name), (OUTPUTS, 0, 1), 7.0) for name in exposed], **more)
        self.taken.append(("m", "1", arm, taken))

    def take_records(self):
        taken, self.taken = self.taken, []
        return taken

    def take_news(self, worker):
        news, self.news = self.news, []
        return [Event(time=7.0, who=worker, model="m", kind="breaker-opened", message=text) for text in news]

    def say(self, worker):
        return WorkerState(id=worker, models=("m",), versions=self.versions)


class World:
    """A recorder, its host, and a control database that fails as told."""

    def __init__(self):
        self.now = 1000.0
        self.collectors = CollectorRegistry()
        self.host = Host(Metrics(self.collectors, wall=lambda: self.now))
        self.kept = memory_control(lambda: self.now)
        self.added = []
        self.trouble = Trouble()
        add = self.kept.windows.add

        def noting(worker, windows):
            self.added += [key.second for key, _ in windows]
            add(worker, windows)

        self.kept.windows.add = noting
        self.recorder = Recorder(self.host, troubled(self.kept, self.trouble), lambda: self.now)

    async def write(self, at: float, **more):
        self.now = at
        await self.recorder.write(**more)

    def by_second(self) -> dict[int, int]:
        """Second → requests answered."""
        return {key.second: window.ok for (_, key), window in sorted(self.kept.windows._windows.items(), key=lambda i: i[0][1].second)}

    def total(self) -> Window:
        return sum(self.kept.windows.sum("m", 0, 1e12).values(), Window())

    def worker(self) -> WorkerState | None:
        return next(iter(self.kept.workers.alive(5.0)), None)

    def exposed(self) -> list[str]:
        return [e.request_id for e in self.kept.truths._exposures.values()]


@pytest.fixture
def scenario():
    """Runs a coroutine function with a `World`."""

    def run(play):
        async def main():
            world = World()
            try:
                await asyncio.wait_for(play(world), 30)
            finally:
                await world.recorder.stop()

        asyncio.run(main())

    return run


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "ekiben.control")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "ekiben.control"]


# windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_happened_in_a_second_is_its_window(scenario):
    async def play(world):
        world.host.happens(3)
        await world.write(1001.0)
        world.host.happens(2)
        world.host.happens(1, arm="challenger", errors={"PredictionFailed": 1})
        await world.write(1002.0)
        assert {key.second for _, key in world.kept.windows._windows} == {1000, 1001}
        assert world.kept.windows.sum("m", 1000, 1001)["1", "champion"].ok == 3
        sums = world.kept.windows.sum("m", 1001, 1002)
        assert sums["1", "champion"].ok == 2
        assert (sums["1", "challenger"].ok, sums["1", "challenger"].errors) == (1, {"PredictionFailed": 1})
        assert {worker for worker, _ in world.kept.windows._windows} == {world.recorder.worker}

    scenario(play)


def test_a_second_that_is_written_twice_is_whole_both_times(scenario):
    async def play(world):
        world.host.happens(3)
        await world.write(1000.4)
        assert world.by_second() == {1000: 3}
        world.host.happens(2)
        await world.write(1000.7)
        assert world.by_second() == {1000: 5}
        world.host.happens(4)
        await world.write(1001.01)
        assert world.by_second() == {1000: 9}

    scenario(play)


def test_a_second_that_is_over_is_not_written_again(scenario):
    async def play(world):
        world.host.happens(3)
        await world.write(1001.0)
        for second in range(1002, 1006):
            world.host.happens(1)
            await world.write(second)
        assert world.added == [1000, 1001, 1002, 1003, 1004]

    scenario(play)


def test_exposures_are_written_once(scenario):
    async def play(world):
        written = []
        expose = world.kept.truths.expose

        def noting(exposures):
            written.extend(e.request_id for e in exposures)
            expose(exposures)

        world.kept.truths.expose = noting
        for n in range(3):
            world.host.happens(1, exposed=(f"r-{n}",))
            await world.write(1001.0 + n)
        await world.write(1010.0)
        assert written == ["r-0", "r-1", "r-2"] == world.exposed()

    scenario(play)


def test_where_nothing_happened_nothing_is_written(scenario):
    async def play(world):
        world.host.happens(0)
        await world.write(1001.0)
        assert world.added == []
        assert world.worker() is not None

    scenario(play)


# a database that is away ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("methods", [None, {"say"}, {"add"}, {"expose"}])
def test_while_the_database_is_away_nothing_is_lost(scenario, methods):
    async def play(world):
        world.host.happens(1, exposed=("r-0",))
        await world.write(1000.5)
        world.trouble.methods = methods
        for n in range(1, 30):
            world.host.happens(n, exposed=(f"r-{n}",))
            await world.write(1000.5 + n)
        world.trouble.methods = set()
        world.host.happens(1000)
        await world.write(1030.5)
        assert world.total().ok == 1 + sum(range(1, 30)) + 1000
        assert world.exposed() == [f"r-{n}" for n in range(30)]
        assert max(world.by_second()) == 1029

    scenario(play)


@pytest.mark.parametrize("began_within_a_second", [True, False])
def test_while_it_is_away_for_long_older_seconds_are_added_up(scenario, monkeypatch, began_within_a_second):
    monkeypatch.setattr(module, "_MAX_WINDOWS", 100)

    async def play(world):
        world.host.happens(5)
        # A second that was written in part is in the database, and must not count twice.
        await world.write(1000.5 if began_within_a_second else 1001.0)
        world.trouble.methods = None
        start = int(world.now)
        for n in range(600):
            world.host.happens(1)
            world.host.happens(2, arm="challenger")
            await world.write(start + 1 + n)
        assert len(world.recorder._windows) <= 2 * (61 + 600 // 60 + 2)
        world.trouble.methods = set()
        await world.write(world.now + 1)
        sums = world.kept.windows.sum("m", 0, 1e9)
        assert (sums["1", "champion"].ok, sums["1", "challenger"].ok) == (605, 1200)
        # What is of the last minute is still there by the second; what is older, by the minute that it was in.
        assert world.kept.windows.sum("m", start + 560, start + 570)["1", "champion"].ok == 10
        ends = range(start // 60 * 60 + 60, start + 540, 60)
        by_minute = [world.kept.windows.sum("m", end - 60, end)["1", "champion"].ok for end in ends]
        assert by_minute[1:] == [60] * (len(ends) - 1)

    scenario(play)


def test_of_too_many_exposures_the_oldest_go_and_it_is_said(scenario, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_EXPOSURES", 5)

    async def play(world):
        world.trouble.methods = None
        for n in range(4):
            world.host.happens(1, exposed=(f"r-{2 * n}", f"r-{2 * n + 1}"))
            await world.write(1001.0 + n)
        assert "the 1 oldest exposures were let go" in caplog.text
        assert "the 2 oldest exposures were let go" in caplog.text
        world.trouble.methods = set()
        await world.write(1010.0)
        assert world.exposed() == ["r-3", "r-4", "r-5", "r-6", "r-7"]
        assert world.total().ok == 4

    scenario(play)


def test_going_and_coming_back_are_said_once_and_shown(scenario, said):
    async def play(world):
        def up():
            return world.collectors.get_sample_value("ekiben_control_database_up")

        await world.write(1001.0)
        assert (up(), world.host.link.detail) == (1, "")
        world.trouble.methods = None
        for second in range(1002, 1010):
            await world.write(second)
        assert up() == 0
        assert "away since 1970-01-01T00:16:42" in world.host.link.detail
        world.trouble.methods = set()
        for second in range(1010, 1013):
            await world.write(second)
        assert (up(), world.host.link.detail) == (1, "")
        assert [line.split(";")[0].split(" after")[0] for line in said()] == [
            "the control database is away", "the control database is back",
        ]  # fmt: skip

    scenario(play)


def test_one_that_can_be_read_and_not_written_is_not_back_for_being_read(scenario, said):
    async def play(world):
        world.trouble.methods = {"add"}
        for second in range(1001, 1010):
            world.host.happens(1)
            await world.write(second)
            world.host.link.answered("read")
        assert len(said()) == 1

    scenario(play)


def test_an_error_that_nobody_expects_is_logged_and_nothing_is_lost(scenario, caplog, monkeypatch):
    async def play(world):
        world.host.happens(3)
        say = world.kept.workers.say
        monkeypatch.setattr(world.kept.workers, "say", lambda state: 1 / 0)
        await world.write(1001.0)
        assert "what happened cannot be written" in caplog.text
        monkeypatch.setattr(world.kept.workers, "say", say)
        await world.write(1002.0)
        assert world.total().ok == 3

    scenario(play)


# workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_two_workers_have_one_name():
    names = {worker_id() for _ in range(10)}
    assert len(names) == 10
    assert all(name.count(":") >= 2 for name in names)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


def test_it_writes_once_a_second_and_at_once_after_a_change(scenario, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.001)

    async def play(world):
        writes = []
        original = world.recorder.write

        async def noting(**more):
            writes.append(world.now)
            await original(**more)

        monkeypatch.setattr(world.recorder, "write", noting)
        world.now = 1000.5
        world.recorder.start()
        await until(lambda: world.worker() is not None)
        assert world.worker().versions == {"m": ("1",)}
        await asyncio.sleep(0.02)
        assert writes == [1000.5]
        # A change, within the second.
        world.now, world.host.versions = 1000.75, {"m": ("1", "2")}
        await until(lambda: world.worker().versions == {"m": ("1", "2")})
        await asyncio.sleep(0.02)
        assert writes == [1000.5, 1000.75]
        # The next full second, and the one after.
        for now in (1000.999, 1001.0, 1001.5, 1002.25, 1002.9):
            world.now = now
            await asyncio.sleep(0.02)
        assert writes == [1000.5, 1000.75, 1001.0, 1002.25]
        # A clock that was put back stops nothing.
        world.now = 900.0
        await asyncio.sleep(0.02)
        assert writes[4:] == [900.0]

    scenario(play)


def test_the_stop_writes_what_is_left_and_forgets_the_worker(scenario):
    async def play(world):
        world.recorder.start()
        await until(lambda: world.worker() is not None)
        world.host.happens(3, exposed=("r-1",))
        await world.recorder.stop()
        assert world.worker() is None
        assert world.total().ok == 3
        assert world.exposed() == ["r-1"]

        async def written_again():
            return None

        world.recorder.stop = written_again

    scenario(play)


def test_a_stop_in_the_middle_of_a_write_loses_nothing(scenario):
    async def play(world):
        began, gate = threading.Event(), threading.Event()
        say = world.kept.workers.say

        def slow(state):
            began.set()
            assert gate.wait(30)
            say(state)

        world.kept.workers.say = slow
        world.host.happens(3)
        world.recorder.start()
        assert await asyncio.to_thread(began.wait, 10)
        world.host.happens(4)
        stopping = asyncio.create_task(world.recorder.stop())
        await asyncio.sleep(0.01)
        gate.set()
        await stopping
        assert world.total().ok == 7
        assert world.worker() is None

        async def written_again():
            return None

        world.recorder.stop = written_again

    scenario(play)


def test_a_write_that_is_cancelled_before_it_begins_loses_nothing(scenario):
    async def play(world):
        gate = threading.Event()
        busy = world.recorder._thread.submit(gate.wait, 30)
        world.host.happens(3)
        writing = asyncio.create_task(world.recorder.write())
        await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        gate.set()
        assert busy.result(10)
        world.host.happens(4)
        await world.write(1001.0)
        assert world.total().ok == 7

    scenario(play)


def test_a_stop_while_the_database_is_away_ends_all_the_same(scenario, said):
    async def play(world):
        world.trouble.methods = None
        world.host.happens(3)
        await world.write(1001.0)

    scenario(play)
    assert len(said()) == 1


def test_a_state_error_of_any_kind_is_the_databases(scenario):
    async def play(world):
        def locked(state):
            raise StateError("locked")

        world.kept.workers.say = locked
        await world.write(1001.0)
        assert world.host.link.detail.endswith("locked")

    scenario(play)


def test_a_window_is_under_the_second_in_which_its_requests_ended(scenario):
    async def play(world):
        await world.write(1005.25)
        world.host.happens(1)
        await world.write(1006.05)
        assert world.by_second() == {1005: 1}
        assert WindowKey("m", "1", "champion", 1005) in {key for _, key in world.kept.windows._windows}

    scenario(play)


# what breakers did ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_news_become_events_once_also_after_the_database_was_away(scenario):
    async def play(world):
        world.trouble.methods = {"append"}
        world.host.news = ["one"]
        await world.write(1001.0)
        world.host.news = ["two"]
        await world.write(1002.0)
        assert world.kept.events.find() == []
        world.trouble.methods = set()
        await world.write(1003.0)
        await world.write(1004.0)
        events = world.kept.events.find()
        assert [(e.message, e.who) for e in events] == [("one", world.recorder.worker), ("two", world.recorder.worker)]

    scenario(play)
