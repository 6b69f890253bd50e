"""What aliases and loads promise, on every backend: in memory, SQLite, and a PostgreSQL started for it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from ekiben.state import MemoryAliases, MemoryLoads
from ekiben.state.database import Database
from ekiben.state.schema import SCHEMA
from ekiben.state.sql_aliases import SqlAliases
from ekiben.state.sql_loads import SqlLoads

pytestmark = pytest.mark.processes


def _postgresql_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql():
    """The URL of an empty PostgreSQL; it refuses to run as root, so root runs it as its own user."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ekiben-pg-", dir="/tmp") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        data, log = f"{folder}/data", f"{folder}/log"

        def run(program, *arguments):
            who = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
            subprocess.run([programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120, **who)

        run("initdb", "-D", data, "-A", "trust", "-U", "ekiben", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql://ekiben@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def users(request, tmp_path):
    """A function that gives one more user of the same, at first empty, part of the state: ``users(sql class, twin's class)``."""
    if request.param == "memory":
        twins = {}
        yield lambda _, memory: twins.setdefault(memory, memory())
        return
    url = f"sqlite:///{tmp_path / 'control.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    opened = []

    def connect(sql, _):
        opened.append(Database(url))
        return sql(opened[-1])

    yield connect
    if request.param == "postgresql":
        with opened[0].writing() as connection:
            SCHEMA.drop_all(connection)
    for database in opened:
        database.close()


@pytest.fixture
def backend(users):
    """A function that gives one more user of the same aliases."""
    return lambda: users(SqlAliases, MemoryAliases)


@pytest.fixture
def loads(users):
    """A function that gives one more user of the same loads."""
    return lambda: users(SqlLoads, MemoryLoads)


def test_there_are_none_before_the_first_change(backend):
    aliases = backend()
    assert (aliases.all(), aliases.get("m"), aliases.generation()) == ({}, {}, 0)


def test_what_one_sets_another_sees(backend):
    one, other = backend(), backend()
    assert one.set("m", "champion", "1")
    assert one.set("m", "challenger", "2")
    assert one.set("n", "champion", "2013.04")
    assert other.get("m") == {"champion": "1", "challenger": "2"}
    assert other.all() == {"m": {"champion": "1", "challenger": "2"}, "n": {"champion": "2013.04"}}
    assert other.get("none") == {}


def test_an_alias_moves(backend):
    aliases = backend()
    aliases.set("m", "champion", "1")
    assert aliases.set("m", "champion", "2")
    assert aliases.get("m") == {"champion": "2"}


def test_an_alias_that_exists_is_left_when_asked(backend):
    aliases = backend()
    assert aliases.set("m", "champion", "1", replace=False)
    assert not aliases.set("m", "champion", "2", replace=False)
    assert aliases.get("m") == {"champion": "1"}


def test_removing_says_whether_there_was_one(backend):
    aliases = backend()
    aliases.set("m", "champion", "1")
    assert aliases.remove("m", "champion")
    assert not aliases.remove("m", "champion")
    assert aliases.all() == {}


def test_the_generation_grows_with_every_change_and_with_nothing_else(backend):
    one, other = backend(), backend()
    seen = [other.generation()]
    for change in (
        lambda: one.set("m", "champion", "1"),
        lambda: one.set("m", "champion", "2"),
        lambda: one.set("m", "challenger", "2"),
        lambda: one.remove("m", "champion"),
    ):
        assert change()
        seen.append(other.generation())
    assert seen == sorted(set(seen))
    assert not one.set("m", "challenger", "2")
    assert not one.set("m", "challenger", "1", replace=False)
    assert not one.remove("m", "champion")
    assert other.generation() == seen[-1]


def test_many_that_start_at_once_lose_no_change(backend):
    users = [backend() for _ in range(6)]
    barrier = threading.Barrier(len(users))
    failures, first = [], []

    def change(n, aliases):
        barrier.wait()
        try:
            if aliases.set("m", "champion", str(n), replace=False):
                first.append(str(n))
            aliases.set("m", f"a{n}", "1")
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=change, args=item) for item in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert users[0].get("m") == {"champion": first[0], **{f"a{n}": "1" for n in range(6)}}
    assert len(first) == 1
    assert users[0].generation() == 7


def test_nobody_asked_for_a_model_before_the_first_time(loads):
    assert (loads().all(), loads().generation()) == ({}, 0)


def test_the_last_one_who_asks_for_a_model_is_heard_by_all(loads):
    one, other = loads(), loads()
    one.set("m", loaded=False)
    one.set("a", loaded=True)
    assert other.all() == {"a": True, "m": False}
    assert list(other.all()) == ["a", "m"]
    other.set("m", loaded=True)
    assert one.all() == {"a": True, "m": True}


def test_asking_again_for_the_same_is_a_change_too(loads):
    one, other = loads(), loads()
    seen = []
    for loaded in (True, True, False, False):
        one.set("m", loaded=loaded)
        seen.append(other.generation())
    assert seen == [1, 2, 3, 4]
    assert other.all() == {"m": False}


def test_loads_and_aliases_have_generations_of_their_own(loads, backend):
    loads().set("m", loaded=True)
    assert (loads().generation(), backend().generation()) == (1, 0)
    backend().set("m", "champion", "1")
    assert (loads().generation(), backend().generation()) == (1, 1)


def test_many_that_ask_at_once_for_one_model_are_all_heard(loads):
    users = [loads() for _ in range(6)]
    barrier = threading.Barrier(len(users))
    failures = []

    def ask(part):
        barrier.wait()
        try:
            part.set("m", loaded=True)
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=ask, args=(part,)) for part in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (users[0].all(), users[0].generation()) == ({"m": True}, 6)
