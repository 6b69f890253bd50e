import getpass
import socket

import pytest
from unit.admin_world import KEY, SERVER, World, installed, run

from ekiben.cli.remote import RemoteOperations
from ekiben.cli.server_options import ServerOption, operations_of, person
from ekiben.rollout.operations import Operations


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    world = World(tmp_path, tiny_artifact)
    installed(world, monkeypatch)
    return world


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--key", KEY), "of use with --server"),
        (("--key-file", "key"), "of use with --server"),
        (("--server", SERVER), "--server needs its key"),
        (("--server", SERVER, "--key", KEY, "--key-file", "key"), "one of --key-file FILE and --key KEY"),
        (("--server", SERVER, "--key-file", "none"), "does not exist"),
        (("--server", SERVER, "--key-file", "binary"), "cannot be read"),
    ],
)
def test_options_that_do_not_fit(world, options, error):
    (world.key_file.parent / "binary").write_bytes(b"\xff\xfe")
    for command in (("rollout", "list"), ("rollback", "tiny")):
        assert error in run(*command, *options, code=2).stderr


def test_the_control_database_here_or_the_server(world):
    assert isinstance(operations_of(None), Operations)
    assert isinstance(operations_of(ServerOption(SERVER, KEY)), RemoteOperations)


def test_without_a_network_the_client_is_made_of_the_options():
    client = ServerOption(SERVER + "/", KEY).client()
    assert client.url == SERVER


def test_who_types(monkeypatch):
    assert person() == f"{getpass.getuser()}@{socket.gethostname()}"

    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    name, _, host = person().partition("@")
    assert name.isdigit()
    assert host == socket.gethostname()
