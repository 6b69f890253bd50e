import pytest

from ekiben.state.control import memory_control
from ekiben.state.routes import Arm, Route
from ekiben.state.workers import WorkerState
from load_tests.bench.route_switch import RouteNotFollowed, RouteSwitch

ROUTE = Route(arms=(Arm("challenger", "2"),))


class Replay:
    """A clock whose sleeps run what happens meanwhile, one thing a sleep; after the last, that one again."""

    def __init__(self, *happenings):
        self.now = 0.0
        self.slept = 0
        self._happenings = happenings

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        happening = self._happenings[min(self.slept, len(self._happenings) - 1)]
        self.slept += 1
        happening()


@pytest.fixture
def control():
    return memory_control()


@pytest.fixture
def says(control):
    def say(worker, *versions, generation=None, problems=None):
        state = WorkerState(
            id=worker,
            versions={"m": versions},
            generation=control.generation() if generation is None else generation,
            problems=problems or {},
        )
        control.workers.say(state)

    return say


def _switch(control, replay, workers=1):
    return RouteSwitch(control, "m", workers, clock=replay, sleep=replay.sleep)


def test_a_route_is_in_force_when_all_workers_follow_it(control, says):
    before = control.generation()
    replay = Replay(
        lambda: says("a", "1", "2"),
        lambda: says("b", "1", generation=before),
        lambda: says("b", "1", "2"),
    )

    _switch(control, replay, workers=2).put(ROUTE)

    assert replay.slept == 3
    assert control.routes.get("m") == ROUTE


def test_a_worker_of_the_server_before_is_waited_out(control, says):
    says("old", "1")
    replay = Replay(lambda: says("new", "1", "2"), lambda: control.workers.forget("old"))

    _switch(control, replay).put(ROUTE)

    assert replay.slept == 2


def test_a_version_that_cannot_be_loaded_is_not_waited_for(control, says):
    replay = Replay(lambda: says("a", "1", problems={"m:2": "its files are gone"}))

    with pytest.raises(RouteNotFollowed, match="m:2 is not loaded in a: its files are gone"):
        _switch(control, replay).put(ROUTE)


def test_workers_that_never_follow_are_not_waited_for_forever(control, says):
    says("a", "1", "2")
    replay = Replay(lambda: None)

    with pytest.raises(RouteNotFollowed, match=r"0 of 1 live workers follow the route of m after 60 s; .* 2 of them"):
        _switch(control, replay, workers=2).put(ROUTE)


def test_a_route_is_taken_away_and_at_the_end_nothing_is_left(control, says):
    replay = Replay(lambda: says("a", "1", "2"))
    with _switch(control, replay) as switch:
        switch.put(ROUTE)
        switch.put(None)
        assert control.routes.get("m") is None
        switch.put(ROUTE)

    assert control.routes.all() == {}
