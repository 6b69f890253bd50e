import msgspec
import pytest
from unit.rollout.world import MODEL, SPEC, World, plan

from ekiben.errors import RegistryError, RolloutChanged, RolloutRefused, UnknownRollout
from ekiben.model import InputSpec
from ekiben.model.rollout_spec import PlanSpec, StepSpec
from ekiben.model.spec import dump_spec
from ekiben.registry.packed_aliases import PackedAliases
from ekiben.rollout.experiment import plan_for
from ekiben.rollout.experiment import started as experiment_started
from ekiben.rollout.operations import Operations
from ekiben.rollout.plan import default_plan
from ekiben.rollout.views import RollbackView
from ekiben.state.rollouts import Change, Rollout, Rollouts
from ekiben.state.routes import Arm, Kept, Route

PLAN = plan({"setWeight": 20}, {"pause": "1h"}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 100}, {"pause": "1h"})


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def going(world):
    """A world whose rollout is in its first pause."""
    world.operations().start(MODEL, "v2", plan=PLAN)
    world.pass_time(2)
    assert world.rollout.step == 1
    return world


@pytest.mark.parametrize("to", ["v2", "tiny:v2", "tiny@candidate", "candidate"])
def test_start_says_who_is_who_and_sends_nobody_yet(world, to):
    world.control.aliases.set(MODEL, "candidate", "v2")
    view = world.operations(who="ann@desk").start(MODEL, to, plan=PLAN)
    assert (view.id, view.champion, view.challenger, view.status, view.created_by) == ("tiny-1", "v1", "v2", "Progressing", "ann@desk")
    assert {**world.control.aliases.get(MODEL), "candidate": ""} == {"champion": "v1", "challenger": "v2", "candidate": ""}
    assert world.route == Route(rollout="tiny-1", salt="1.tiny", arms=(Arm("challenger", "v2"),))
    (event,) = world.control.events.find(model=MODEL)
    assert (event.kind, event.who, event.rollout) == ("started", "ann@desk", "tiny-1")
    assert "setWeight: 20, pause: 1h, setWeight: 50, pause: until approved" in event.message


def test_start_takes_the_latest_and_draws_users_anew_each_time(world):
    assert world.operations().start(MODEL, "latest").challenger == "v3"
    world.operations().abort(MODEL)
    assert world.operations().start(MODEL, "v2").id == "tiny-2"
    assert world.route.salt == "2.tiny"


def test_start_keeps_versions_loaded_that_were_to_stay_so(world):
    world.control.rollouts.commit(Change(model=MODEL, route=Route(kept=(Kept("v3", world.now + 60),))))
    world.operations().start(MODEL, "v2", plan=PLAN)
    assert world.route.kept == (Kept("v3", world.now + 60),)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("v1", "tiny:v1 is the champion already"),
        ("v9", "no version or alias 'v9'"),
        ("other:v1", "another model"),
    ],
)
def test_start_refuses_versions_that_cannot_be(world, to, said):
    with pytest.raises(RolloutRefused, match=said):
        world.operations().start(MODEL, to, plan=PLAN)
    assert world.control.rollouts.find() == []


def test_start_refuses_a_model_that_is_not_there_and_what_is_no_name(world):
    with pytest.raises(RolloutRefused, match="no model 'ghost'"):
        world.operations().start("ghost", "v2", plan=PLAN)
    with pytest.raises(RegistryError):
        world.operations().start(MODEL, "V 2", plan=PLAN)


def test_start_refuses_a_version_that_clients_would_notice(world):
    world.register("v4", msgspec.structs.replace(SPEC, labels=("no", "maybe")))
    with pytest.raises(RolloutRefused, match=r"its labels are no, maybe, not no, yes.*/v1/models/tiny/versions/v4:predict.*new name"):
        world.operations().start(MODEL, "v4", plan=PLAN)


def test_start_refuses_a_version_that_cannot_be_read(world):
    (world.registry.folder_of("tiny:v2") / "artifact.json").write_text("{")
    with pytest.raises(RolloutRefused, match="ekiben models verify tiny:v2"):
        world.operations().start(MODEL, "v2", plan=PLAN)


