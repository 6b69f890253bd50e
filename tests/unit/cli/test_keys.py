import json

import pytest
from unit.admin_world import SERVER, World, installed, run

from ekiben.guards.api_keys import KeyRing


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    made = World(tmp_path, tiny_artifact)
    installed(made, monkeypatch)
    return made


@pytest.fixture(params=["local", "remote"])
def where(request, world):
    return [] if request.param == "local" else ["--server", SERVER, "--key-file", world.key_file]


def good(world, key):
    ring = KeyRing(world.control.keys, wall=lambda: world.now)
    ring.refresh()
    return ring.find(key.encode()) is not None


def test_a_key_from_its_making_to_its_end(world, where):
    assert "there are no keys" in run("keys", "list", *where).stdout
    assert json.loads(run("keys", "list", "--json", *where).stdout) == []
    done = run("keys", "create", "booking site", "--scope", "predict:tiny", "--scope", "truth", "--expires", "90d", *where)
    key = done.stdout.splitlines()[0].split()[1]
    assert good(world, key)
    assert "shown this once" in done.stderr
    prefix = key[3:11]
    line = run("keys", "list", *where).stdout.splitlines()[1]
    assert line.startswith(f"{prefix}  booking site  predict:tiny truth  good")
    assert key[12:] not in line
    successor = json.loads(run("keys", "rotate", prefix, "--grace", "10m", "--json", *where).stdout)
    assert good(world, successor["key"])
    assert f"{prefix} (booking site) is revoked" in run("keys", "revoke", key, *where).stdout
    assert not good(world, key)
    assert json.loads(run("keys", "revoke", prefix, "--json", *where).stdout)["state"] == "revoked"
    states = [cells for cells in run("keys", "list", *where).stdout.splitlines() if prefix in cells and "revoked" in cells]
    assert states[0].endswith(successor["about"]["prefix"])


def test_a_key_without_an_end_says_so(world, where):
    assert "expires  never" in run("keys", "create", "site", "--scope", "read", *where).stdout
    assert "never" in run("keys", "list", *where).stdout


def test_what_is_wrong_is_said_in_a_line(world, where):
    assert "'write' is no scope" in run("keys", "create", "site", "--scope", "write", *where, code=1).stderr
    assert "there is no API key 'zz99zz99'" in run("keys", "revoke", "zz99zz99", *where, code=1).stderr
    assert "--scope" in run("keys", "create", "site", *where, code=2).stderr
