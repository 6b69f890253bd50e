import math
import threading
import time

import msgspec
import pytest
from unit.rollout.world import ANALYSIS, MODEL, START, World, plan

from ekiben.errors import MeasurementFailed, StateError
from ekiben.rollout.controller import TTL_S
from ekiben.rollout.experiment import plan_for
from ekiben.rollout.experiment import started as experiment_started
from ekiben.rollout.status import LEASE
from ekiben.rollout.transitions import paused, started
from ekiben.state.aliases import Aliases
from ekiben.state.leases import Leases
from ekiben.state.rollouts import Change, Rollout, Rollouts
from ekiben.state.routes import Arm, Kept, Route
from ekiben.state.truth import Exposure
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

STEPS = ({"shadow": {}}, {"pause": "2s"}, {"setWeight": 20}, {"pause": "5s"}, {"setWeight": 100}, {"pause": "5s"})


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def weights_seen(world, seconds):
    seen = []
    for _ in range(seconds):
        world.pass_time(1)
        if not seen or seen[-1] != world.weight:
            seen.append(world.weight)
    return seen


def test_a_good_version_goes_all_the_way_and_becomes_champion(world):
    world.operations().start(MODEL, "v2", plan=plan(*STEPS, scaleDownDelaySeconds=60))
    assert weights_seen(world, 60) == [0.0, 20.0, 100.0, 0.0]
    assert world.rollout.status == "Completed"
    assert world.control.aliases.get(MODEL) == {"champion": "v2", "previous": "v1"}
    assert [record.outcome for record in world.control.rollouts.steps(world.rollout.id)] == ["done"] * 6
    assert world.kinds() == ["started", "loaded", "step", "pause-over", "step", "pause-over", "step", "pause-over", "promoted"]
    assert world.route == Route(kept=(Kept("v1", world.rollout.ended + 60),))
    world.pass_time(62)
    assert world.route is None
    assert world.kinds()[-1] == "unloaded"


def test_a_version_that_fails_more_goes_back_by_itself_and_stays_loaded(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(10)
    assert world.weight == 20
    world.error_rates["v2"] = 0.5
    world.pass_time(4)
    assert world.rollout.status == "RolledBack"
    assert "errorRate Failed" in world.rollout.message
    assert world.route is None
    assert world.control.aliases.get(MODEL)["challenger"] == "v2"  # which keeps it loaded
    assert world.control.aliases.get(MODEL) == {"champion": "v1", "challenger": "v2"}
    last = world.control.events.find(model=MODEL)[-1]
    assert (last.kind, last.who, last.details["measurements"][0]["outcome"]) == ("rolled-back", "controller", "Failed")
    assert world.control.measurements.find("tiny-1")[-1].outcome == "Failed"
    assert world.control.rollouts.steps("tiny-1")[-1].outcome == "rolled-back"
    before = len(world.kinds())
    world.pass_time(5)
    assert len(world.kinds()) == before


def test_what_both_suffer_alike_is_not_the_challengers_fault(world):
    world.error_rates |= {"v1": 0.3, "v2": 0.3}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 50}, {"pause": "5s"}))
    world.pass_time(60)
    assert world.rollout.status == "Progressing"
    assert world.rollout.step == 1


def test_traffic_of_before_a_change_of_weight_is_not_measured(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}, {"setWeight": 50}, {"pause": "1h"}))
    world.pass_time(10)
    world.operations().promote(MODEL)
    world.pass_time(0.5)
    assert world.rollout.stage == 2
    # What was under way when the weight changed ends in its second and the one after.
    began = world.rollout.stage_began
    for second in range(int(began) - 1, math.ceil(began) + 1):
        failures = Window(errors={"PredictionFailed": 1000})
        world.control.windows.add("late", [(WindowKey(MODEL, "v2", "challenger", second), failures)])
    world.pass_time(20)
    assert world.rollout.status == "Progressing"
    assert all(m.outcome != "Failed" for m in world.control.measurements.find("tiny-1", step=2))


def test_the_first_step_waits_until_every_worker_has_the_version(world):
    world.loadable.discard("v2")
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    world.pass_time(30)
    assert world.rollout.step_began == 0
    world.loadable.add("v2")
    # One of two is not enough.
    world.workers, others = world.workers[:1], world.workers[1:]
    world.now += 0.5
    world.speak()
    world.controller.tick()
    assert world.rollout.step_began == 0
    world.workers += others
    world.pass_time(1)
    assert world.rollout.step_began > 0