def test_start_refuses_a_wrong_plan(world):
    with pytest.raises(RolloutRefused, match=r"plan: steps\[0\]"):
        world.operations().start(MODEL, "v2", plan=PlanSpec(steps=(StepSpec(),)))


def test_one_rollout_at_a_time(going):
    with pytest.raises(RolloutChanged, match="tiny-1 is active"):
        going.operations().start(MODEL, "v3", plan=PLAN)
    assert going.control.aliases.get(MODEL)["challenger"] == "v2"


def test_the_plan_is_the_folders_else_the_versions_else_the_default(world, tmp_path):
    own = msgspec.structs.replace(SPEC, rollout=PlanSpec(steps=(StepSpec(set_weight=10),)))
    world.register("v4", own)
    folder = tmp_path / "models"
    assert world.operations(plan_folder=folder).plan(MODEL, to="v2") == default_plan()
    assert world.operations().plan(MODEL).steps == own.rollout.steps
    assert world.operations().plan(MODEL).analysis == default_plan().analysis
    (folder / MODEL).mkdir(parents=True)
    (folder / MODEL / "model.yaml").write_text(dump_spec(SPEC))
    assert world.operations(plan_folder=folder).plan(MODEL, to="v4").steps == own.rollout.steps
    of_folder = msgspec.structs.replace(SPEC, rollout=PlanSpec(steps=(StepSpec(set_weight=30),)))
    (folder / MODEL / "model.yaml").write_text(dump_spec(of_folder))
    operations = world.operations(plan_folder=folder)
    assert operations.plan(MODEL, to="v4").steps == of_folder.rollout.steps
    operations.start(MODEL, "v4")
    assert world.rollout.plan.steps == of_folder.rollout.steps
    (folder / MODEL / "model.yaml").write_text("name: [")
    with pytest.raises(RolloutRefused, match=r"tiny/model\.yaml"):
        operations.plan(MODEL)


def test_a_bento_keeps_the_aliases_it_was_built_with(world):
    world.control.aliases.remove(MODEL, "champion")
    aliases = PackedAliases(world.control.aliases, {MODEL: {"champion": "v1", "stable": "v3"}}, lambda model, version: True)
    world.registry.aliases = aliases
    Operations(world.control, world.registry, who="ann", wall=world.wall).start(MODEL, "v2", plan=PLAN)
    assert world.control.aliases.get(MODEL) == {"champion": "v1", "challenger": "v2", "stable": "v3"}


def test_promote_cuts_a_pause_short_and_approves(going):
    view = going.operations(who="bob").promote(MODEL)
    assert (view.step, [s.state for s in view.steps][:3]) == (2, ["done", "skipped", "current"])
    assert going.control.events.find(model=MODEL)[-1].kind == "skipped"
    going.pass_time(1)
    view = going.operations(who="bob").status(MODEL)
    assert view.paused
    going.operations(who="bob").promote(MODEL)
    last = going.control.events.find(model=MODEL)[-1]
    assert (last.kind, last.who) == ("approved", "bob")
    assert [s.outcome for s in going.control.rollouts.steps("tiny-1")][:4] == ["done", "skipped", "done", "done"]


def test_promote_in_full_makes_it_champion_at_once(going):
    view = going.operations(who="bob").promote(MODEL, full=True)
    assert view.status == "Completed"
    assert [s.state for s in view.steps] == ["done", *["skipped"] * 5]
    assert going.control.aliases.get(MODEL) == {"champion": "v2", "previous": "v1"}
    assert going.route.slots == ()
    assert [arm.weight for arm in view.arms] == [0, 100]
    last = going.control.events.find(model=MODEL)[-1]
    assert (last.kind, last.who, last.details["skipped_steps"]) == ("promoted", "bob", 5)


def test_promoting_what_has_done_all_steps_finishes_it(going):
    for _ in range(3):
        going.operations().promote(MODEL)
        going.controller.tick()
    assert going.rollout.step == 6 or going.rollout.status == "Completed"
    assert going.control.aliases.get(MODEL)["champion"] == "v2"


