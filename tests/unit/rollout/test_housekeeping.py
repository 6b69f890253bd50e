import msgspec
from unit.rollout.world import plan

from ekiben.rollout.housekeeping import Housekeeping
from ekiben.rollout.transitions import started
from ekiben.state import memory_control
from ekiben.state.rollouts import Change, Rollout
from ekiben.state.routes import Kept, MemoryRoutes, Route


class Moving(MemoryRoutes):
    """Routes that change between two looks."""

    def get(self, model):
        return Route(rollout="m-1", kept=(Kept("0", 5.0),), salt="moved")


def test_a_route_that_changed_between_two_looks_is_left_for_the_next_time():
    control = memory_control(lambda: 100.0)
    rollout = Rollout(id="m-1", model="m", champion="1", challenger="2", plan=plan({"pause": {}}), created=1.0, created_by="ann")
    control.rollouts.commit(started(rollout, Route(kept=(Kept("0", 5.0),))))
    before = control.routes.get("m")
    moving = Moving()
    moving.put("m", before)
    Housekeeping(msgspec.structs.replace(control, routes=moving)).let_go(100.0)
    assert control.routes.get("m") == before
    Housekeeping(control).let_go(100.0)
    assert control.routes.get("m") == msgspec.structs.replace(before, kept=())


def test_what_is_kept_without_a_rollout_is_let_go_when_it_is_over():
    control = memory_control(lambda: 100.0)
    control.rollouts.commit(Change(model="m", route=Route(kept=(Kept("0", 5.0), Kept("1", 900.0)))))
    Housekeeping(control).let_go(4.0)
    assert control.events.find() == []
    Housekeeping(control).let_go(5.0)
    assert control.routes.get("m") == Route(kept=(Kept("1", 900.0),))
    assert [(e.kind, e.details) for e in control.events.find()] == [("unloaded", {"version": "0"})]
    Housekeeping(control).let_go(900.0)
    assert control.routes.get("m") is None


def test_pruning_is_done_once_a_minute():
    control = memory_control(lambda: 100.0)
    asked = []
    control.windows.prune = asked.append
    housekeeping = Housekeeping(control)
    for now in (1e6, 1e6 + 59, 1e6 + 60):
        housekeeping.prune(now)
    assert asked == [1e6 - 86400, 1e6 + 60 - 86400]


def test_exposures_are_kept_a_week_and_truths_120_days():
    control = memory_control(lambda: 100.0)
    asked = []
    control.truths.prune = lambda exposures, truths: asked.append((exposures, truths))
    Housekeeping(control).prune(1e8)
    assert asked == [(1e8 - 7 * 86400, 1e8 - 120 * 86400)]
