import msgspec
import pytest
from unit.rollout.world import MODEL, SPEC, World

from ekiben.errors import RolloutChanged, RolloutRefused, UnknownRollout
from ekiben.model.artifact import MANIFEST
from ekiben.rollout.experiment_operations import Experiments
from ekiben.rollout.router import RoutingTable
from ekiben.state.truth import Exposure, Truth

ARMS = {"old": "v1", "new": "v2"}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def experiments(world):
    return Experiments(world.control, world.registry, who="ann@desk", wall=world.wall)


def users_come(world, n=400, *, right=None):
    """So many users ask once each; what was true of them is reported at once."""
    share = right or {"v1": 0.5, "v2": 0.9}
    table = RoutingTable("v1", world.route, SPEC.routing, {"v1", "v2", "v3"})
    seen = {}
    for i in range(n):
        choice = table.by_key(f"user-{i}")
        number = seen[choice.version] = seen.get(choice.version, 0) + 1
        is_right = number % 10 < 10 * share[choice.version]
        request = f"r-{world.now}-{i}"
        exposure = Exposure(
            model=MODEL, request_id=request, row=0, version=choice.version, arm=choice.arm, key=f"user-{i}", time=world.now,
            prediction="yes", score=0.9,
        )  # fmt: skip
        world.control.truths.expose([exposure])
        truth = Truth(model=MODEL, request_id=request, row=0, time=world.now, actual="yes" if is_right else "no", outcome=float(is_right))
        world.control.truths.report([truth])


def test_from_its_start_to_its_end(world, experiments):
    view = experiments.start(MODEL, ARMS, metric="accuracy")
    assert (view.id, view.status, view.began, view.metric, view.champion) == ("tiny-1", "Progressing", 0.0, "accuracy", "v1")
    assert [(a.name, a.version, a.weight, a.rows) for a in view.arms] == [("old", "v1", 50.0, 0), ("new", "v2", 50.0, 0)]
    assert view.next == "nobody carries it out: start a server or `ekiben controller`"
    assert world.route.slots == ()

    world.pass_time(3)
    view = experiments.status(MODEL)
    assert view.began > view.created
    assert (view.next, view.controller) == ("", "host:1")
    assert (world.route.weight("old"), world.route.weight("new"), world.route.fallback) == (50.0, 50.0, False)

    users_come(world)
    world.pass_time(1)
    view = experiments.status("tiny-1")
    assert sum(arm.users for arm in view.arms) == sum(arm.known_rows for arm in view.arms) == 400
    assert view.split.is_right
    assert view.comparisons[0].verdict == "better"
    assert "you may stop now" in view.conclusion
    assert "Waudby-Smith" in view.method

    view = experiments.stop(MODEL, promote="new", reason="clear enough")
    assert (view.status, view.message) == ("Completed", "stopped: clear enough; new (v2) is champion")
    assert world.control.aliases.get(MODEL) == {"champion": "v2", "previous": "v1"}
    assert [k.version for k in world.route.kept] == ["v1"]
    assert [(e.kind, e.who) for e in world.control.events.find(model=MODEL)] == [
        ("started", "ann@desk"),
        ("step", "controller"),
        ("promoted", "ann@desk"),
    ]
    world.pass_time(1)
    assert experiments.status(MODEL).comparisons == view.comparisons  # what it has shown is there after its end
    with pytest.raises(UnknownRollout, match="no active experiment; tiny-1 ended as Completed"):
        experiments.stop(MODEL)


def test_the_champion_answers_whom_no_arm_has(world, experiments):
    experiments.start(MODEL, ARMS, weights=(10, 5), metric="outcome")
    world.pass_time(3)
    assert (world.route.weight("old"), world.route.weight("new")) == (10.0, 5.0)
    users_come(world, 2000)
    world.pass_time(1)
    view = experiments.status(MODEL)
    assert view.split.is_right
    assert 200 < sum(arm.users for arm in view.arms) < 400