def test_promote_refuses_while_the_version_is_not_loaded_everywhere(world):
    world.operations().start(MODEL, "v2", plan=PLAN)
    for full in (False, True):
        with pytest.raises(RolloutRefused, match="tiny:v2 is loaded on all workers"):
            world.operations().promote(MODEL, full=full)


def test_promote_ends_what_was_paused(going):
    going.operations().pause(MODEL)
    view = going.operations().promote(MODEL)
    assert (view.status, view.step, view.message) == ("Progressing", 2, "")


def test_promote_does_a_step_that_was_due(going):
    going.operations().promote(MODEL)
    assert going.rollout.step == 2
    going.operations().promote(MODEL)
    assert (going.rollout.step, going.weight) == (3, 50)


def test_pause_and_resume(going):
    view = going.operations(who="bob").pause(MODEL)
    assert (view.status, view.paused, view.message) == ("Paused", True, "paused by bob")
    with pytest.raises(RolloutRefused, match="paused already"):
        going.operations().pause(MODEL)
    began, stage = going.rollout.step_began, going.rollout.stage_began
    going.now += 100
    view = going.operations().resume(MODEL)
    assert (view.status, view.paused, view.message) == ("Progressing", False, "")
    assert going.rollout.step_began == began + 100
    assert going.rollout.stage_began == stage
    with pytest.raises(RolloutRefused, match="is not paused"):
        going.operations().resume(MODEL)


def test_abort_sends_everything_to_the_champion(going):
    view = going.operations().abort(MODEL, reason="the shop is closing")
    assert (view.status, view.message, view.ended) == ("Aborted", "the shop is closing", going.now)
    assert going.weight == 0
    assert going.route is None
    assert [s.state for s in view.steps][:3] == ["done", "aborted", "to come"]
    assert going.control.aliases.get(MODEL) == {"champion": "v1", "challenger": "v2"}
    with pytest.raises(UnknownRollout, match="no active rollout"):
        going.operations().abort(MODEL)


def test_rollback_of_what_is_active_aborts_it(going):
    view = going.operations(who="bob").rollback(MODEL)
    assert (view.status, view.message, going.weight) == ("Aborted", "rolled back by bob", 0)
    assert going.control.aliases.get(MODEL)["champion"] == "v1"


def test_rollback_of_what_is_active_to_another_version(going):
    with pytest.raises(RolloutRefused, match="tiny:v2 is what is on trial"):
        going.operations().rollback(MODEL, to="v2")
    assert going.rollout.is_active
    view = going.operations().rollback(MODEL, to="v3")
    assert view.status == "Aborted"
    assert going.control.aliases.get(MODEL) == {"champion": "v3", "challenger": "v2"}


def test_rollback_goes_back_to_the_former_champion_which_is_still_loaded(going):
    going.operations().promote(MODEL, full=True)
    generation = going.control.generation()
    view = going.operations(who="bob").rollback(MODEL)
    assert view == RollbackView(model=MODEL, champion="v1", was="v2", message="tiny went back from v2 to v1")
    assert going.control.aliases.get(MODEL) == {"champion": "v1", "challenger": "v2"}
    assert going.route is None
    assert going.control.generation() > generation
    last = going.control.events.find(model=MODEL)[-1]
    assert (last.kind, last.who, last.details) == ("rolled-back", "bob", {"champion": "v1", "was": "v2"})
    with pytest.raises(RolloutRefused, match="no former champion"):
        going.operations().rollback(MODEL)


def test_rollback_to_a_version_by_name(world):
    with pytest.raises(RolloutRefused, match=r"ekiben rollback tiny --to VERSION"):
        world.operations().rollback(MODEL)
    with pytest.raises(RolloutRefused, match="tiny:v1 is the champion already"):
        world.operations().rollback(MODEL, to="v1")
    with pytest.raises(RolloutRefused, match="'v9'"):
        world.operations().rollback(MODEL, to="v9")
    assert world.operations().rollback(MODEL, to="v3").champion == "v3"


def test_rollback_refuses_a_former_champion_that_is_gone(world):
    world.control.aliases.set(MODEL, "previous", "v0")
    with pytest.raises(RolloutRefused, match="v0, which is no longer in the store"):
        world.operations().rollback(MODEL)


