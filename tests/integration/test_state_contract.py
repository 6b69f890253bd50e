"""What aliases, loads, routes and rollouts promise, on every backend: in memory, SQLite, and a PostgreSQL started for it."""

import threading

import msgspec
import pytest

from ekiben.errors import RolloutChanged
from ekiben.model.rollout_spec import AnalysisSpec, MetricSpec, PauseSpec, PlanSpec, ShadowSpec, StepSpec
from ekiben.state.events import Event
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Change, Rollout, StepRecord
from ekiben.state.routes import Arm, HeaderCondition, HeaderRule, Kept, Route, Shadow, SlotRange

pytestmark = pytest.mark.processes

PLAN = PlanSpec(
    steps=(StepSpec(shadow=ShadowSpec(rate=0.5)), StepSpec(pause=PauseSpec(duration="5m")), StepSpec(set_weight=12.34)),
    analysis=AnalysisSpec(metrics=(MetricSpec(name="errorRate", max=0.05, interval=3),)),
    scale_down_delay_seconds=0,
)
ROLLOUT = Rollout(id="m-1", model="m", champion="1", challenger="2", plan=PLAN, created=1.5, created_by="me@here")
ROUTE = Route(
    rollout="m-1",
    salt="m-1",
    arms=(Arm("challenger", "2"),),
    slots=(SlotRange(0, 500, "challenger"),),
    shadows=(Shadow("2", 0.5),),
    rules=(HeaderRule("beta", "challenger", (HeaderCondition("x-beta", "exact", "yes"),)),),
    kept=(Kept("0", 99.5),),
    fallback=False,
)


@pytest.fixture
def backend(controls):
    """A function that gives one more user of the same aliases."""
    return lambda: controls().aliases


@pytest.fixture
def loads(controls):
    """A function that gives one more user of the same loads."""
    return lambda: controls().loads


def at_once(*actions):
    """Runs actions in threads that begin together; returns what each returned or raised."""
    barrier = threading.Barrier(len(actions))
    answers = [None] * len(actions)

    def run(n, action):
        barrier.wait()
        try:
            answers[n] = action()
        except Exception as e:  # noqa: BLE001
            answers[n] = e

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_there_are_none_before_the_first_change(backend):
    aliases = backend()
    assert (aliases.all(), aliases.get("m"), aliases.generation()) == ({}, {}, 0)


def test_what_one_sets_another_sees(backend):
    one, other = backend(), backend()
    assert one.set("m", "champion", "1")
    assert one.set("m", "challenger", "2")
    assert one.set("n", "champion", "2013.04")
    assert other.get("m") == {"champion": "1", "challenger": "2"}
    assert other.all() == {"m": {"champion": "1", "challenger": "2"}, "n": {"champion": "2013.04"}}
    assert other.get("none") == {}


def test_an_alias_moves(backend):
    aliases = backend()
    aliases.set("m", "champion", "1")
    assert aliases.set("m", "champion", "2")
    assert aliases.get("m") == {"champion": "2"}


def test_an_alias_that_exists_is_left_when_asked(backend):
    aliases = backend()
    assert aliases.set("m", "champion", "1", replace=False)
    assert not aliases.set("m", "champion", "2", replace=False)
    assert aliases.get("m") == {"champion": "1"}


def test_removing_says_whether_there_was_one(backend):
    aliases = backend()
    aliases.set("m", "champion", "1")
    assert aliases.remove("m", "champion")
    assert not aliases.remove("m", "champion")
    assert aliases.all() == {}


def test_the_generation_grows_with_every_change_and_with_nothing_else(backend):
    one, other = backend(), backend()
    seen = [other.generation()]
    for change in (
        lambda: one.set("m", "champion", "1"),
        lambda: one.set("m", "champion", "2"),
        lambda: one.set("m", "challenger", "2"),
        lambda: one.remove("m", "champion"),
    ):
        assert change()
        seen.append(other.generation())
    assert seen == sorted(set(seen))
    assert not one.set("m", "challenger", "2")
    assert not one.set("m", "challenger", "1", replace=False)
    assert not one.remove("m", "champion")
    assert other.generation() == seen[-1]


def test_many_that_start_at_once_lose_no_change(backend):
    users = [backend() for _ in range(6)]

    def change(n):
        return users[n].set("m", "champion", str(n), replace=False), users[n].set("m", f"a{n}", "1")

    answers = at_once(*(lambda n=n: change(n) for n in range(6)))
    assert sorted(answers) == [(False, True)] * 5 + [(True, True)]
    assert users[0].get("m") == {"champion": str(answers.index((True, True))), **{f"a{n}": "1" for n in range(6)}}
    assert users[0].generation() == 7


