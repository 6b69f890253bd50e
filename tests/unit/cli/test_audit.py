import json

import pytest
from unit.admin_world import SERVER, World, installed, run


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    made = World(tmp_path, tiny_artifact)
    installed(made, monkeypatch)
    return made


@pytest.fixture(params=["local", "remote"])
def where(request, world):
    return [] if request.param == "local" else ["--server", SERVER, "--key-file", world.key_file]


def test_who_did_what_over_the_admin_api(world, where):
    assert run("audit", *where).stdout == "nothing was done yet\n"
    world.ask("POST", "/rollouts", json={"model": "tiny", "to": "2"})
    world.ask("POST", "/rollouts/tiny/abort", key=None)
    first, second = run("audit", *where).stdout.splitlines()[1:]
    assert "admin-key@192.0.2.7  admin  POST /rollouts was answered 201" in first
    assert "anonymous@192.0.2.7  admin  POST /rollouts/{model}/abort (model=tiny) was answered 401" in second
    events = json.loads(run("audit", "--json", *where).stdout)
    assert [event["details"]["status"] for event in events] == [201, 401]
    assert json.loads(run("audit", "--json", "--after", events[0]["id"], *where).stdout) == events[1:]
    assert json.loads(run("audit", "--json", "--limit", 1, *where).stdout) == events[1:]