def test_status_finds_by_id_and_by_model_the_active_one_first(going):
    going.operations().abort(MODEL)
    going.operations().start(MODEL, "v3", plan=PLAN)
    assert going.operations().status(MODEL).id == "tiny-2"
    assert going.operations().status("tiny-1").challenger == "v2"
    with pytest.raises(UnknownRollout, match="'ghost'"):
        going.operations().status("ghost")


def test_what_there_was_is_listed(going):
    going.operations().abort(MODEL)
    assert [e.kind for e in going.operations().history(MODEL, limit=2)] == ["step", "aborted"]
    assert going.operations().history(MODEL, after=going.operations().history(MODEL)[-1].id) == []
    assert [r.id for r in going.operations().rollouts(model=MODEL)] == ["tiny-1"]
    assert going.operations().rollouts(active=True) == []
    assert going.operations().route(MODEL) == Route()
    assert going.operations().route("ghost") == Route()


def test_an_experiment_has_no_steps_to_steer_and_can_be_aborted(world):
    experiment = Rollout(
        id="tiny-1",
        model=MODEL,
        kind="experiment",
        champion="v1",
        arms=(Arm("a", "v1"), Arm("b", "v2")),
        plan=plan_for({"a": 50.0, "b": 50.0}, "accuracy"),
        created=world.now,
        created_by="ann",
    )
    world.control.rollouts.commit(experiment_started(experiment, None))
    for steer in (world.operations().promote, world.operations().pause, world.operations().resume):
        with pytest.raises(RolloutRefused, match="ekiben experiment stop tiny"):
            steer(MODEL)
    with pytest.raises(RolloutRefused, match="is what is on trial"):
        world.operations().rollback(MODEL, to="v2")
    assert world.operations().abort(MODEL).status == "Aborted"


def test_inputs_must_be_the_same(world):
    world.register("v4", msgspec.structs.replace(SPEC, inputs=(*SPEC.inputs, InputSpec(name="c", type="int"))))
    with pytest.raises(RolloutRefused, match="it has an input 'c' more"):
        world.operations().start(MODEL, "v4")


class Overtaken(Rollouts):
    """Somebody else commits something before each of the first commits."""

    def __init__(self, inner: Rollouts, others: list) -> None:
        self._inner = inner
        self._others = others

    def commit(self, change):
        if self._others:
            self._others.pop(0)()
        return self._inner.commit(change)

    def get(self, rollout):
        return self._inner.get(rollout)

    def find(self, **wanted):
        return self._inner.find(**wanted)

    def steps(self, rollout):
        return self._inner.steps(rollout)


def overtaken(world, *others):
    control = msgspec.structs.replace(world.control, rollouts=Overtaken(world.control.rollouts, list(others)))
    return Operations(control, world.registry, who="ann@desk", wall=world.wall)


@pytest.mark.parametrize("what", ["abort", "rollback"])
def test_going_back_is_not_stopped_by_a_step_of_the_same_moment(going, what):
    going_on = going.operations().promote
    view = getattr(overtaken(going, lambda: going_on(MODEL), lambda: going_on(MODEL)), what)(MODEL)
    assert (view.status, view.step) == ("Aborted", 3)
    assert going.route is None


def test_a_promotion_of_the_same_moment_is_gone_back_from_too(going):
    promote = going.operations().promote
    view = overtaken(going, lambda: promote(MODEL, full=True)).rollback(MODEL)
    assert (view.champion, view.was) == ("v1", "v2")


def test_going_on_is_refused_where_somebody_else_went_on(going):
    promote = going.operations().promote
    with pytest.raises(RolloutChanged, match="changed by somebody else"):
        overtaken(going, lambda: promote(MODEL)).promote(MODEL)


def test_who_is_overtaken_again_and_again_is_told(going):
    operations = going.operations()
    others = [lambda: operations.pause(MODEL), lambda: operations.resume(MODEL)] * 3
    with pytest.raises(RolloutChanged):
        overtaken(going, *others).abort(MODEL)