def test_without_workers_it_waits(tmp_path):
    world = World(tmp_path, workers=0)
    world.control.aliases.set(MODEL, "champion", "v1")
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    for _ in range(30):
        world.now += 1
        world.controller.tick()
    assert world.rollout.step_began == 0
    assert world.rollout.status == "Progressing"


def test_a_version_that_a_worker_cannot_load_goes_back_with_the_reason(world):
    world.loadable.discard("v2")
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    world.problems = {"tiny:v2": "golden rows differ"}
    world.pass_time(1)
    assert world.rollout.status == "RolledBack"
    assert world.rollout.message == "tiny:v2 cannot be loaded: golden rows differ"
    assert world.kinds()[-2:] == ["load-failed", "rolled-back"]


def test_what_a_worker_says_of_an_earlier_attempt_does_not_count(world):
    world.problems = {"tiny:v2": "no memory"}
    world.pass_time(1)
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    world.now += 0.5
    world.controller.tick()
    assert world.rollout.status == "Progressing"
    world.problems = {}
    world.pass_time(8)
    assert world.rollout.step > 0


def test_a_pause_until_approved_waits_for_a_person(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": {}}, {"setWeight": 100}, {"pause": "1s"}))
    world.pass_time(120)
    assert (world.rollout.step, world.weight) == (1, 20)
    assert "waits" in world.kinds()
    world.operations().promote(MODEL)
    world.pass_time(20)
    assert world.rollout.status == "Completed"
    assert "approved" in world.kinds()


def test_a_pause_that_is_over_holds_until_there_was_enough_to_measure(world):
    world.requests_per_s = 0
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "2s"}, {"setWeight": 100}, {"pause": "1h"}))
    world.pass_time(60)
    assert world.rollout.step == 1
    world.requests_per_s = 200
    world.pass_time(10)
    assert world.rollout.step == 3


def test_without_a_stage_a_pause_is_only_time(world):
    world.requests_per_s = 0
    world.operations().start(MODEL, "v2", plan=plan({"pause": "3s"}, {"setWeight": 0}, {"pause": "3s"}, {"setWeight": 10}, {"pause": "1h"}))
    world.pass_time(5)
    assert world.rollout.step == 2
    world.pass_time(5)
    assert world.rollout.step == 4


def test_header_routes_come_and_go(world):
    match = [{"headerName": "X-Beta", "headerValue": {"exact": "on"}}]
    rule = {"setHeaderRoute": {"name": "beta", "match": match}}
    gone = {"setHeaderRoute": {"name": "beta"}}
    world.operations().start(MODEL, "v2", plan=plan(rule, {"pause": {}}, gone, {"pause": {}}))
    world.pass_time(1)
    assert [(r.name, r.arm, r.conditions[0].header, r.conditions[0].value) for r in world.route.rules] == [
        ("beta", "challenger", "x-beta", "on")
    ]
    world.operations().promote(MODEL)
    world.pass_time(1)
    assert world.route.rules == ()


def test_too_little_for_too_long_asks_a_person_and_resuming_judges_anew(world):
    world.requests_per_s = 0
    patient = {**ANALYSIS, "inconclusiveLimit": 5}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "2s"}, analysis=patient))
    world.pass_time(20)
    assert world.rollout.status == "Paused"
    assert "a person decides" in world.rollout.message
    assert world.weight == 20
    world.operations().resume(MODEL)
    world.pass_time(2)
    assert world.rollout.status == "Progressing"
    world.requests_per_s = 2000
    world.pass_time(20)
    assert world.rollout.status == "Completed"


def test_a_paused_rollout_goes_on_with_nothing_and_still_goes_back_when_it_fails(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "3s"}, {"setWeight": 100}))
    world.pass_time(2)
    world.operations().pause(MODEL)
    world.pass_time(60)
    assert (world.rollout.status, world.weight) == ("Paused", 20)
    world.error_rates["v2"] = 0.9
    world.pass_time(30)
    assert world.rollout.status == "RolledBack"


def test_the_time_of_a_pause_by_a_person_does_not_count(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "20s"}, {"setWeight": 100}, {"pause": "1h"}))
    world.pass_time(10)
    world.operations().pause(MODEL)
    world.pass_time(100)
    world.operations().resume(MODEL)
    world.pass_time(5)
    assert world.rollout.step == 1
    world.pass_time(8)
    assert world.rollout.step == 3


