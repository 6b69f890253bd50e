import json

import pytest
from unit.admin_world import KEY, SERVER, World, installed, run


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    world = World(tmp_path, tiny_artifact)
    installed(world, monkeypatch)
    return world


@pytest.mark.parametrize("where", [(), ("--server", SERVER, "--key", KEY)], ids=["here", "server"])
def test_an_active_rollout_is_aborted_else_the_champion_goes_back(world, where):
    run("rollout", "start", "tiny", "--to", "2")
    found = json.loads(run("rollback", "tiny", "--json", *where).stdout)
    assert (found["id"], found["status"]) == ("tiny-1", "Aborted")
    assert world.control.aliases.get("tiny")["champion"] == "1"
    assert json.loads(run("rollback", "tiny", "--to", "3", "--json", *where).stdout)["champion"] == "3"
    assert run("rollback", "tiny", "--to", "1", *where).stdout.endswith("; running servers follow within a second\n")
    assert world.control.aliases.get("tiny")["champion"] == "1"


def test_where_there_is_nothing_to_go_back_to(world):
    assert "no former champion" in run("rollback", "tiny", code=1).stderr
    assert "'9'" in run("rollback", "tiny", "--to", "9", code=1).stderr
