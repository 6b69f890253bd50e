from contextlib import contextmanager

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
)
_changes = st.lists(
    st.one_of(
        st.tuples(st.just("expose"), st.lists(_exposures, max_size=4)),
        st.tuples(st.just("report"), st.lists(_truths, max_size=4)),
        st.tuples(st.just("prune"), _times),
    ),
    max_size=6,
)


def in_order(pairs):
    return sorted(pairs, key=lambda pair: (pair[0].time, pair[0].request_id, pair[0].row, pair[0].version))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_changes, since=_times, until=_times)
def test_the_database_and_its_twin_answer_alike(new_database, changes, since, until):
    database = new_database()
    real, twin = SqlTruths(database), MemoryTruths()
    for change, what in changes:
        assert getattr(real, change)(what) == getattr(twin, change)(what)
        assert real.joined("m", since, until) == in_order(twin.joined("m", since, until))
        assert real.exposed("m", since, until) == twin.exposed("m", since, until)
    database.close()


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
