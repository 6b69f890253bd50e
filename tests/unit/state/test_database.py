import gc
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import select

from ekiben.errors import StateError
from ekiben.state.database import Database
from ekiben.state.schema import ALIASES, GENERATIONS, HEAD, REVISION_TABLE, SCHEMA
from ekiben.state.sql_aliases import SqlAliases
from ekiben.state.sql_loads import SqlLoads
from ekiben.state.sql_truth import SqlTruths


@pytest.fixture
def nobody():
    """Files are closed to us as they are to users: root asks as `nobody`."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield
    os.seteuid(was)


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def aliases_at(file):
    return SqlAliases(Database(f"sqlite:///{file}"))


def test_reading_creates_nothing(tmp_path):
    aliases = aliases_at(tmp_path / "home" / "control.db")
    assert (aliases.all(), aliases.get("m"), aliases.generation()) == ({}, {}, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_reads_as_none(tmp_path):
    (tmp_path / "control.db").touch()
    aliases = aliases_at(tmp_path / "control.db")
    assert (aliases.all(), aliases.generation()) == ({}, 0)
    aliases.set("m", "champion", "1")
    assert aliases.get("m") == {"champion": "1"}


def test_the_first_write_creates_folder_tables_and_wal(tmp_path):
    file = tmp_path / "a" / "b" / "control.db"
    aliases_at(file).set("m", "champion", "1")
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        there = {n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    connection.close()
    assert there - {"sqlite_sequence"} == {*SCHEMA.tables, REVISION_TABLE}


def test_a_change_is_seen_by_who_looked_before_there_was_a_database(tmp_path):
    reader, writer = aliases_at(tmp_path / "control.db"), aliases_at(tmp_path / "control.db")
    assert reader.generation() == 0
    writer.set("m", "champion", "1")
    assert reader.generation() == 1
    assert reader.get("m") == {"champion": "1"}


def test_a_database_that_was_seen_and_is_gone_is_never_made_again(tmp_path):
    writer, reader, never_saw = (aliases_at(tmp_path / "control.db") for _ in range(3))
    writer.set("m", "champion", "1")
    assert reader.get("m") == {"champion": "1"}
    (tmp_path / "control.db").rename(tmp_path / "elsewhere")
    for aliases in (writer, reader):
        for action in (aliases.all, aliases.generation, lambda a=aliases: a.set("m", "champion", "2")):
            with pytest.raises(StateError, match=r"control\.db is gone; bring it back, or restart"):
                action()
    assert not (tmp_path / "control.db").exists()
    assert (never_saw.all(), never_saw.generation()) == ({}, 0)
    (tmp_path / "elsewhere").rename(tmp_path / "control.db")
    assert reader.set("m", "champion", "2")
    assert [aliases.get("m") for aliases in (writer, reader, never_saw)] == [{"champion": "2"}] * 3


def test_another_file_in_its_place_is_the_database_from_then_on(tmp_path):
    other, database = Database(f"sqlite:///{tmp_path / 'other.db'}"), Database(f"sqlite:///{tmp_path / 'control.db'}")
    SqlAliases(other).set("n", "champion", "7")
    aliases = SqlAliases(database)
    aliases.set("m", "champion", "1")
    other.close()
    database.close()
    (tmp_path / "other.db").replace(tmp_path / "control.db")
    assert aliases.all() == {"n": {"champion": "7"}}
    assert aliases.set("n", "champion", "8")


def test_a_connection_stays_open_until_the_database_is_let_go(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    SqlAliases(database).set("m", "champion", "1")
    assert (tmp_path / "control.db-wal").exists()
    del database
    gc.collect()
    assert not (tmp_path / "control.db-wal").exists()


def test_only_what_must_be_durable_waits_for_the_disc(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")

    def synchronous(**how):
        with database.writing(**how) as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar()

    assert [synchronous(), synchronous(durable=False), synchronous(durable=True)] == [2, 1, 2]


def test_who_finds_the_database_up_to_date_imports_no_alembic(tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    Database(url).upgrade()
    script = (
        "import sys; from ekiben.state.database import Database; from ekiben.state.sql_control import sql_control\n"
        "c = sql_control(Database(sys.argv[1])); c.aliases.set('m', 'champion', '1'); c.rollouts.find()\n"
        "print(c.generation(), 'alembic' in sys.modules, 'mako' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["(1,", "0,", "0)", "False", "False"]


def test_a_database_of_an_older_version_is_read_and_completed_by_the_first_write(tmp_path):
    file = tmp_path / "control.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE {GENERATIONS.name} (part VARCHAR(63) PRIMARY KEY, number BIGINT NOT NULL)")
        columns = "model VARCHAR(63), alias VARCHAR(63), version VARCHAR(63) NOT NULL, changed_at VARCHAR(40) NOT NULL"
        connection.execute(f"CREATE TABLE {ALIASES.name} ({columns}, PRIMARY KEY (model, alias))")
        connection.execute(f"INSERT INTO {GENERATIONS.name} VALUES ('aliases', 1)")
        connection.execute(f"INSERT INTO {ALIASES.name} VALUES ('m', 'champion', '1', '2026-01-01')")
    connection.close()
    database = Database(f"sqlite:///{file}")
    aliases, loads = SqlAliases(database), SqlLoads(database)
    assert (loads.all(), loads.generation(), aliases.get("m")) == ({}, 0, {"champion": "1"})
    assert SqlTruths(database).joined("m", 0, 100) == []
    assert database.revision() is None
    loads.set("m", loaded=False)
    assert (loads.all(), loads.generation(), aliases.get("m")) == ({"m": False}, 1, {"champion": "1"})
    assert (aliases.generation(), database.revision()) == (1, HEAD)


def test_a_failed_change_leaves_nothing(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    aliases = SqlAliases(database)
    aliases.set("m", "champion", "1")

    def fail():
        with database.writing() as connection:
            connection.execute(ALIASES.update().values(version="2"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert aliases.get("m") == {"champion": "1"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    aliases = aliases_at(tmp_path / "file" / "home" / "control.db")
    assert aliases.all() == {}
    with pytest.raises(StateError, match=r"folder .*file/home cannot be created.*EKIBEN_HOME"):
        aliases.set("m", "champion", "1")


def test_a_folder_that_may_not_be_written_is_named(open_folder, nobody):
    with pytest.raises(StateError, match=rf"cannot be written: .*make {open_folder} writable"):
        aliases_at(open_folder / "control.db").set("m", "champion", "1")


def test_a_database_in_a_folder_that_may_not_be_written_is_read(open_folder, request):
    file = open_folder / "control.db"
    aliases_at(file).set("m", "champion", "1")
    file.chmod(0o444)
    open_folder.chmod(0o555)
    request.getfixturevalue("nobody")
    aliases = aliases_at(file)
    assert (aliases.get("m"), aliases.generation()) == ({"champion": "1"}, 1)
    with pytest.raises(StateError, match="cannot be written"):
        aliases.set("m", "champion", "2")


def test_a_folder_that_may_not_be_entered_is_no_absent_database(open_folder, request):
    home = open_folder / "home"
    aliases_at(home / "control.db").set("m", "champion", "1")
    home.chmod(0o700)
    request.getfixturevalue("nobody")
    with pytest.raises(StateError, match="cannot be reached"):
        aliases_at(home / "control.db").all()


def test_unreadable_changes_beside_a_read_only_database_are_never_overlooked(open_folder, request):
    file = open_folder / "control.db"
    database = Database(f"sqlite:///{file}")
    SqlAliases(database).set("m", "champion", "1")
    database.close()
    (open_folder / "control.db-wal").write_bytes(b"changes")
    open_folder.chmod(0o555)
    request.getfixturevalue("nobody")
    with pytest.raises(StateError, match="cannot be read"):
        aliases_at(file).all()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "control.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match=r"control\.db cannot be read: file is not a database"):
        aliases_at(tmp_path / "control.db").all()
    with pytest.raises(StateError, match=r"control\.db cannot be written: file is not a database"):
        aliases_at(tmp_path / "control.db").set("m", "a", "1")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("control.db", "is no database URL"),
        ("mysql://me:secret@host/db", r"mysql://me:\*\*\*@host/db is of a kind Ekiben does not use"),
        ("sqlite://", "of a kind Ekiben does not use"),
        ("postgresql+psycopg2://host/db", r"of a kind Ekiben does not use.*give sqlite"),
    ],
)
def test_a_url_of_no_use_is_refused(url, message):
    with pytest.raises(StateError, match=message):
        Database(url)


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StateError, match=r"needs a driver that is not installed .*pip install 'psycopg\[binary\]'"):
        Database("postgresql://host/db")


@pytest.mark.parametrize("url", ["postgresql://me@host/db", "postgres://me@host/db", "postgresql+psycopg://me@host/db"])
def test_every_way_to_write_a_postgresql_url_is_the_same(url):
    assert (Database(url).name, Database(url).backend) == ("postgresql+psycopg://me@host/db", "postgresql")


def test_a_password_is_never_shown():
    database = Database("postgresql://me:secret@127.0.0.1:9/db")
    with pytest.raises(StateError) as refused:
        database.read(select(GENERATIONS))
    assert "secret" not in str(refused.value)
    assert "me:***@127.0.0.1:9/db cannot be read" in str(refused.value)
    for action in (database.upgrade, database.tables, database.revision):
        with pytest.raises(StateError, match="check EKIBEN_DATABASE_URL"):
            action()
    with pytest.raises(StateError, match="check EKIBEN_DATABASE_URL"), database.writing():
        pass


def test_processes_that_start_at_once_lose_no_change(tmp_path):
    script = (
        "import sys; from ekiben.state.database import Database; from ekiben.state.sql_aliases import SqlAliases\n"
        "sys.stdin.readline()\n"
        "a = SqlAliases(Database(sys.argv[1]))\n"
        "print(a.set('m', 'champion', sys.argv[2], replace=False), a.set('m' + sys.argv[2], 'champion', '1'))"
    )
    url = f"sqlite:///{tmp_path / 'home' / 'control.db'}"
    started = [
        subprocess.Popen([sys.executable, "-c", script, url, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in started]
    assert sorted(answers) == [["False", "True"]] * 5 + [["True", "True"]]
    aliases = SqlAliases(Database(url))
    assert len(aliases.all()) == 7
    assert aliases.generation() == 7


def test_a_password_in_the_query_is_not_shown_either():
    url = "postgresql:///control?host=db.example&user=ekiben&password=hush&sslpassword=hush"
    name = Database(url).name
    assert "hush" not in name
    assert "host=db.example" in name
    with pytest.raises(StateError, match="of a kind Ekiben does not use") as failure:
        Database("mysql://ann:hush@host/control?password=hush")
    assert "hush" not in str(failure.value)
