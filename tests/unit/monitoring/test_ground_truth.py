import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.monitoring.answered import MemoryLog, binary_outputs, classifier, logged
from unit.monitoring.log_files import NOON, reader, row, segment

from ekiben.monitoring.answers import answers_of
from ekiben.monitoring.ground_truth import AgeGroup, Coverage, coverage_of, joined, with_truth
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.segments import segments_of
from ekiben.state.truth import MemoryTruths, Truth

HOUR = 3600.0


def truth(request_id, row=0, **said):
    return Truth(model="m", request_id=request_id, row=row, **{"time": 50.0, **said})


def join(table, *truths, **options):
    kept = MemoryTruths()
    kept.report(truths)
    return joined(MemoryLog(table), kept, "m", **{"since": 0.0, "until": 1e9, "now": 100.0, **options})


def test_rows_stand_beside_their_truth_and_those_without_stay():
    table = logged(binary_outputs([0.1, 0.9, 0.8]), ids=["a", "b", "b"], rows=[0, 0, 1])
    found = join(table, truth("b", 1, actual="yes"), truth("a", outcome=2.5), truth("x", actual="no"), truth("b", 7, actual="no"))
    assert found.table.column_names == [*table.column_names, "actual", "outcome", "truth_time"]
    assert found.table.select(table.column_names).equals(table)
    assert found.table["actual"].to_pylist() == [None, None, "yes"]
    assert found.table["outcome"].to_pylist() == [2.5, None, None]
    assert [None if t is None else t.timestamp() for t in found.table["truth_time"].to_pylist()] == [50.0, None, 50.0]


def test_a_truth_of_any_time_waits_for_its_prediction():
    table = logged(binary_outputs([0.1, 0.9]), times=1000.0)
    for time in (-1e6, 0.0, 1e6):
        assert join(table, truth("r1", actual="yes", time=time)).table["actual"].to_pylist() == [None, "yes"]


def test_a_request_id_that_is_used_twice_has_its_truth_at_each_prediction_once():
    table = logged(binary_outputs([0.1, 0.9, 0.9]), ids=["a", "a", "b"])
    found = join(table, truth("a", actual="no"), truth("a", actual="yes"))
    assert found.table["actual"].to_pylist() == ["yes", "yes", None]
    assert found.table.num_rows == 3


@pytest.mark.parametrize(
    ("said", "kept", "kind"),
    [
        ([1, 2.5, None], [1.0, 2.5, None], pa.float64()),
        (["yes", 1.0, None], ["yes", "1.0", None], pa.string()),
        ([True, False, None], ["true", "false", None], pa.string()),
        ([None, None, None], [None, None, None], pa.string()),
    ],
)
def test_an_actual_is_a_number_where_all_are_and_else_text(said, kept, kind):
    table = logged(binary_outputs([0.1] * 3))
    found = join(table, *(truth(f"r{n}", actual=actual, outcome=1.0) for n, actual in enumerate(said))).table["actual"]
    assert (found.to_pylist(), found.type) == (kept, kind)


def test_nothing_known_and_nothing_answered():
    assert join(logged(binary_outputs([0.1]))).table["actual"].to_pylist() == [None]
    empty = join(logged(binary_outputs([])), truth("r0", actual="yes"))
    assert (empty.table.num_rows, empty.coverage) == (0, Coverage(0, 0, 0, 0))


def test_what_is_read_of_the_log():
    log = MemoryLog(logged(binary_outputs([0.1, 0.9, 0.2]), version=["1", "1", "2"], arm=["champion", "shadow", "champion"]))
    found = joined(log, MemoryTruths(), "m", since=0, until=9, version="1", columns=["time", "version"], now=0.0)
    assert log.asked == [("m", ["request_id", "row", "time", "version"])]
    assert found.table["request_id"].to_pylist() == ["r0"]
    assert joined(log, MemoryTruths(), "m", since=0, until=9, shadows=True).table.num_rows == 3


def test_rows_are_due_once_their_truth_should_be_there():
    times = np.array([-100.0, -50.0, -47.0, -0.5, 0.2]) * HOUR - np.arange(5)
    found = join(
        logged(binary_outputs([0.1] * 5), times=times),
        *(truth(f"r{n}", actual="no") for n in (0, 3, 4)),
        since=-1e9,
        now=0.0,
    )
    assert found.coverage == Coverage(
        rows=5,
        labelled=3,
        due=2,
        due_labelled=1,
        by_age=(AgeGroup(0.0, 1.0, 2, 2, 1.0), AgeGroup(24.0, 48.0, 1, 0, 0.0), AgeGroup(48.0, 168.0, 2, 1, 0.5)),
    )
    sooner = join(logged(binary_outputs([0.1] * 5), times=times), since=-1e9, now=0.0, truth_within_s=HOUR)
    assert (sooner.coverage.due, sooner.coverage.labelled) == (3, 0)


def test_where_only_outcomes_are_reported_they_are_what_is_known():
    table = logged(binary_outputs([0.1] * 3))
    assert join(table, truth("r0", outcome=1.0), truth("r1", outcome=0.0)).coverage.labelled == 2
    assert join(table, truth("r0", outcome=1.0), truth("r1", outcome=0.0), truth("r2", actual="no")).coverage.labelled == 1


def test_the_oldest_rows_have_no_upper_end():
    found = coverage_of(pa.array([0], pa.timestamp("us", tz="UTC")), np.array([True]), 1000 * HOUR, HOUR)
    assert found.by_age == (AgeGroup(720.0, None, 1, 1, 1.0),)


_rows = st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.sampled_from([0, 1, 2, 2**31 - 1])), max_size=12)


@given(answered=_rows, said=_rows)
def test_every_row_has_the_truth_of_its_key(answered, said):
    truths = MemoryTruths()
    truths.report([truth(request_id, row, outcome=float(n)) for n, (request_id, row) in enumerate(said)])
    expected = {key: float(n) for n, key in enumerate(said)}
    table = logged(binary_outputs([0.5] * len(answered)), ids=[key[0] for key in answered], rows=[key[1] for key in answered] or 0)
    found = with_truth(table, truths.of("m", {key[0] for key in answered}))
    assert found["outcome"].to_pylist() == [expected.get(key) for key in answered]


def test_the_log_itself(tmp_path):
    folder = LogFolder(tmp_path / "inference_log")
    segment(folder, "w-1", [row("b", NOON + 1, who="ann"), row("a", NOON)])
    kept = MemoryTruths()
    kept.report([truth("b", actual="no"), truth("a", actual="yes", time=NOON - 9)])
    found = joined(reader(folder), kept, "m", since=NOON, until=NOON + 9, columns=["version", "arm", "outputs", "features.who"], now=NOON)
    assert found.table["actual"].to_pylist() == ["yes", "no"]
    answers, known = answers_of(found.table, classifier("no", "yes"))
    assert (answers.predicted.tolist(), answers.actual.tolist(), known.tolist()) == ([1, 1], [1, 0], [True, True])
    assert [s.value for s in segments_of(found.table, "who")] == ["ann", "null"]