def test_what_cannot_be_measured_goes_back_after_some_tries(world):
    def query(spec):
        raise MeasurementFailed("Prometheus is away")

    world.controller = world.make_controller(query=query)
    metric = {"name": "queue", "prometheus": {"query": "up", "address": "http://p"}, "successCondition": "result < 1"}
    analysis = {"interval": "1s", "consecutiveErrorLimit": 2, "metrics": [metric]}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}, analysis=analysis))
    world.pass_time(2)
    world.operations().pause(MODEL)
    world.pass_time(10)
    assert world.rollout.status == "Paused"
    world.operations().resume(MODEL)
    world.pass_time(2)
    assert world.rollout.status == "Progressing"
    world.pass_time(3)
    assert world.rollout.status == "RolledBack"
    assert "Prometheus is away" in world.rollout.message


@pytest.mark.parametrize(("champion", "challenger"), [("v3", "v2"), ("v2", None)])
def test_a_champion_that_somebody_else_changes_ends_the_rollout_and_stays(world, champion, challenger):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(2)
    world.control.aliases.set(MODEL, "champion", champion)
    world.pass_time(1)
    assert world.rollout.status == "Aborted"
    assert f"{champion} was made champion" in world.rollout.message
    assert world.control.aliases.get(MODEL).get("champion") == champion
    assert world.control.aliases.get(MODEL).get("challenger") == challenger
    assert world.weight == 0


