"""A control database that is away, and that comes back."""

import logging
import subprocess
import sys
import time

import pytest

from ekiben.errors import StateError
from ekiben.state.database import Database
from ekiben.state.sql_control import sql_control
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

pytestmark = pytest.mark.processes

LONGEST_S = 10  # a statement's limit, a connection's, and a slow machine's


def refused(action):
    began = time.monotonic()
    with pytest.raises(StateError) as failure:
        action()
    return str(failure.value), time.monotonic() - began


def actions(control):
    return [
        control.generation,
        control.rollouts.find,
        lambda: control.windows.sum("m", 0, 1000),
        lambda: control.windows.add("w", [(WindowKey("m", "1", "champion", 1), Window(ok=1))]),
        lambda: control.workers.say(WorkerState(id="w")),
        lambda: control.leases.acquire("controller", "w", 60),
        lambda: control.aliases.set("m", "champion", "1"),
    ]


def test_a_server_that_is_stopped_is_an_error_at_once_and_is_found_again(postgresql_server):
    control = sql_control(Database(postgresql_server.new_database()))
    control.aliases.set("m", "champion", "1")
    with postgresql_server.stopped():
        for action in actions(control):
            message, took_s = refused(action)
            assert "check EKIBEN_DATABASE_URL" in message
            assert took_s < LONGEST_S
    for action in actions(control):
        action()
    assert control.aliases.get("m") == {"champion": "1"}
    control.database.close()


def test_a_server_that_answers_nothing_holds_nobody_up(postgresql_server):
    control = sql_control(Database(postgresql_server.new_database()))
    control.generation()
    with postgresql_server.frozen():
        # The first meets the open connection, the second opens a new one.
        for action in (control.generation, lambda: control.aliases.set("m", "champion", "1")):
            _, took_s = refused(action)
            assert took_s < LONGEST_S
    control.aliases.set("m", "champion", "2")
    assert control.aliases.get("m") == {"champion": "2"}
    control.database.close()


def test_a_statement_that_waits_for_a_lock_too_long_is_given_up(postgresql):
    control, other = sql_control(Database(postgresql)), sql_control(Database(postgresql))
    control.aliases.set("m", "champion", "1")
    with other.database.writing() as connection:
        connection.exec_driver_sql("LOCK TABLE ekiben_generations")
        message, took_s = refused(lambda: control.aliases.set("m", "champion", "2"))
        assert "statement timeout" in message
        assert took_s < LONGEST_S
    assert control.aliases.set("m", "champion", "2")
    for database in (control.database, other.database):
        database.close()


def test_what_may_take_longer_has_the_time_it_needs(postgresql):
    database = Database(postgresql)
    with pytest.raises(StateError, match="statement timeout"), database.writing(limit_s=0.2) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(1)")
    with database.writing(limit_s=30) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(4.5)")
    with database.writing() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "3s"
    database.close()


def test_what_a_url_says_of_the_connection_counts(postgresql):
    database = Database(f"{postgresql}?options=-c%20statement_timeout%3D1234%20-c%20application_name%3Dekiben&connect_timeout=7")
    with database.writing() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1234ms"
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "ekiben"
    database.close()


def test_sqlite_moved_away_is_gone_and_found_again_when_it_is_back(tmp_path):
    file = tmp_path / "control.db"
    control, reader = (sql_control(Database(f"sqlite:///{file}")) for _ in range(2))
    control.aliases.set("m", "champion", "1")
    assert reader.generation() == (1, 0, 0)
    file.rename(tmp_path / "elsewhere.db")
    for user in (control, reader):
        for action in actions(user):
            assert "control.db is gone; bring it back" in refused(action)[0]
    assert not file.exists()
    fresh = sql_control(Database(f"sqlite:///{file}"))
    assert (fresh.generation(), fresh.aliases.all()) == ((0, 0, 0), {})
    (tmp_path / "elsewhere.db").rename(file)
    for user in (control, reader):
        assert user.aliases.get("m") == {"champion": "1"}
        for action in actions(user):
            action()
    assert fresh.aliases.get("m") == {"champion": "1"}
    for user in (control, reader, fresh):
        user.database.close()


def test_another_sqlite_file_in_the_place_of_the_former_is_the_database_from_then_on(tmp_path):
    file = tmp_path / "control.db"
    other = sql_control(Database(f"sqlite:///{tmp_path / 'other.db'}"))
    other.aliases.set("n", "champion", "7")
    other.database.close()
    control = sql_control(Database(f"sqlite:///{file}"))
    control.aliases.set("m", "champion", "1")
    control.database.close()
    (tmp_path / "other.db").replace(file)
    assert control.aliases.all() == {"n": {"champion": "7"}}
    control.aliases.set("n", "champion", "8")
    assert control.aliases.all() == {"n": {"champion": "8"}}
    control.database.close()


def test_processes_that_race_for_a_rollout_and_a_lease_agree_on_one(tmp_path, postgresql):
    script = (
        "import sys; from ekiben.errors import RolloutChanged; from ekiben.model.rollout_spec import PlanSpec\n"
        "from ekiben.state.database import Database; from ekiben.state.sql_control import sql_control\n"
        "from ekiben.state.rollouts import Change, Rollout\n"
        "c = sql_control(Database(sys.argv[1])); me = sys.argv[2]; sys.stdin.readline()\n"
        "lease = c.leases.acquire('controller', me, 60)\n"
        "r = Rollout(id='m-' + me, model='m', champion='1', plan=PlanSpec(steps=()), created=1.0, created_by=me)\n"
        "try: c.rollouts.commit(Change(model='m', rollout=r, aliases={'challenger': me})); print(lease, True)\n"
        "except RolloutChanged: print(lease, False)\n"
    )
    for url in (f"sqlite:///{tmp_path / 'home' / 'control.db'}", postgresql):
        started = [
            subprocess.Popen([sys.executable, "-c", script, url, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for n in range(4)
        ]
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate()[0].split() for process in started]
        control = sql_control(Database(url))
        assert sorted(a[0] for a in answers) == sorted(a[1] for a in answers) == ["False"] * 3 + ["True"]
        [rollout] = control.rollouts.find()
        assert [n for n, a in enumerate(answers) if a[1] == "True"] == [int(rollout.created_by)]
        assert control.aliases.get("m") == {"challenger": rollout.created_by}
        control.database.close()


def test_logging_is_left_alone_by_a_migration(postgresql):
    before = logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("ekiben.x").disabled
    database = Database(postgresql)
    assert database.upgrade()
    assert (logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("ekiben.x").disabled) == before
    database.close()
