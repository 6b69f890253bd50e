import pytest
from click.testing import CliRunner
from unit.admin_world import KEY, SERVER, Transport, World

from ekiben.cli import main
from ekiben.cli.remote import AdminClient
from ekiben.cli.remote_experiments import RemoteExperiments
from ekiben.errors import RolloutChanged, RolloutRefused, UnknownRollout
from ekiben.rollout.experiment_operations import Experiments
from ekiben.serving.rest.admin_experiments import experiment_routes

ARMS = {"old": "1", "new": "2"}


@pytest.fixture
def world(tmp_path, tiny_artifact):
    made: list[World] = []

    def experiments_for(who):
        return Experiments(made[0].control, made[0].registry, who=who, wall=lambda: made[0].now)

    made.append(World(tmp_path, tiny_artifact, more=experiment_routes(experiments_for)))
    return made[0]


@pytest.fixture
def client(world):
    return AdminClient(SERVER, KEY, transport=Transport(world.app))


@pytest.fixture(params=["local", "remote"])
def operations(request, world, client):
    """Both answer alike: every test that takes this is the contract of `ExperimentOperations`."""
    if request.param == "local":
        return Experiments(world.control, world.registry, who="kim@desk", wall=lambda: world.now)
    return RemoteExperiments(client)


def test_an_experiment_from_its_start_to_its_end(operations, world):
    view = operations.start("tiny", ARMS, weights=(20.0, 30.0), metric="accuracy")
    assert [(a.name, a.version, a.weight) for a in view.arms] == [("old", "1", 20.0), ("new", "2", 30.0)]
    assert operations.status("tiny") == operations.status("tiny-1") == view
    with pytest.raises(RolloutChanged, match="tiny-1 is active"):
        operations.start("tiny", ARMS)
    with pytest.raises(RolloutRefused, match="no arm 'x' to promote"):
        operations.stop("tiny", promote="x")
    assert operations.stop("tiny", promote="new", reason="better").message == "stopped: better; new (2) is champion"
    assert world.control.aliases.get("tiny")["champion"] == "2"


def test_what_does_not_exist(operations):
    for name in ("tiny", "a/b?c"):
        with pytest.raises(UnknownRollout):
            operations.status(name)
        with pytest.raises(UnknownRollout):
            operations.stop(name)


def test_the_command_asks_a_server(world, client, monkeypatch):
    monkeypatch.setattr("ekiben.cli.server_options.ServerOption.client", lambda self: client)
    server = ["--server", SERVER, "--key", KEY]
    done = CliRunner().invoke(main, ["experiment", "start", "tiny", "--arm", "old=1", "--arm", "new=2", *server])
    assert done.exit_code == 0, done.output
    (rollout,) = world.control.rollouts.find(active=True)
    assert (rollout.kind, rollout.created_by) == ("experiment", "admin-key@192.0.2.7")
