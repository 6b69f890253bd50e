from contextlib import contextmanager
from importlib.resources import files

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from ekiben.state import sql_truth
from ekiben.state.database import Database
from ekiben.state.sql_truth import SqlTruths
from ekiben.state.truth import Exposure, MemoryTruths, Truth

_ids, _rows, _times = st.sampled_from(["a", "b"]), st.integers(0, 1), st.floats(0, 10)
_exposures = st.builds(
    Exposure,
    model=st.sampled_from("mn"),
    request_id=_ids,
    row=_rows,
    version=st.sampled_from("12"),
    arm=st.sampled_from(["champion", "shadow"]),
    key=st.sampled_from(["u", "v"]),
    time=_times,
    prediction=st.sampled_from(["yes", 1.5, None]),
    score=st.sampled_from([0.25, None]),
)
_truths = st.builds(
    Truth,
    model=st.sampled_from("mn"),
    request_id=_ids,
    row=_rows,
    time=_times,
    actual=st.sampled_from(["yes", 1.5, True, None]),
    outcome=st.sampled_from([0.5, None]),
    comment=st.sampled_from(["good", None]),
)
_changes = st.lists(
    st.one_of(
        st.tuples(st.just("expose"), st.lists(_exposures, max_size=4)),
        st.tuples(st.just("report"), st.lists(_truths, max_size=4)),
        st.tuples(st.just("prune"), _times, _times),
    ),
    max_size=6,
)


def as_lists(columns):
    return {field: list(getattr(columns, field)) for field in columns.__struct_fields__}


def in_order(pairs):
    return sorted(pairs, key=lambda pair: (pair[0].time, pair[0].request_id, pair[0].row, pair[0].version))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_changes, since=_times, until=_times)
def test_the_database_and_its_twin_answer_alike(new_database, changes, since, until):
    database = new_database()
    real, twin = SqlTruths(database), MemoryTruths()
    for change, *what in changes:
        assert getattr(real, change)(*what) == getattr(twin, change)(*what)
        assert real.joined("m", since, until) == in_order(twin.joined("m", since, until))
        assert real.exposed("m", since, until) == twin.exposed("m", since, until)
        assert real.find("m", since, until) == twin.find("m", since, until)
        assert real.count("m", since, until) == twin.count("m", since, until)
        assert real.newest("m") == twin.newest("m")
        for ids in ([], ["a"], ["b", "a", "x"]):
            assert as_lists(real.of("m", ids)) == as_lists(twin.of("m", ids))
    database.close()


@pytest.mark.parametrize("n_asked", [1, 7, 40])
def test_truths_of_requests_are_found_however_many_are_asked_for(database, monkeypatch, n_asked):
    monkeypatch.setattr(sql_truth, "_IDS_AT_ONCE", 3)
    real, twin = SqlTruths(database), MemoryTruths()
    said = [Truth(model="m", request_id=f"r{n}", row=r, time=float(n), actual=n % 2 == 0) for n in range(40) for r in range(2)]
    said += [Truth(model="other", request_id="r0", row=0, time=1.0, outcome=1.0)]
    for truths in (real, twin):
        truths.report(said)
    found = real.of("m", {f"r{n}" for n in range(n_asked)} | {"unknown"})
    assert len(found) == 2 * n_asked
    assert as_lists(found) == as_lists(twin.of("m", {f"r{n}" for n in range(n_asked)}))


def test_where_there_is_no_database_there_is_no_truth(tmp_path):
    truths = SqlTruths(Database(f"sqlite:///{tmp_path / 'control.db'}"))
    assert (truths.find("m", 0, 9), len(truths.of("m", ["a"])), truths.count("m", 0, 9), truths.newest("m")) == ([], 0, 0, None)
    assert not (tmp_path / "control.db").exists()


def test_a_database_of_before_there_were_comments_is_read(tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(files("ekiben.state") / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO ekiben_truths VALUES ('m', 'a', 0, 1.0, '\"yes\"', NULL)")
    engine.dispose()
    kept = Truth(model="m", request_id="a", row=0, time=1.0, actual="yes")
    for read in (lambda t: t.find("m", 0, 9), lambda t: t.of("m", ["a"]).actual):
        assert read(SqlTruths(Database(url))) in ([kept], ["yes"])


def test_numbers_that_json_has_not_are_nothing(database):
    truths = SqlTruths(database)
    truths.expose([Exposure(model="m", request_id="a", row=0, version="1", arm="champion", key="u", time=1.0, prediction=float("nan"))])
    truths.report([Truth(model="m", request_id="a", row=0, time=1.0, actual="yes")])
    assert truths.joined("m", 0, 9)[0][0].prediction is None


def test_truths_survive_a_power_failure_and_exposures_need_not(database, monkeypatch):
    truths, modes = SqlTruths(database), []
    writing = database.writing

    @contextmanager
    def looking(**how):
        with writing(**how) as connection:
            modes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
            yield connection

    monkeypatch.setattr(database, "writing", looking)
    truths.expose([Exposure(model="m", request_id="a", row=0, version="1", arm="champion", key="u", time=1.0)])
    truths.report([Truth(model="m", request_id="a", row=0, time=1.0, actual="yes")])
    assert modes == [1, 2]
