import msgspec
import pytest
from unit.admin_world import World

from ekiben.model.rollout_spec import PlanSpec
from ekiben.rollout.plan import default_plan
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Route

PLAN = {"steps": ["shadow", {"pause": "until approved"}, {"setWeight": 100}]}


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact)


def started(world, **body):
    answer = world.ask("POST", "/rollouts", json={"model": "tiny", "to": "2", **body})
    assert answer.status_code == 201, answer.text
    return msgspec.convert(answer.json(), StatusView)


def status(answer):
    assert answer.status_code == 200, answer.text
    return msgspec.convert(answer.json(), StatusView)


def test_a_rollout_is_started_looked_at_and_listed(world):
    view = started(world, plan=PLAN)
    assert (view.id, view.champion, view.challenger, view.status) == ("tiny-1", "1", "2", "Progressing")
    assert [step.what for step in view.steps] == ["shadow: 100 %", "pause: until approved", "setWeight: 100"]
    for name in ("tiny", "tiny-1"):
        assert status(world.ask("GET", f"/rollouts/{name}")).id == "tiny-1"
    [listed] = msgspec.convert(world.ask("GET", "/rollouts").json(), list[Rollout])
    assert listed == world.control.rollouts.get("tiny-1")
    for query, number in (("active=true", 1), ("active=false", 0), ("model=tiny&limit=1", 1), ("model=other", 0)):
        assert len(world.ask("GET", f"/rollouts?{query}").json()) == number


@pytest.mark.parametrize("to", ["2", "tiny:2", "tiny@second", "second"])
def test_a_version_may_be_named_in_every_way(world, to):
    world.registry.set_alias("tiny", "second", "2")
    assert started(world, to=to).challenger == "2"


def test_without_a_plan_it_is_the_models(world):
    started(world)
    assert world.control.rollouts.get("tiny-1").plan == default_plan()
    assert msgspec.convert(world.ask("GET", "/models/tiny/plan").json(), PlanSpec) == default_plan()
    assert world.ask("GET", "/models/tiny/plan?to=3").status_code == 200


def test_it_is_paused_resumed_and_aborted(world):
    started(world)
    assert status(world.ask("POST", "/rollouts/tiny/pause")).status == "Paused"
    assert world.ask("POST", "/rollouts/tiny/pause").status_code == 422
    assert status(world.ask("POST", "/rollouts/tiny/resume", json={})).status == "Progressing"
    view = status(world.ask("POST", "/rollouts/tiny/abort", json={"reason": "complaints"}))
    assert (view.status, view.message) == ("Aborted", "complaints")
    assert world.ask("POST", "/rollouts/tiny/abort").status_code == 404


def test_promote_hands_on_how_far(world):
    started(world)
    answer = world.ask("POST", "/rollouts/tiny/promote", json={"full": True})
    assert answer.status_code == 422  # not loaded anywhere
    world.loads()
    view = status(world.ask("POST", "/rollouts/tiny/promote", json={"full": False}))
    assert (view.status, view.step) == ("Progressing", 1)
    view = status(world.ask("POST", "/rollouts/tiny/promote", json={"full": True}))
    assert view.status == "Completed"
    assert world.control.aliases.get("tiny")["champion"] == "2"
    back = msgspec.convert(world.ask("POST", "/models/tiny/rollback").json(), RollbackView)
    assert (back.champion, back.was) == ("1", "2")
    forth = msgspec.convert(world.ask("POST", "/models/tiny/rollback", json={"to": "3"}).json(), RollbackView)
    assert forth.champion == "3"


def test_a_rollback_aborts_what_is_active(world):
    started(world)
    assert status(world.ask("POST", "/models/tiny/rollback")).status == "Aborted"


def test_what_cannot_be_is_refused(world):
    for body, code in (({"to": "1"}, 422), ({"to": "9"}, 422), ({"to": "other:2"}, 422), ({"model": "other", "to": "2"}, 422)):
        assert world.ask("POST", "/rollouts", json={"model": "tiny", **body}).status_code == code
    started(world)
    assert world.ask("POST", "/rollouts", json={"model": "tiny", "to": "3"}).status_code == 409
    assert world.ask("GET", "/rollouts/other").status_code == 404
    assert world.ask("POST", "/models/other/rollback").status_code == 422


def test_events_and_the_route(world):
    empty = msgspec.convert(world.ask("GET", "/models/tiny/route").json(), Route)
    assert empty == Route()
    started(world)
    world.ask("POST", "/rollouts/tiny/pause")
    first, second = world.ask("GET", "/models/tiny/events").json()
    assert [first["kind"], second["kind"]] == ["started", "paused"]
    assert world.ask("GET", f"/models/tiny/events?after={first['id']}").json() == [second]
    assert world.ask("GET", "/models/tiny/events?limit=1").json() == [second]
    route = msgspec.convert(world.ask("GET", "/models/tiny/route").json(), Route)
    assert [arm.version for arm in route.arms] == ["2"]
