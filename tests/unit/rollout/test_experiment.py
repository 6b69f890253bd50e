import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import RolloutRefused
from ekiben.rollout.experiment import (
    begin,
    checked_arms,
    checked_weights,
    equal_weights,
    metric_of,
    plan_for,
    started,
    stopped,
    weights_of,
)
from ekiben.rollout.standing import Standing, standing_of
from ekiben.state import MemoryAliases, memory_control
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Arm, Kept, Route

NOW = 1_800_000_000.0
ARMS = (Arm("old", "1"), Arm("new", "2"))


def an_experiment(weights=(60.0, 30.0), **fields):
    plan = plan_for({arm.name: weight for arm, weight in zip(ARMS, weights, strict=True)}, "f1")
    return Rollout(
        id="m-7", model="m", kind="experiment", champion="1", arms=ARMS, plan=plan, created=NOW, created_by="ann@desk", **fields
    )  # fmt: skip


@given(names=st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=12, unique=True))
def test_equal_weights_are_100_exactly_in_hundredths(names):
    weights = equal_weights(names)
    assert list(weights) == names
    assert sum(round(w * 100) for w in weights.values()) == 10_000
    assert all(w == round(w, 2) for w in weights.values())
    assert max(weights.values()) - min(weights.values()) <= 0.0100001


def test_three_arms_and_the_first_has_the_rest():
    assert equal_weights(["a", "b", "c"]) == {"a": 33.34, "b": 33.33, "c": 33.33}


def test_arms():
    assert checked_arms({"old": "1", "new-2": "1"}) == (Arm("old", "1"), Arm("new-2", "1"))


@pytest.mark.parametrize(
    ("arms", "problem"),
    [
        ({}, "two arms or more"),
        ({"a": "1"}, "two arms or more"),
        ({"a": "1", "B": "2"}, "'B' cannot name an arm"),
        ({"a": "1", "2b": "2"}, "'2b' cannot name an arm"),
        ({"a": "1", "champion": "2"}, "none of champion, challenger, pinned, shadow"),
        ({"shadow": "1", "b": "2"}, "'shadow' cannot name an arm"),
    ],
)
def test_what_cannot_be_arms(arms, problem):
    with pytest.raises(RolloutRefused, match=problem):
        checked_arms(arms)


def test_weights():
    assert checked_weights(ARMS, None) == {"old": 50.0, "new": 50.0}
    assert checked_weights(ARMS, [33.34, 66.66]) == {"old": 33.34, "new": 66.66}
    assert checked_weights(ARMS, [1, 2]) == {"old": 1.0, "new": 2.0}


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([100], "1 weights for 2 arms"),
        ([0, 50], "weight of old is 0"),
        ([50, -1], "weight of new is -1"),
        ([50, 101], "weight of new is 101"),
        ([50, float("nan")], "weight of new is nan"),
        ([50, 0.001], "in hundredths"),
        ([50, 50.01], "100.01 % together"),
    ],
)
def test_what_cannot_be_weights(weights, problem):
    with pytest.raises(RolloutRefused, match=problem):
        checked_weights(ARMS, weights)


def test_weights_and_metric_are_kept_in_the_plan():
    experiment = msgspec.json.decode(msgspec.json.encode(an_experiment()), type=Rollout)
    assert weights_of(experiment) == {"old": 60.0, "new": 30.0}
    assert metric_of(experiment) == "f1"


def test_it_starts_with_its_arms_to_be_loaded_and_nobody_sent_to_them():
    former = Route(kept=(Kept("0", NOW + 60),))
    change = started(an_experiment(), former)
    assert change.aliases == {"champion": "1"}
    assert isinstance(change.route, Route)
    assert (change.route.arms, change.route.slots, change.route.kept, change.route.fallback) == (ARMS, (), former.kept, False)
    (event,) = change.events
    assert (event.kind, event.who, event.rollout) == ("started", "ann@desk", "m-7")
    assert event.details == {"arms": {"old": "1", "new": "2"}, "weights": {"old": 60.0, "new": 30.0}, "metric": "f1"}


@pytest.mark.parametrize("has_route", [True, False])
def test_users_are_let_in_by_their_weights(has_route):
    experiment = an_experiment()
    waiting = started(experiment, None).route
    change = begin(experiment, waiting if has_route else None, NOW + 5)
    assert change.rollout is not None
    assert (change.rollout.step_began, change.rollout.stage_began, change.rollout.status) == (NOW + 5, NOW + 5, "Progressing")
    assert isinstance(change.route, Route)
    assert (change.route.weight("old"), change.route.weight("new")) == (60.0, 30.0)
    assert (change.route.fallback, change.route.salt) == (False, waiting.salt)
    assert change.events[0].details == {"weights": {"old": 60.0, "new": 30.0}}


@pytest.fixture
def control():
    """A control database with an experiment that runs."""
    control = memory_control(lambda: NOW, aliases=MemoryAliases())
    kept = control.rollouts.commit(started(an_experiment(), Route(kept=(Kept("0", NOW + 60),)))).rollout
    control.rollouts.commit(begin(kept, control.routes.get("m"), NOW + 5))
    return control


def stop(control, **options):
    at = standing_of(control, control.rollouts.find(model="m", active=True)[0])
    return control.rollouts.commit(stopped(at, NOW + 10, who="bob@desk", **options))


def test_it_stops_and_the_champion_stays(control):
    change = stop(control, why="enough seen")
    assert (change.rollout.status, change.rollout.ended) == ("Completed", NOW + 10)
    assert change.rollout.message == "stopped: enough seen; 1 stays champion"
    assert control.aliases.get("m") == {"champion": "1"}
    assert control.routes.get("m") == Route(kept=(Kept("0", NOW + 60),))
    assert [(e.kind, e.who) for e in change.events] == [("stopped", "bob@desk")]


def test_it_stops_and_an_arm_is_promoted_in_the_same_change(control):
    change = stop(control, promote="new")
    assert control.aliases.get("m") == {"champion": "2", "previous": "1"}
    assert control.routes.get("m") == Route(kept=(Kept("0", NOW + 60), Kept("1", NOW + 10 + 3600)))
    assert change.rollout.message == "stopped; new (2) is champion"
    assert [e.kind for e in change.events] == ["promoted"]


def test_the_champions_own_arm_may_be_promoted_and_nothing_moves(control):
    change = stop(control, promote="old")
    assert control.aliases.get("m") == {"champion": "1"}
    assert [e.kind for e in change.events] == ["stopped"]


def test_without_anything_kept_no_route_is_left():
    change = stopped(Standing(an_experiment(), Route()), NOW, who="bob@desk")
    assert change.route is None


def test_there_must_be_an_arm_to_promote(control):
    with pytest.raises(RolloutRefused, match="no arm 'newer' to promote; there are old, new"):
        stop(control, promote="newer")
    assert control.rollouts.find(active=True)