def test_a_champion_that_is_taken_away_ends_the_rollout(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.control.aliases.remove(MODEL, "champion")
    world.controller.tick()
    assert "was taken away" in world.rollout.message


def test_a_route_that_was_overwritten_while_it_waits_comes_back(world):
    world.loadable.discard("v2")
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    right = world.route
    world.control.rollouts.commit(Change(model=MODEL, route=Route(kept=(Kept("v0", 5.0),))))
    world.loadable.add("v2")
    world.pass_time(1)
    assert (world.route.rollout, world.route.arms, world.route.salt) == (right.rollout, right.arms, right.salt)


def experiment(world, **fields):
    arms = (Arm("a", "v1"), Arm("b", "v2"))
    return Rollout(
        **{
            "id": "tiny-1",
            "model": MODEL,
            "kind": "experiment",
            "champion": "v1",
            "arms": arms,
            "plan": plan_for({"a": 50.0, "b": 50.0}, "accuracy"),
            "created": world.now,
            "created_by": "ann",
            **fields,
        }
    )


def test_an_experiment_lets_users_in_when_its_arms_are_loaded_and_goes_on(world):
    world.control.rollouts.commit(experiment_started(experiment(world), None))
    world.pass_time(10)
    assert [world.route.weight(arm) for arm in "ab"] == [50.0, 50.0]
    assert world.rollout.is_active
    # An experiment's arms stand beside whatever is champion.
    world.control.aliases.set(MODEL, "champion", "v3")
    world.pass_time(2)
    assert world.rollout.is_active


def test_an_experiment_whose_arm_cannot_be_loaded_ends(world):
    world.loadable.discard("v2")
    world.control.rollouts.commit(experiment_started(experiment(world), None))
    world.problems = {"tiny:v2": "no memory"}
    world.pass_time(1)
    assert world.rollout.status == "RolledBack"
    assert world.route is None


# one at a time, and nothing twice ────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here."""


class Mortal(Rollouts):
    """Rollouts whose process is killed right after, or right before, its n-th commit."""

    def __init__(self, rollouts, n, *, before, log):
        self._rollouts, self._n, self._before, self._log = rollouts, n, before, log

    def get(self, rollout):
        return self._rollouts.get(rollout)

    def find(self, **which):
        return self._rollouts.find(**which)

    def steps(self, rollout):
        return self._rollouts.steps(rollout)

    def commit(self, change):
        self._n -= 1
        if self._n == 0 and self._before:
            raise Killed
        kept = self._rollouts.commit(change)
        self._log.append((change.route, kept.rollout and (kept.rollout.step, kept.rollout.status), change.aliases))
        if self._n == 0:
            raise Killed
        return kept


def carried_out(folder, dies_at, *, before):
    """What is committed when the controller dies at one of its commits and another one goes on after the lease ran out."""
    world, log = World(folder), []
    world.operations().start(MODEL, "v2", plan=plan(*STEPS, scaleDownDelaySeconds=10))
    mortal = msgspec.structs.replace(world.control, rollouts=Mortal(world.control.rollouts, dies_at, before=before, log=log))
    world.controller = world.make_controller(control=mortal)
    for _ in range(160):
        try:
            world.pass_time(0.5)
        except Killed:
            immortal = msgspec.structs.replace(world.control, rollouts=Mortal(world.control.rollouts, 0, before=False, log=log))
            world.controller = world.make_controller("host:2", control=immortal)
    return world, log


def test_killed_at_any_commit_nothing_is_skipped_and_nothing_done_twice(tmp_path):
    def folder(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    world, undisturbed = carried_out(folder("whole"), 0, before=False)
    assert world.rollout.status == "Completed"
    assert len(undisturbed) == 9  # loaded, six steps, promotion, the former champion let go
    # Slots are drawn anew by nobody, so even they are equal; the times at which versions are let go are not.
    expected = [(timeless(route), *rest) for route, *rest in undisturbed]
    for n in range(1, len(undisturbed) + 1):
        for before in (False, True):
            world, log = carried_out(folder(f"{n}-{before}"), n, before=before)
            assert world.rollout.status == "Completed"
            assert [(timeless(route), *rest) for route, *rest in log] == expected, (n, before)


def timeless(route):
    return msgspec.structs.replace(route, kept=tuple(k.version for k in route.kept)) if isinstance(route, Route) else route


def test_one_controller_works_and_another_takes_over_when_it_is_gone(world):
    other = world.make_controller("host:2")
    assert world.controller.tick()
    assert not other.tick()
    assert world.control.leases.holder(LEASE) == "host:1"
    world.now += TTL_S + 0.1
    assert other.tick()
    assert not world.controller.tick()
    assert (other.is_holding, world.controller.is_holding) == (True, False)


class Losing(Leases):
    """A lease that another one has from the second time on that it is asked for."""

    def __init__(self):
        self.asked = 0

    def acquire(self, name, holder, ttl_s):
        self.asked += 1
        return self.asked == 1

    def release(self, name, holder):
        pass

    def holder(self, name):
        return "other"


def test_a_controller_that_loses_its_lease_within_a_tick_leaves_the_rest(world):
    world.operations().start(MODEL, "v2", plan=plan(*STEPS))
    world.speak()
    ticks = iter([0.0, 2.0, 4.0, 6.0])
    control = msgspec.structs.replace(world.control, leases=Losing())
    slow = world.make_controller(control=control, clock=lambda: next(ticks))
    assert not slow.tick()
    assert world.rollout.step_began == 0


class Broken(Aliases):
    """Aliases that fail for one model."""

    def __init__(self, aliases, model, error):
        self._aliases, self._model, self.error = aliases, model, error

    def get(self, model):
        if model == self._model and self.error:
            raise self.error
        return self._aliases.get(model)

    def all(self):
        return self._aliases.all()

    def set(self, model, alias, version, *, replace=True):
        return self._aliases.set(model, alias, version, replace=replace)

    def remove(self, model, alias):
        return self._aliases.remove(model, alias)

    def generation(self):
        return self._aliases.generation()


def test_what_goes_wrong_with_one_rollout_is_told_once_and_stops_no_other(world, caplog):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    bad = Rollout(id="bad-1", model="bad", champion="1", challenger="2", plan=plan({"setWeight": 5}), created=world.now, created_by="ann")
    world.control.rollouts.commit(started(bad, None))
    broken = Broken(world.control.aliases, "bad", ValueError("odd"))
    world.controller = world.make_controller(control=msgspec.structs.replace(world.control, aliases=broken))
    world.pass_time(20)
    assert world.weight == 20
    assert [e.message for e in world.control.events.find(model="bad")[1:]] == ["bad-1 cannot go on: ValueError: odd; it is tried again"]
    assert caplog.text.count("bad-1 cannot go on") == 1


class Overtaken(Mortal):
    """Rollouts of which somebody else changes one just before the first commit."""

    def commit(self, change):
        if change.rollout is not None and not self._log:
            self._log.append("paused")
            self._rollouts.commit(paused(self._rollouts.get(change.rollout.id), 1.0, who="bob", why="wait"))
        return self._rollouts.commit(change)


def test_who_was_faster_is_heard(world, caplog):
    caplog.set_level("DEBUG", "ekiben.controller")
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    overtaken = msgspec.structs.replace(world.control, rollouts=Overtaken(world.control.rollouts, 0, before=False, log=[]))
    world.controller = world.make_controller(control=overtaken)
    world.pass_time(3)
    assert world.rollout.status == "Paused"
    assert world.rollout.step_began == 0
    assert "was changed by somebody else meanwhile" in caplog.text
    world.operations(who="bob").resume(MODEL)
    world.pass_time(1)
    assert world.weight == 20


def test_what_goes_wrong_while_tidying_up_is_logged_and_no_event(world, caplog):
    world.control.windows.prune = None
    world.pass_time(5)
    assert caplog.text.count("housekeeping cannot go on") == 1
    assert world.control.events.find() == []


def test_while_the_database_is_away_it_waits_and_then_goes_on(world, caplog):
    broken = Broken(world.control.aliases, MODEL, None)
    world.controller = world.make_controller(
        control=msgspec.structs.replace(world.control, aliases=broken), wall=time.time, clock=time.monotonic
    )
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.speak()
    broken.error = StateError("the database is away")
    with pytest.raises(StateError):
        world.controller.tick()
    stop = threading.Event()
    thread = threading.Thread(target=world.controller.run, args=(stop,))
    thread.start()
    wait_until(lambda: "the database is away" in caplog.text)
    time.sleep(1.1)
    assert caplog.text.count("the database is away") == 1
    assert world.rollout.step_began == 0
    broken.error = None
    wait_until(lambda: world.weight == 20)
    assert world.control.leases.holder(LEASE) == "host:1"
    stop.set()
    thread.join(5)
    assert world.control.leases.holder(LEASE) is None


class Unanswering(Leases):
    """Leases of a database that is away."""

    def acquire(self, name, holder, ttl_s):
        raise StateError("away")

    def release(self, name, holder):
        raise StateError("away")

    def holder(self, name):
        raise StateError("away")


def test_a_controller_whose_database_is_away_holds_nothing_and_ends_when_told(world):
    controller = world.make_controller(control=msgspec.structs.replace(world.control, leases=Unanswering()))
    stop = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert not controller.is_holding


def test_a_failure_outside_of_any_rollout_does_not_end_it(world, caplog):
    failing = iter([ZeroDivisionError("odd")])

    def once():
        for error in failing:
            raise error
        return time.monotonic()

    controller = world.make_controller(clock=once)
    stop = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    wait_until(lambda: controller.is_holding)
    stop.set()
    thread.join(5)
    assert "odd" in caplog.text


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# tidying up ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_old_records_go_and_those_of_an_active_rollout_stay(world):
    day = 24 * 3600
    world.control.windows.add("w", [(WindowKey(MODEL, "v1", "champion", int(START)), Window(ok=1))])
    exposure = Exposure(model=MODEL, request_id="r", row=0, version="v1", arm="champion", key="k", time=START)
    world.control.truths.expose([exposure])
    world.control.workers.say(WorkerState(id="dead", models=(MODEL,)))
    world.operations().start(MODEL, "v2", plan=plan({"pause": {}}))

    def left():
        windows = world.control.windows.sum(MODEL, 0, world.now)
        workers = world.control.workers.alive(1e9)
        return len(windows), len(world.control.truths.exposed(MODEL, 0, world.now)), [w.id for w in workers]

    world.now += 8 * day
    world.controller.tick()
    assert left() == (1, 1, [])
    world.operations().abort(MODEL)
    world.now += 30
    world.controller.tick()
    assert left()[:2] == (1, 1)
    world.now += 31
    world.controller.tick()
    assert left()[:2] == (0, 0)


def test_versions_kept_long_enough_are_let_go_beside_an_active_rollout(world):
    world.control.rollouts.commit(Change(model=MODEL, route=Route(kept=(Kept("v0", START + 3), Kept("v3", START + 900)))))
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(5)
    assert world.route.kept == (Kept("v3", START + 900),)
    assert world.weight == 20
    assert world.rollout.status == "Progressing"


@pytest.mark.parametrize("is_paused", [False, True])
def test_an_open_breaker_takes_the_challenger_back_at_once(world, is_paused):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(2)
    if is_paused:
        world.operations().pause(MODEL)
    assert world.weight == 20
    world.broken = {"tiny:v2": "12 of 20 requests failed within 10 s"}
    world.pass_time(0.5)
    assert (world.rollout.status, world.weight) == ("RolledBack", 0)
    assert world.rollout.message == "breaker: tiny:v2 is broken in host:0:1, and in 1 more: 12 of 20 requests failed within 10 s"
    assert world.kinds()[-2:] == ["broken", "rolled-back"]
    event = world.control.events.find(kind="broken")[0]
    assert event.details["reason"] == "breaker"
    assert event.details["workers"] == dict.fromkeys(["host:0:1", "host:1:1"], "12 of 20 requests failed within 10 s")


def test_an_open_breaker_of_another_version_takes_nothing_back(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.broken = {"tiny:v1": "it fails", "other:v2": "it fails"}
    world.pass_time(3)
    assert world.rollout.status == "Progressing"