@pytest.mark.parametrize(
    ("arms", "options", "problem"),
    [
        ({"a": "v1"}, {}, "two arms or more"),
        ({"a": "v1", "champion": "v2"}, {}, "'champion' cannot name an arm"),
        ({"a": "v1", "b": "v9"}, {}, "v9"),
        ({"a": "v1", "b": "other:v1"}, {}, "another model"),
        (ARMS, {"weights": (50,)}, "1 weights for 2 arms"),
        (ARMS, {"metric": "mae"}, "'mae' is no metric"),
    ],
)
def test_what_is_refused(world, experiments, arms, options, problem):
    with pytest.raises(RolloutRefused, match=problem):
        experiments.start(MODEL, arms, **options)
    assert world.control.rollouts.find() == []
    assert world.route is None


def test_arms_must_fit_the_champion(world, experiments):
    world.register("v4", msgspec.structs.replace(SPEC, labels=("no", "maybe")))
    with pytest.raises(RolloutRefused, match="its labels are no, maybe, not no, yes"):
        experiments.start(MODEL, {"a": "v1", "b": "latest"})


def test_an_arm_that_cannot_be_read(world, experiments):
    (world.registry.folder_of("tiny:v2") / MANIFEST).write_text("{")
    with pytest.raises(RolloutRefused, match="`ekiben models verify tiny:v2` says more"):
        experiments.start(MODEL, ARMS)


def test_there_is_one_rollout_or_experiment_of_a_model_at_a_time(world, experiments):
    experiments.start(MODEL, ARMS)
    with pytest.raises(RolloutChanged, match="tiny-1 is active"):
        experiments.start(MODEL, ARMS)
    with pytest.raises(RolloutChanged, match="tiny-1 is active"):
        world.operations().start(MODEL, "v2")
    experiments.stop(MODEL)
    world.operations().start(MODEL, "v2")
    with pytest.raises(RolloutChanged, match="tiny-2 is active"):
        experiments.start(MODEL, ARMS)
    assert experiments.status(MODEL).id == "tiny-1"


def test_what_it_waits_for(world, experiments):
    world.loadable.remove("v2")
    experiments.start(MODEL, ARMS)
    world.workers, workers = [], world.workers
    world.pass_time(1)
    assert experiments.status(MODEL).next == "no server of tiny is running"
    world.workers = workers
    world.pass_time(1)
    assert experiments.status(MODEL).next == "waits for tiny:v2 to be loaded on 2 of 2 workers"
    world.loadable.add("v2")
    world.speak()
    assert experiments.status(MODEL).next == "its users are let in within a second"
    world.pass_time(1)
    assert (experiments.status(MODEL).next, world.route.weight("new")) == ("", 50.0)


def test_an_arm_that_cannot_be_loaded_ends_it(world, experiments):
    experiments.start(MODEL, ARMS)
    world.problems["tiny:v2"] = "golden rows differ"
    world.pass_time(2)
    view = experiments.status(MODEL)
    assert (view.status, view.next) == ("RolledBack", "")
    assert "golden rows differ" in view.message
    assert world.route is None


def test_what_does_not_exist(world, experiments):
    with pytest.raises(UnknownRollout, match="no experiment 'tiny'"):
        experiments.status(MODEL)
    world.operations().start(MODEL, "v2")
    for name in (MODEL, "tiny-1"):
        with pytest.raises(UnknownRollout, match="no experiment"):
            experiments.stop(name)


def test_an_arm_whose_version_is_gone_is_not_promoted(world, experiments):
    experiments.start(MODEL, ARMS)
    world.registry.delete("tiny:v2")
    with pytest.raises(RolloutRefused, match="v2"):
        experiments.stop(MODEL, promote="new")
    assert experiments.status(MODEL).status == "Progressing"
    assert experiments.stop(MODEL).status == "Completed"


def test_an_old_one_is_shown_as_long_as_one_of_its_versions_is_there(world, experiments):
    experiments.start(MODEL, {"old": "v2", "new": "v3"})
    experiments.stop(MODEL, promote="new")
    for alias in list(world.control.aliases.get(MODEL)):
        world.control.aliases.remove(MODEL, alias)
    for version in ("v1", "v2"):
        world.registry.delete(f"tiny:{version}")
    assert experiments.status(MODEL).status == "Completed"
    world.registry.delete("tiny:v3")
    with pytest.raises(RolloutRefused, match="no model 'tiny' in the store"):
        experiments.status(MODEL)
