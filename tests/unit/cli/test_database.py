import json
import sqlite3

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.state.database import Database
from ekiben.state.schema import HEAD, PARTS
from ekiben.state.sql_aliases import SqlAliases


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "control.db"


@pytest.fixture
def run(file):
    def run(*arguments):
        return CliRunner().invoke(main, ["database", *arguments], env={"EKIBEN_HOME": str(file.parent), "EKIBEN_DATABASE_URL": ""})

    return run


def execute(file, statement):
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()


def test_looking_creates_nothing(run, file):
    shown = run("status")
    assert shown.exit_code == 0
    assert "none: it is not created yet" in shown.stdout
    assert json.loads(run("status", "--json").stdout) == {
        "name": f"sqlite:///{file}",
        "backend": "sqlite",
        "revision": None,
        "newest_revision": HEAD,
        "rows": {},
    }
    assert not file.parent.exists()


def test_an_upgrade_creates_and_says_what_it_did(run, file):
    assert run("upgrade").stdout == f"sqlite:///{file} is now of revision {HEAD}\n"
    assert run("upgrade").stdout == f"sqlite:///{file} is up to date\n"
    assert json.loads(run("upgrade", "--json").stdout)["upgraded"] is False


def test_rows_are_counted(run, file):
    SqlAliases(Database(f"sqlite:///{file}")).set("m", "champion", "1")
    rows = json.loads(run("status", "--json").stdout)["rows"]
    assert (rows["ekiben_aliases"], rows["ekiben_generations"], rows["ekiben_windows"]) == (1, len(PARTS), 0)
    lines = [line.split() for line in run("status").stdout.splitlines()]
    assert ["ekiben_aliases", "1"] in lines
    assert ["revision", HEAD] in lines


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE ekiben_revision", "none: it is of before there were revisions"),
        ("UPDATE ekiben_revision SET version_num = '0001'", "0001; the first write brings it to the newest one"),
        ("UPDATE ekiben_revision SET version_num = '9999'", "9999; made by a newer Ekiben, and used as it is"),
    ],
)
def test_what_another_version_made_is_said(run, file, statement, said):
    run("upgrade")
    execute(file, statement)
    assert said in run("status").stdout


def test_a_database_that_cannot_be_read_is_an_error(run, file):
    file.parent.mkdir()
    file.write_bytes(b"no database at all" * 100)
    shown = run("status")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "file is not a database" in shown.stderr
