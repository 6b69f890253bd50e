import msgspec
import pytest
from unit.admin_world import World

from ekiben.rollout.experiment import begin
from ekiben.rollout.experiment_operations import Experiments
from ekiben.rollout.experiment_view import ExperimentView
from ekiben.serving.rest.admin_experiments import experiment_routes

ARMS = {"old": "1", "new": "2"}


@pytest.fixture
def world(tmp_path, tiny_artifact):
    made: list[World] = []

    def experiments_for(who):
        return Experiments(made[0].control, made[0].registry, who=who, wall=lambda: made[0].now)

    made.append(World(tmp_path, tiny_artifact, more=experiment_routes(experiments_for)))
    return made[0]


def view_of(answer, status=200):
    assert answer.status_code == status, answer.text
    return msgspec.convert(answer.json(), ExperimentView)


def test_it_is_started_looked_at_and_stopped(world):
    body = {"model": "tiny", "arms": ARMS, "weights": [60, 20.5], "metric": "accuracy"}
    view = view_of(world.ask("POST", "/experiments", json=body), 201)
    assert (view.id, view.metric, view.created_by) == ("tiny-1", "accuracy", "admin-key@192.0.2.7")
    assert [(a.name, a.version, a.weight) for a in view.arms] == [("old", "1", 60.0), ("new", "2", 20.5)]
    (rollout,) = world.control.rollouts.find(active=True)
    world.control.rollouts.commit(begin(rollout, world.control.routes.get("tiny"), world.now))
    for name in ("tiny", "tiny-1"):
        assert view_of(world.ask("GET", f"/experiments/{name}")).began == world.now
    view = view_of(world.ask("POST", "/experiments/tiny/stop", json={"promote": "new", "reason": "better"}))
    assert (view.status, view.message) == ("Completed", "stopped: better; new (2) is champion")
    assert world.control.aliases.get("tiny") == {"champion": "2", "previous": "1"}


def test_arms_stand_in_the_order_they_are_given_and_weights_may_be_left_out(world):
    view = view_of(world.ask("POST", "/experiments", json={"model": "tiny", "arms": {"z": "latest", "a": "champion", "m": "2"}}), 201)
    assert [(a.name, a.version, a.weight) for a in view.arms] == [("z", "3", 33.34), ("a", "1", 33.33), ("m", "2", 33.33)]
    assert view.metric == "f1"
    assert view_of(world.ask("POST", "/experiments/tiny/stop")).message == "stopped; 1 stays champion"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({}, 400, "missing required field"),
        ({"model": "tiny", "arms": {"a": "1"}}, 400, "length >= 2"),
        ({"model": "tiny", "arms": {str(n): "1" for n in range(21)}}, 400, "length <= 20"),
        ({"model": "tiny", "arms": ["1", "2"]}, 400, "Expected `object`"),
        ({"model": "tiny", "arms": ARMS, "weights": [0, 50]}, 400, "> 0"),
        ({"model": "tiny", "arms": ARMS, "weights": "50,50"}, 400, "Expected `array"),
        ({"model": "tiny", "arms": ARMS, "metric": "A b"}, 400, "regex"),
        ({"model": "tiny", "arms": ARMS, "shares": []}, 400, "unknown field"),
        ({"model": "tiny", "arms": ARMS, "weights": [60, 50]}, 422, "110 % together"),
        ({"model": "tiny", "arms": {"a": "1", "champion": "2"}}, 422, "cannot name an arm"),
        ({"model": "tiny", "arms": {"a": "1", "b": "9"}}, 422, "9"),
        ({"model": "tiny", "arms": ARMS, "metric": "mae"}, 422, "no metric"),
        ({"model": "ghost", "arms": ARMS}, 422, "ghost"),
    ],
)
def test_what_is_refused(world, body, status, problem):
    answer = world.ask("POST", "/experiments", json=body)
    assert (answer.status_code, problem in answer.json()["error"]) == (status, True), answer.text
    assert world.control.rollouts.find() == []


def test_what_does_not_exist_or_is_taken(world):
    assert world.ask("GET", "/experiments/tiny").status_code == 404
    assert world.ask("POST", "/experiments/tiny/stop").status_code == 404
    world.ask("POST", "/experiments", json={"model": "tiny", "arms": ARMS})
    assert world.ask("POST", "/experiments", json={"model": "tiny", "arms": ARMS}).status_code == 409
    assert world.ask("POST", "/experiments/tiny/stop", json={"promote": "ghost"}).status_code == 422


def test_they_are_in_the_document(world):
    document = world.ask("GET", "/openapi.json").json()
    paths = {path: sorted(of) for path, of in document["paths"].items() if "experiments" in path}
    assert paths == {
        "/admin/v1/experiments": ["post"],
        "/admin/v1/experiments/{experiment}": ["get"],
        "/admin/v1/experiments/{model}/stop": ["post"],
    }
    assert {"ExperimentStart", "ExperimentStop", "ExperimentView"} <= document["components"]["schemas"].keys()
