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
from ekiben.state.schema import ALIASES, GENERATIONS, LOADS
from ekiben.state.sql_aliases import SqlAliases
from ekiben.state.sql_loads import SqlLoads


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
        assert {n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")} == {
            ALIASES.name,
            GENERATIONS.name,
            LOADS.name,
        }
    connection.close()


def test_a_change_is_seen_by_who_looked_before_there_was_a_database(tmp_path):
    reader, writer = aliases_at(tmp_path / "control.db"), aliases_at(tmp_path / "control.db")
    assert reader.generation() == 0
    writer.set("m", "champion", "1")
    assert reader.generation() == 1
    assert reader.get("m") == {"champion": "1"}


def test_a_database_that_was_deleted_is_made_again(tmp_path):
    aliases = aliases_at(tmp_path / "control.db")
    aliases.set("m", "champion", "1")
    for file in tmp_path.iterdir():
        file.unlink()
    assert (aliases.all(), aliases.generation()) == ({}, 0)
    assert aliases.set("m", "champion", "2")
    assert aliases.get("m") == {"champion": "2"}


def test_a_database_of_an_older_version_is_read_and_completed_by_the_first_write(tmp_path):
    file = tmp_path / "control.db"
    aliases_at(file).set("m", "champion", "1")
    with sqlite3.connect(file) as connection:
        connection.execute(f"DROP TABLE {LOADS.name}")
        connection.execute(f"DELETE FROM {GENERATIONS.name} WHERE part = 'loads'")
    connection.close()
    database = Database(f"sqlite:///{file}")
    aliases, loads = SqlAliases(database), SqlLoads(database)
    assert (loads.all(), loads.generation(), aliases.get("m")) == ({}, 0, {"champion": "1"})
    loads.set("m", loaded=False)
    assert (loads.all(), loads.generation(), aliases.get("m")) == ({"m": False}, 1, {"champion": "1"})


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
        ("postgresql+none://host/db", r"needs a driver that is not installed"),
    ],
)
def test_a_url_of_no_use_is_refused(url, message):
    with pytest.raises(StateError, match=message):
        Database(url)


def test_a_password_is_never_shown():
    database = Database("postgresql://me:secret@127.0.0.1:9/db")
    with pytest.raises(StateError) as refused:
        database.read(select(GENERATIONS))
    assert "secret" not in str(refused.value)
    assert "me:***@127.0.0.1:9/db cannot be read" in str(refused.value)
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