def test_nobody_asked_for_a_model_before_the_first_time(loads):
    assert (loads().all(), loads().generation()) == ({}, 0)


def test_the_last_one_who_asks_for_a_model_is_heard_by_all(loads):
    one, other = loads(), loads()
    one.set("m", loaded=False)
    one.set("a", loaded=True)
    assert other.all() == {"a": True, "m": False}
    assert list(other.all()) == ["a", "m"]
    other.set("m", loaded=True)
    assert one.all() == {"a": True, "m": True}


def test_asking_again_for_the_same_is_a_change_too(loads):
    one, other = loads(), loads()
    seen = []
    for loaded in (True, True, False, False):
        one.set("m", loaded=loaded)
        seen.append(other.generation())
    assert seen == [1, 2, 3, 4]
    assert other.all() == {"m": False}


def test_loads_and_aliases_have_generations_of_their_own(loads, backend):
    loads().set("m", loaded=True)
    assert (loads().generation(), backend().generation()) == (1, 0)
    backend().set("m", "champion", "1")
    assert (loads().generation(), backend().generation()) == (1, 1)


def test_many_that_ask_at_once_for_one_model_are_all_heard(loads):
    users = [loads() for _ in range(6)]
    assert at_once(*(lambda part=part: part.set("m", loaded=True) for part in users)) == [None] * 6
    assert (users[0].all(), users[0].generation()) == ({"m": True}, 6)


def test_there_is_no_rollout_and_no_route_before_the_first(controls):
    control = controls()
    assert (control.routes.all(), control.routes.get("m"), control.generation()) == ({}, None, (0, 0, 0))
    assert (control.rollouts.find(), control.rollouts.get("m-1"), control.rollouts.steps("m-1")) == ([], None, [])


def test_all_of_a_change_is_seen_by_others(controls):
    one, other = controls(), controls()
    one.aliases.set("m", "former", "0")
    step = StepRecord(rollout="m-1", step=0, what="shadow: 50 %", began=2.5)
    event = Event(time=2.0, who="me@here", model="m", rollout="m-1", kind="started", message="it began", details={"weight": 0.5, "n": [1]})
    measurement = Measurement(rollout="m-1", step=0, metric="errorRate", time=3.0, outcome="Successful", message="0 of 9", value=0.0, n=9)
    kept = one.rollouts.commit(
        Change(
            model="m",
            rollout=ROLLOUT,
            steps=(step,),
            events=(event, event),
            measurements=(measurement,),
            route=ROUTE,
            aliases={"champion": "1", "challenger": "2", "former": None, "none": None},
        )
    )
    assert kept.rollout == msgspec.structs.replace(ROLLOUT, revision=1)
    assert [e.id for e in kept.events] == sorted({e.id for e in kept.events})
    assert other.rollouts.get("m-1") == kept.rollout
    assert other.rollouts.find() == [kept.rollout]
    assert other.rollouts.steps("m-1") == [step]
    assert other.events.find() == list(kept.events)
    assert [msgspec.structs.replace(e, id=0) for e in other.events.find()] == [event, event]
    assert other.measurements.find("m-1") == [measurement]
    assert other.routes.all() == {"m": ROUTE}
    assert other.routes.get("m") == ROUTE
    assert other.aliases.get("m") == {"champion": "1", "challenger": "2"}
    assert other.generation() == one.generation()


def test_a_change_replaces_steps_and_adds_the_rest(controls):
    control = controls()
    first = control.rollouts.commit(Change(model="m", rollout=ROLLOUT, route=ROUTE)).rollout
    began = StepRecord(rollout="m-1", step=0, what="shadow", began=1.0)
    done = msgspec.structs.replace(began, ended=2.0, outcome="done")
    second = control.rollouts.commit(Change(model="m", rollout=first, steps=(began,))).rollout
    moved = msgspec.structs.replace(second, status="Completed", step=3, ended=9.0, message="all is well", stage=2, stage_began=8.0)
    third = control.rollouts.commit(
        Change(model="m", rollout=moved, steps=(done, msgspec.structs.replace(began, step=1)), route=None)
    ).rollout
    assert third == msgspec.structs.replace(moved, revision=3)
    assert control.rollouts.get("m-1") == third
    assert [s.ended for s in control.rollouts.steps("m-1")] == [2.0, 0.0]
    assert control.routes.all() == {}


