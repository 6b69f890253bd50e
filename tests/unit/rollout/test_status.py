import msgspec
import pytest
from unit.rollout.world import MODEL, World, plan

from ekiben.rollout.experiment import plan_for
from ekiben.rollout.experiment import started as experiment_started
from ekiben.rollout.status import status_of
from ekiben.state.histogram import Histogram
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Arm
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def view(world):
    return status_of(world.control, world.rollout, world.now)


def test_before_anybody_has_the_version(world):
    world.loadable.discard("v2")
    world.speak()
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    assert view(world).next == "nobody carries it out: start a server or `ekiben controller`"
    world.pass_time(1)
    shown = view(world)
    assert shown.next == "waits for tiny:v2 to be loaded on 2 of 2 workers"
    assert shown.controller == "host:1"
    assert [s.state for s in shown.steps] == ["to come", "to come"]
    assert [worker.loaded for worker in shown.workers] == [("v1",), ("v1",)]
    world.workers = world.workers[:1]
    world.pass_time(6)
    assert view(world).next == "waits for tiny:v2 to be loaded on 1 of 1 worker"
    world.loadable.add("v2")
    world.speak()
    assert view(world).next == "now: it begins"
    world.now += 60
    assert view(world).next == "no server is running that serves tiny: start one"


def test_while_it_answers_users(world):
    world.error_rates["v2"] = 0.01
    world.requests_per_s = 500
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "10m"}, {"setWeight": 100}))
    world.pass_time(30)
    shown = view(world)
    champion, challenger = shown.arms
    assert (champion.arm, champion.version, champion.weight) == ("champion", "v1", 80)
    assert (challenger.arm, challenger.version, challenger.weight) == ("challenger", "v2", 20)
    assert (champion.requests_per_s, challenger.requests_per_s) == (400, 100)
    assert challenger.errors == challenger.requests * 0.01
    assert challenger.errors_by_kind == {"PredictionFailed": challenger.errors}
    assert challenger.error_rate.value == 0.01
    assert 0 < challenger.error_rate.low < 0.01 < challenger.error_rate.high < 0.05
    assert champion.error_rate.low == 0
    assert challenger.p50_s == pytest.approx(0.01, rel=0.03)
    assert challenger.p95_s.low <= challenger.p95_s.value <= challenger.p95_s.high
    assert [(m.metric, m.outcome) for m in shown.measurements] == [("errorRate", "Successful")]
    assert shown.next.startswith("in 9m3")
    assert shown.next.endswith("s: setWeight: 100")
    assert (shown.step, shown.paused, shown.shadow) == (1, False, None)
    assert [(s.what, s.state) for s in shown.steps] == [("setWeight: 20", "done"), ("pause: 10m", "current"), ("setWeight: 100", "to come")]


def test_what_holds_a_pause_that_is_over(world):
    world.requests_per_s = 0
    slow = {"interval": "1s", "minRequests": 50, "metrics": [{"name": "errorRate"}]}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "2s"}, {"pause": "1s"}, analysis=slow))
    world.pass_time(5)
    world.control.windows.add("w", [(WindowKey(MODEL, "v2", "challenger", int(world.now) - 1), Window(ok=13))])
    assert view(world).next == "waits for 37 more requests to the challenger (13 of 50)"
    world.control.windows.add("w", [(WindowKey(MODEL, "v2", "challenger", int(world.now) - 1), Window(ok=60))])
    world.pass_time(2)
    assert view(world).next.startswith("waits: errorRate: ")
    assert "more requests will show" in view(world).next
    world.control.windows.add("w", [(WindowKey(MODEL, "v2", "challenger", int(world.now) - 1), Window(ok=600))])
    world.now += 1
    world.speak()
    rollout = world.rollout
    fresh = msgspec.structs.replace(world.control.measurements.find(rollout.id)[-1], outcome="Successful", time=world.now)
    world.control.measurements.append([fresh])
    assert view(world).next == "now: pause: 1s"


def test_what_is_not_measured_yet_holds_too(world):
    late = {"interval": "1s", "initialDelay": "1h", "minRequests": 1, "metrics": [{"name": "errorRate"}]}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "2s"}, analysis=late))
    world.pass_time(10)
    assert world.rollout.step == 1
    assert view(world).next == "waits for the first measurement"


def test_a_pause_that_is_over_without_a_stage_goes_on(world):
    world.operations().start(MODEL, "v2", plan=plan({"pause": "2s"}, {"setWeight": 20}, {"pause": {}}))
    world.pass_time(1)
    world.now += 10
    world.speak()
    world.control.leases.acquire("controller", "host:1", 5)
    assert view(world).next == "now: setWeight: 20"


