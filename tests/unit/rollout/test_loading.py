import pytest
from unit.rollout.world import plan

from ekiben.rollout.experiment import plan_for
from ekiben.rollout.loading import Loading, broken_on, loading_of, versions_of
from ekiben.state import memory_control
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Arm
from ekiben.state.workers import WorkerState

ROLLOUT = Rollout(id="m-1", model="m", champion="1", challenger="2", plan=plan({"setWeight": 5}), created=100.0, created_by="ann")
EXPERIMENT = Rollout(
    id="m-1",
    model="m",
    kind="experiment",
    champion="1",
    arms=(Arm("a", "1"), Arm("b", "2"), Arm("c", "2")),
    plan=plan_for({"a": 30.0, "b": 30.0, "c": 30.0}, "accuracy"),
    created=100.0,
    created_by="ann",
)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def control(clock):
    return memory_control(clock)


def say(control, name, *versions, models=("m",), generation=None, **problems):
    control.workers.say(
        WorkerState(
            id=name,
            models=models,
            versions={"m": versions},
            problems={f"m:{version.removeprefix('v')}": why for version, why in problems.items()},
            generation=control.generation() if generation is None else generation,
        )
    )


def test_without_workers_nothing_is_done(control):
    loading = loading_of(control, ROLLOUT)
    assert (loading, loading.is_done) == (Loading(0, {}, {}), False)


def test_all_workers_that_serve_the_model_must_have_it(control, clock):
    say(control, "a", "1", "2")
    say(control, "b", "1")
    say(control, "c", models=("other",))
    assert loading_of(control, ROLLOUT) == Loading(2, {"2": 1}, {})
    assert not loading_of(control, ROLLOUT).is_done
    say(control, "b", "1", "2")
    assert loading_of(control, ROLLOUT).is_done
    clock.now += 5.1
    assert loading_of(control, ROLLOUT).workers == 0


def test_an_experiment_needs_the_versions_of_all_arms(control):
    assert versions_of(EXPERIMENT) == ("1", "2")
    say(control, "a", "2")
    assert loading_of(control, EXPERIMENT).lacking == {"1": 1}


def test_problems_count_when_the_worker_has_seen_the_rollout_or_had_the_time_to(control, clock):
    control.loads.set("m", loaded=True)
    say(control, "a", "1", generation=(0, 0, 0), v2="no memory")
    assert loading_of(control, ROLLOUT).problems == {}
    say(control, "b", "1", v2="no disk", v9="another version")
    assert loading_of(control, ROLLOUT).problems == {"2": "no disk"}
    control.workers.forget("b")
    clock.now = 104.9
    say(control, "a", "1", generation=(0, 0, 0), v2="no memory")
    assert loading_of(control, ROLLOUT).problems == {}
    clock.now = 105.0
    say(control, "a", "1", generation=(0, 0, 0), v2="no memory")
    assert loading_of(control, ROLLOUT).problems == {"2": "no memory"}


def test_who_follows_says_which_challenger_is_broken(control):
    new = control.generation()
    for name, broken, generation, models in (
        ("a", {"m:2": "it fails"}, new, ("m",)),
        ("b", {"m:1": "it fails"}, new, ("m",)),
        ("c", {"m:2": "it fails"}, tuple(g - 1 for g in new), ("m",)),
        ("d", {"m:2": "it fails"}, new, ("other",)),
    ):
        control.workers.say(WorkerState(id=name, models=models, broken=broken, generation=generation))
    assert broken_on(control, ROLLOUT) == {"a": "it fails"}
