"""Every transition is one change; here is what is in each, and, over random histories, what none of them ever breaks."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.rollout.world import plan

from ekiben.model.rollout_spec import ShadowSpec, StepSpec
from ekiben.rollout.standing import Standing, standing_of
from ekiben.rollout.steps import routed, stepped
from ekiben.rollout.transitions import (
    champion_changed,
    gone_back,
    kept_over,
    loaded,
    paused,
    promoted,
    rerouted,
    resumed,
    started,
    withdrawn,
)
from ekiben.state import memory_control
from ekiben.state.measurements import Measurement
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Arm, Kept, Route, Shadow, SlotRange

STEPS = ({"shadow": {"rate": 0.5}}, {"pause": "10s"}, {"setWeight": 5}, {"pause": {}}, {"setWeight": 50}, {"pause": "10s"})


def made(*steps, **fields):
    return Rollout(
        id="m-7", model="m", champion="1", challenger="2", plan=plan(*(steps or STEPS), **fields), created=100.0, created_by="ann"
    )


def begun(control, *steps, **fields):
    control.rollouts.commit(started(made(*steps, **fields), control.routes.get("m")))
    control.rollouts.commit(loaded(now_at(control), 101.0, 2))
    return now_at(control)


def now_at(control) -> Standing:
    return standing_of(control, control.rollouts.get("m-7"))


@pytest.fixture
def control():
    return memory_control(lambda: 100.0)


def test_what_waits_has_its_version_loaded_and_nobody_sent_to_it():
    change = started(made(), Route(kept=(Kept("0", 500.0),), rollout="m-6", arms=(Arm("challenger", "x"),)))
    assert change.route == Route(rollout="m-7", salt="7.m", arms=(Arm("challenger", "2"),), kept=(Kept("0", 500.0),))
    assert change.aliases == {"champion": "1", "challenger": "2"}
    assert (change.rollout.status, change.rollout.step_began, change.steps) == ("Progressing", 0.0, ())


def test_salts_of_long_names_still_differ():
    salts = set()
    for number in (1, 2, 12):
        rollout = msgspec.structs.replace(made(), id=f"{'m' * 63}-{number}", model="m" * 63)
        salts.add(started(rollout, None).route.salt.encode()[:64])
    assert len(salts) == 3


def test_when_it_is_loaded_the_first_step_begins(control):
    at = begun(control)
    assert (at.rollout.step, at.rollout.step_began, at.record.what, at.record.began) == (0, 101.0, "shadow: 50 %", 101.0)
    assert at.current.shadow.rate == 0.5


def test_a_first_step_that_waits_for_a_person_says_so(control):
    begun(control, {"pause": {}})
    assert [e.kind for e in control.events.find()] == ["started", "loaded", "waits"]


def test_steps_change_the_route_and_open_the_next(control):
    at = begun(control)
    control.rollouts.commit(stepped(at, 102.0, who="controller"))
    at = now_at(control)
    assert at.route.shadows == (Shadow("2", 0.5),)
    assert (at.rollout.step, at.rollout.step_began, at.rollout.stage, at.rollout.stage_began) == (1, 102.0, 0, 102.0)
    change = stepped(at, 112.0, who="controller")
    assert change.route is msgspec.UNSET
    control.rollouts.commit(change)
    control.rollouts.commit(stepped(now_at(control), 112.5, who="controller"))
    at = now_at(control)
    assert (at.route.shadows, at.route.weight("challenger"), at.rollout.stage, at.rollout.stage_began) == ((), 5.0, 2, 112.5)
    assert [(r.step, r.began, r.ended, r.outcome) for r in at.records] == [
        (0, 101.0, 102.0, "done"),
        (1, 102.0, 112.0, "done"),
        (2, 112.0, 112.5, "done"),
        (3, 112.5, 0.0, ""),
    ]
    assert [e.kind for e in control.events.find()] == ["started", "loaded", "step", "pause-over", "step", "waits"]


def test_in_a_shadow_the_challenger_answers_nobody_whatever_its_weight_was():
    route = Route(arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 3000, "challenger"),))
    after = routed(StepSpec(shadow=ShadowSpec()), route, "2")
    assert (after.slots, after.shadows) == ((), (Shadow("2"),))


@pytest.mark.parametrize(
    ("value", "condition"), [({"exact": "on"}, ("exact", "on")), ({"prefix": "be"}, ("prefix", "be")), ({"regex": "b.*"}, ("regex", "b.*"))]
)
def test_header_routes_are_set_replaced_and_taken_away(control, value, condition):
    def rule(name, *match):
        return {"setHeaderRoute": {"name": name, "match": [{"headerName": "X-Team", "headerValue": m} for m in match]}}

    at = begun(control, rule("one", value), rule("two", {"exact": "x"}), rule("one", {"exact": "new"}), rule("two"), {"pause": {}})
    control.rollouts.commit(stepped(at, 102.0, who="controller"))
    (first,) = now_at(control).route.rules
    assert (first.arm, first.conditions[0].header, first.conditions[0].kind, first.conditions[0].value) == (
        "challenger",
        "x-team",
        *condition,
    )
    for _ in range(2):
        control.rollouts.commit(stepped(now_at(control), 103.0, who="controller"))
    assert [(r.name, r.conditions[0].value) for r in now_at(control).route.rules] == [("one", "new"), ("two", "x")]
    control.rollouts.commit(stepped(now_at(control), 104.0, who="controller"))
    assert [r.name for r in now_at(control).route.rules] == ["one"]


def test_a_pause_does_not_count_even_when_it_began_before_the_step():
    rollout = msgspec.structs.replace(made(), status="Paused", step_began=200.0, paused_at=150.0)
    assert resumed(rollout, 260.0, who="ann", is_judged_anew=False).rollout.step_began == 260.0
    waiting = msgspec.structs.replace(rollout, step_began=0.0)
    assert resumed(waiting, 260.0, who="ann", is_judged_anew=False).rollout.step_began == 0.0


def test_judging_anew_begins_the_stage_again():
    rollout = msgspec.structs.replace(made(), status="Paused", step_began=120.0, paused_at=150.0, stage_began=110.0)
    change = resumed(rollout, 160.0, who="ann", is_judged_anew=True)
    assert (change.rollout.stage_began, change.rollout.step_began) == (160.0, 130.0)
    assert "no longer counts" in change.events[0].message


def test_what_decided_is_in_the_event(control):
    bad = Measurement(rollout="m-7", step=0, metric="errorRate", time=110.0, outcome="Failed", message="too many", value=0.5)
    at = begun(control)
    change = withdrawn(at, 111.0, who="controller", status="RolledBack", why="errorRate", deciding=(bad,), measurements=(bad,))
    assert change.events[-1].details == {"measurements": [msgspec.to_builtins(bad)]}
    assert change.measurements == (bad,)
    assert (change.steps[0].outcome, change.rollout.ended) == ("rolled-back", 111.0)
    change = paused(at.rollout, 111.0, who="controller", why="errorRate", measurements=(bad,))
    assert (change.measurements, change.rollout.paused_at) == ((bad,), 111.0)


def test_before_any_step_there_is_no_step_to_end():
    change = withdrawn(Standing(made()), 101.0, who="ann", status="Aborted", why="no")
    assert change.steps == ()


def test_promotion_keeps_the_former_champion_for_a_while(control):
    at = begun(control, scaleDownDelaySeconds=60)
    at = Standing(at.rollout, msgspec.structs.replace(at.route, kept=(Kept("0", 110.0), Kept("1", 900.0), Kept("9", 900.0))), at.records)
    change = promoted(at, 120.0, who="ann")
    assert change.route == Route(kept=(Kept("9", 900.0), Kept("1", 180.0)))
    assert change.aliases == {"champion": "2", "previous": "1", "challenger": None}
    assert [(r.step, r.began, r.outcome) for r in change.steps] == [(0, 101.0, "skipped"), *[(n, 120.0, "skipped") for n in range(1, 6)]]
    assert promoted(begun(memory_control(), scaleDownDelaySeconds=0), 120.0, who="ann").route is None


def test_a_champion_changed_into_the_challenger_is_on_trial_no_more(control):
    at = begun(control)
    assert champion_changed(at, "2", 130.0).aliases == {"challenger": None}
    assert champion_changed(at, "3", 130.0).aliases == {}


def test_the_route_of_what_waits_is_given_back():
    change = rerouted(Standing(made(), Route(kept=(Kept("0", 1.0),))))
    assert change.route == started(made(), Route(kept=(Kept("0", 1.0),))).route
    assert change.events == ()


def test_going_back_leaves_no_way_further_back_than_there_is():
    route = Route(kept=(Kept("1", 900.0), Kept("9", 900.0), Kept("8", 10.0)))
    change = gone_back("m", champion="2", to="1", previous="1", route=route, now=100.0, who="ann")
    assert change.aliases == {"champion": "1", "challenger": "2", "previous": None}
    assert change.route == Route(kept=(Kept("9", 900.0),))
    assert "previous" not in gone_back("m", champion="2", to="0", previous="1", route=None, now=1.0, who="a").aliases


def test_kept_over():
    route = Route(kept=(Kept("1", 10.0), Kept("2", 20.0)))
    assert kept_over(route, 10.0) == Route(kept=(Kept("2", 20.0),))
    assert kept_over(route, 20.0) is None
    assert kept_over(msgspec.structs.replace(route, arms=(Arm("challenger", "3"),)), 20.0) == Route(arms=(Arm("challenger", "3"),))


PAUSES = st.sampled_from([{"pause": "10s"}, {"pause": {}}])


@settings(max_examples=150)
@given(
    steps=st.lists(st.one_of(PAUSES, st.integers(1, 99).map(lambda n: {"setWeight": n})), min_size=1, max_size=6),
    moves=st.lists(st.sampled_from(["step", "step", "step", "pause", "resume"]), max_size=20),
    ending=st.sampled_from(["abort", "promote"]),
)
def test_over_any_history_records_and_routes_stay_sound(steps, moves, ending):
    weights = [step["setWeight"] for step in steps if "setWeight" in step]
    for n, step in enumerate(s for s in steps if "setWeight" in s):
        step["setWeight"] = sorted(weights)[n]
    control = memory_control(lambda: 100.0)
    at, now = begun(control, *steps), 102.0
    for move in moves:
        now += 1
        rollout = at.rollout
        if move == "step" and at.current is not None:
            control.rollouts.commit(stepped(at, now, who="x"))
        elif move == "pause" and rollout.status == "Progressing":
            control.rollouts.commit(paused(rollout, now, who="x", why="y"))
        elif move == "resume" and rollout.status == "Paused":
            control.rollouts.commit(resumed(rollout, now, who="x", is_judged_anew=False))
        before, at = at, now_at(control)
        assert at.rollout.step >= before.rollout.step
        assert at.rollout.step - before.rollout.step <= 1
        # Only one step is open: the one it is in.
        assert [r.step for r in at.records if not r.ended] == ([at.rollout.step] if at.current else [])
        assert [r.step for r in at.records] == list(range(len(at.records)))
        done = [s["setWeight"] for s in steps[: at.rollout.step] if "setWeight" in s]
        assert at.route.weight("challenger") == pytest.approx(done[-1] if done else 0)
        assert at.rollout.step_began <= now
    change = promoted(at, now, who="x") if ending == "promote" else withdrawn(at, now, who="x", status="Aborted", why="y")
    control.rollouts.commit(change)
    end = now_at(control)
    assert not end.rollout.is_active
    assert end.route.slots == () == end.route.shadows == end.route.rules
    assert all(r.ended for r in end.records)