def test_the_generation_grows_with_what_workers_must_follow_and_with_nothing_else(controls):
    control = controls()
    control.rollouts.commit(Change(model="m", rollout=ROLLOUT, route=ROUTE, aliases={"champion": "1"}))
    aliases, loads, routes = control.generation()
    assert (aliases > 0, loads, routes > 0) == (True, 0, True)
    event = Event(time=1.0, who="me", model="m", kind="step", message="step")
    control.rollouts.commit(Change(model="m", events=(event,), aliases={"champion": "1", "none": None}))
    assert control.generation() == (aliases, loads, routes)
    control.rollouts.commit(Change(model="m", route=ROUTE))
    assert control.generation()[2] > routes
    control.rollouts.commit(Change(model="m", aliases={"champion": None}))
    assert control.generation()[0] > aliases


@pytest.mark.parametrize("revision", [0, 2])
def test_a_change_of_what_was_read_long_ago_changes_nothing(controls, revision):
    control = controls()
    control.rollouts.commit(Change(model="m", rollout=ROLLOUT))
    event = Event(time=1.0, who="me", model="m", kind="step", message="step")
    stale = msgspec.structs.replace(ROLLOUT, revision=revision, message="stale")
    with pytest.raises(RolloutChanged, match="m-1 was changed by somebody else"):
        control.rollouts.commit(Change(model="m", rollout=stale, events=(event,), route=ROUTE, aliases={"champion": "9"}))
    assert control.rollouts.get("m-1") == msgspec.structs.replace(ROLLOUT, revision=1)
    assert (control.events.find(), control.routes.all(), control.aliases.all()) == ([], {}, {})


def test_a_model_has_one_active_rollout(controls):
    control = controls()
    first = control.rollouts.commit(Change(model="m", rollout=ROLLOUT)).rollout
    with pytest.raises(RolloutChanged, match="m-1 is active"):
        control.rollouts.commit(Change(model="m", rollout=msgspec.structs.replace(ROLLOUT, id="m-2")))
    control.rollouts.commit(Change(model="n", rollout=msgspec.structs.replace(ROLLOUT, id="n-1", model="n", status="Paused")))
    control.rollouts.commit(Change(model="m", rollout=msgspec.structs.replace(first, status="Aborted")))
    control.rollouts.commit(Change(model="m", rollout=msgspec.structs.replace(ROLLOUT, id="m-2")))
    assert [r.id for r in control.rollouts.find()] == ["m-2", "n-1", "m-1"]
    assert [r.id for r in control.rollouts.find(limit=1)] == ["m-2"]
    assert control.rollouts.find(limit=0) == []
    assert [r.id for r in control.rollouts.find(model="m")] == ["m-2", "m-1"]
    assert [r.id for r in control.rollouts.find(active=True)] == ["m-2", "n-1"]
    assert [r.id for r in control.rollouts.find(model="m", active=False)] == ["m-1"]


def test_of_many_that_change_a_rollout_at_once_one_wins(controls):
    read = controls().rollouts.commit(Change(model="m", rollout=ROLLOUT)).rollout
    users = [controls() for _ in range(6)]
    changes = [Change(model="m", rollout=msgspec.structs.replace(read, step=n), aliases={"champion": str(n)}) for n in range(6)]
    answers = at_once(*(lambda u=u, c=c: u.rollouts.commit(c) for u, c in zip(users, changes, strict=True)))
    won = [a for a in answers if isinstance(a, Change)]
    assert [type(a) for a in answers if not isinstance(a, Change)] == [RolloutChanged] * 5
    assert users[0].rollouts.get("m-1") == won[0].rollout
    assert won[0].rollout.revision == 2
    assert users[0].aliases.get("m") == {"champion": str(won[0].rollout.step)}


def test_of_many_that_start_a_rollout_at_once_one_wins(controls):
    users = [controls() for _ in range(6)]
    started = [Change(model="m", rollout=msgspec.structs.replace(ROLLOUT, id=f"m-{n}")) for n in range(6)]
    answers = at_once(*(lambda u=u, c=c: u.rollouts.commit(c) for u, c in zip(users, started, strict=True)))
    assert sum(isinstance(a, Change) for a in answers) == 1
    assert sum(isinstance(a, RolloutChanged) for a in answers) == 5
    assert len(users[0].rollouts.find()) == 1


def test_changes_of_different_models_and_of_aliases_never_lock_each_other_out(controls):
    users = [controls() for _ in range(6)]
    event = Event(time=1.0, who="me", model="m", kind="step", message="step")

    def change(n):
        for k in range(4):
            if n % 2:
                users[n].aliases.set("m", f"a{n}", str(k))
                users[n].events.append([event])
            else:
                users[n].rollouts.commit(Change(model=f"m{n}", route=ROUTE, events=(event,), aliases={"champion": str(k)}))
        return True

    assert at_once(*(lambda n=n: change(n) for n in range(6))) == [True] * 6
    assert users[0].generation() == (24, 0, 12)
    assert len(users[0].events.find()) == 24