def test_what_waits_for_people(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": {}}))
    world.pass_time(3)
    assert (view(world).next, view(world).paused) == ("waits for approval: `ekiben rollout promote tiny`", True)
    world.operations().pause(MODEL)
    assert view(world).next == "waits for a person: `ekiben rollout resume tiny`, or promote, or abort"
    world.operations().abort(MODEL)
    assert (view(world).next, view(world).paused) == ("nothing: it is over", False)


def test_between_steps(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": {}}, {"setWeight": 30}))
    world.pass_time(2)
    world.operations().promote(MODEL)
    assert view(world).next == "now: setWeight: 30"
    world.operations().promote(MODEL)
    assert view(world).next == "now: promotion"
    world.pass_time(0.5)
    shown = view(world)
    assert (shown.status, [arm.weight for arm in shown.arms]) == ("Completed", [0, 100])


def test_a_shadow_is_compared(world):
    world.operations().start(MODEL, "v2", plan=plan({"shadow": {"rate": 0.5}}, {"pause": "1h"}))
    world.pass_time(2)
    second = int(world.now) + 1
    window = Window(
        ok=90,
        errors={"PredictionFailed": 2},
        compared=90,
        agreed=81,
        dropped=5,
        differences=Histogram.of([0.1] * 90),
        compute=Histogram.of([0.02] * 90),
    )
    world.control.windows.add("late", [(WindowKey(MODEL, "v2", "shadow", second), window)])
    world.requests_per_s = 0
    world.pass_time(3)
    shadow = view(world).shadow
    assert (shadow.version, shadow.rate, shadow.compared, shadow.dropped, shadow.errors) == ("v2", 0.5, 90, 5, 2)
    assert shadow.agreement.value == 0.9
    assert shadow.agreement.low < 0.9 < shadow.agreement.high
    assert shadow.mean_difference == pytest.approx(0.1)
    assert shadow.p95_difference == pytest.approx(0.1, rel=0.03)
    assert shadow.p95_compute_s == pytest.approx(0.02, rel=0.03)
    assert shadow.champion_p95_compute_s is None
    assert [arm.weight for arm in view(world).arms] == [100, 0]


def test_an_arm_without_requests_has_no_numbers(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}))
    arm = view(world).arms[1]
    assert (arm.requests, arm.error_rate.value, arm.p50_s, arm.p95_s.value) == (0, None, None, None)
    msgspec.json.encode(view(world))


def test_who_follows_the_latest_change_and_since_when(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(1)
    world.now += 1
    world.operations().abort(MODEL)
    said = {"models": (MODEL,), "versions": {MODEL: ("v1",)}}
    old, new = (0, 0, 0), world.control.generation()
    world.control.workers.say(WorkerState(id="a", generation=new, in_force_at=world.now + 0.4, **said))
    world.control.workers.say(WorkerState(id="b", generation=new, in_force_at=world.now - 0.1, **said))
    world.control.workers.say(WorkerState(id="c", generation=old, in_force_at=world.now, problems={"tiny:v2": "bad", "x": "y"}, **said))
    broken = {"tiny:v1": "it fails", "tinyest:v1": "it fails"}
    world.control.workers.say(WorkerState(id="d", generation=new, in_force_at=world.now + 900, broken=broken, **said))
    world.control.workers.say(WorkerState(id="e", models=("other",), generation=new))
    workers = {w.id: w for w in view(world).workers if not w.id.startswith("host")}
    assert sorted(workers) == ["a", "b", "c", "d"]
    assert workers["a"].in_force_s == pytest.approx(0.4)
    assert workers["b"].in_force_s == 0
    assert (workers["c"].follows, workers["c"].in_force_s, workers["c"].problems) == (False, None, ("tiny:v2: bad",))
    assert (workers["d"].follows, workers["d"].in_force_s, workers["d"].problems) == (True, None, ("tiny:v1 is broken: it fails",))


def test_without_any_change_nothing_took_any_time(world):
    rollout = Rollout(id="tiny-1", model=MODEL, champion="v1", challenger="v2", plan=plan({"pause": {}}), created=world.now, created_by="a")
    world.speak()
    assert [w.in_force_s for w in status_of(world.control, rollout, world.now).workers] == [None, None]


def test_an_experiment_has_arms_and_no_steps(world):
    experiment = Rollout(
        id="tiny-1",
        model=MODEL,
        kind="experiment",
        champion="v1",
        arms=(Arm("a", "v1"), Arm("b", "v2")),
        plan=plan_for({"a": 30.0, "b": 30.0}, "accuracy"),
        created=world.now,
        created_by="ann",
    )
    world.control.rollouts.commit(experiment_started(experiment, None))
    world.pass_time(5)
    shown = view(world)
    assert [(arm.arm, arm.version, arm.weight) for arm in shown.arms] == [("champion", "v1", 40), ("a", "v1", 30), ("b", "v2", 30)]
    assert (shown.steps, shown.shadow, shown.paused) == ((), None, False)
    assert shown.next == "goes on until `ekiben experiment stop tiny`"
