"""Revisions of the control database, on SQLite and PostgreSQL."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from ekiben.state.database import Database
from ekiben.state.events import Event
from ekiben.state.schema import ALIASES, GENERATIONS, HEAD, LOADS, PARTS, REVISION_TABLE, SCHEMA
from ekiben.state.sql_control import sql_control

pytestmark = pytest.mark.processes


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path / 'control.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture
def database(url):
    opened = Database(url)
    yield opened
    opened.close()


def run(url, *statements, tables=()):
    """What was there before: some tables, and what statements did."""
    place = Database(url)._place
    with place.writer.begin() as connection:
        SCHEMA.create_all(connection, tables=tables)
        for statement in statements:
            connection.execute(text(statement))
    place.close()


def test_the_migrations_make_what_the_schema_says(database):
    with database.writing() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": REVISION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, SCHEMA) == []
        assert dict(connection.execute(GENERATIONS.select()).all()) == dict.fromkeys(PARTS, 0)
    assert database.revision() == HEAD


def test_an_upgrade_says_whether_there_was_anything_to_do(database, url):
    assert (database.revision(), database.tables()) == (None, set())
    assert database.upgrade()
    assert not database.upgrade()
    another = Database(url)
    assert not another.upgrade()
    another.close()


def test_a_database_of_before_there_were_revisions_keeps_what_it_has(url, database):
    run(
        url,
        "INSERT INTO ekiben_generations VALUES ('aliases', 7), ('loads', 3)",
        "INSERT INTO ekiben_aliases VALUES ('m', 'champion', '1', '2026-01-01')",
        "INSERT INTO ekiben_loads VALUES ('m', true, '2026-01-01')",
        tables=[GENERATIONS, ALIASES, LOADS],
    )
    control = sql_control(database)
    assert (control.aliases.get("m"), control.loads.all(), control.generation()) == ({"champion": "1"}, {"m": True}, (7, 3, 0))
    assert (control.rollouts.find(), control.events.find(), control.truths.joined("m", 0, 9)) == ([], [], [])
    assert database.revision() is None
    control.events.append([Event(time=1.0, who="me", model="m", kind="step", message="")])
    assert (control.aliases.get("m"), control.loads.all(), control.generation()) == ({"champion": "1"}, {"m": True}, (7, 3, 0))
    assert database.revision() == HEAD


def test_an_even_older_one_without_loads_is_completed(url, database):
    run(url, "INSERT INTO ekiben_generations VALUES ('aliases', 7)", tables=[GENERATIONS, ALIASES])
    control = sql_control(database)
    assert control.generation() == (7, 0, 0)
    control.loads.set("m", loaded=True)
    assert control.generation() == (7, 1, 0)


def test_one_of_a_newer_revision_is_used_as_it_is(url, database):
    database.upgrade()
    run(url, f"UPDATE {REVISION_TABLE} SET version_num = '9999'", "ALTER TABLE ekiben_aliases ADD COLUMN note VARCHAR(9)")
    another = Database(url)
    assert not another.upgrade()
    sql_control(another).aliases.set("m", "champion", "1")
    assert sql_control(another).aliases.get("m") == {"champion": "1"}
    assert another.revision() == "9999"
    another.close()


def test_other_applications_of_the_same_database_keep_their_revisions(url, database):
    run(url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)", "INSERT INTO alembic_version VALUES ('of another')")
    assert database.upgrade()
    with database.writing() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "of another"


def test_many_that_migrate_at_once_do_it_once(url):
    users = [Database(url) for _ in range(6)]
    barrier, answers = threading.Barrier(6), []

    def upgrade(database):
        barrier.wait()
        try:
            database.upgrade()
            answers.append(database.revision())
        except Exception as e:  # noqa: BLE001
            answers.append(e)

    threads = [threading.Thread(target=upgrade, args=(database,)) for database in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [HEAD] * 6
    for database in users:
        database.close()


def test_a_migration_that_fails_leaves_nothing(url, database):
    run(url, "CREATE TABLE ekiben_windows (other INTEGER)")
    with pytest.raises(Exception, match="ekiben_windows"):
        database.upgrade()
    assert database.tables() == {"ekiben_windows"}
    run(url, "DROP TABLE ekiben_windows")
    assert database.upgrade()
