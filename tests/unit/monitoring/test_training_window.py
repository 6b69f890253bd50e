from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.logged import DAY_S, Logged

from ekiben.errors import RetrainingError
from ekiben.model import InputSpec
from ekiben.model.monitor_spec import LogSpec, MonitorSpec
from ekiben.monitoring.training_rows import rows_of
from ekiben.monitoring.training_window import window_of

N = 100


@pytest.fixture
def spec(tiny_spec):
    return msgspec.structs.replace(tiny_spec, monitor=MonitorSpec(min_rows=10))


def logged(actual=None, *, times=None, ids=None, **changed):
    values = np.random.default_rng(5).uniform(-3, 3, (N, 4)).astype(np.float32)
    columns = {name: values[:, i] for i, name in enumerate("abcd")} | changed
    said = ["yes", "no"] * (N // 2) if actual is None else actual
    return Logged(columns, said, np.arange(N) * DAY_S if times is None else times, ids=ids)


def window(rows, spec, since=0.0, until=N * DAY_S):
    return window_of(rows, spec, since=since, until=until)


def test_rows_without_truth_teach_nothing_and_are_counted(spec):
    found = window(logged(["yes", None, "no", None, "maybe"] * 20), spec)
    assert (found.answered, found.labelled, found.n) == (100, 40, 40)
    assert found.labelled_share == 0.4
    assert rows_of(found.table, spec).target.tolist() == ["yes", "no"] * 20


def test_what_was_true_may_be_said_as_a_number(spec):
    assert rows_of(window(logged([1.0, 0.0] * 50), spec).table, spec).target.tolist() == ["yes", "no"] * 50


def test_only_the_time_that_is_asked_for(spec):
    rows = logged()
    found = window(rows, spec, since=10 * DAY_S, until=40 * DAY_S)
    assert found.n == 30
    assert rows.asked == [("tiny", 10 * DAY_S, 40 * DAY_S)]


def test_rows_come_in_the_order_of_time_whatever_order_they_were_in(spec):
    order = np.random.default_rng(0).permutation(N)
    plain, mixed = window(logged(), spec), logged()
    mixed.table = mixed.table.take(pa.array(order))
    assert window(mixed, spec).table.equals(plain.table)


def test_a_request_that_was_repeated_teaches_once(spec):
    assert window(logged(ids=[f"r{i // 2}" for i in range(N)]), spec).answered == N // 2


def test_the_rows_of_one_request_are_rows_of_their_own(spec):
    rows = logged(ids=["r"] * N)
    rows.table = rows.table.set_column(1, "row", pa.array(np.arange(N, dtype=np.int32)))
    assert window(rows, spec).n == N


def test_rows_that_break_the_signature_are_left_out(spec):
    d = np.full(N, 1.0, np.float32)
    d[7] = 11.0
    a = pa.array([None] + [1.0] * (N - 1), pa.float32())
    found = window(logged(a=a, d=d), spec)
    assert (found.answered, found.labelled, found.n) == (N, N, N - 2)
    assert rows_of(found.table, spec).columns["d"].max() == 1.0


def test_a_missing_value_of_a_nullable_input_is_one(spec):
    c = pa.array([None, 2.0] * (N // 2), pa.float32())
    column = rows_of(window(logged(c=c), spec).table, spec).columns["c"]
    assert np.isnan(column).tolist() == [True, False] * (N // 2)


def test_the_newest_fifth_is_held_back(spec):
    learnt, held = window(logged(), spec).split()
    assert (learnt.num_rows, held.num_rows) == (80, 20)
    assert learnt["time"].to_numpy().max() < held["time"].to_numpy().min()


def test_rows_of_one_moment_are_not_parted(spec):
    learnt, held = window(logged(times=np.arange(N) // 30 * DAY_S), spec).split()
    assert (learnt.num_rows, held.num_rows) == (60, 40)


def test_too_few_rows_are_refused_with_what_would_help(spec):
    window(logged(["yes", "no"] * 25 + [None] * 50), spec).check_enough()
    with pytest.raises(RetrainingError, match=r"49 rows with ground truth .*\(100 were answered\), and 50 are needed.*--window"):
        window(logged(["yes"] * 49 + [None] * 51), spec).check_enough()


def test_nothing_answered(spec):
    with pytest.raises(RetrainingError, match="answered nothing"):
        window(logged(), spec, since=1e9, until=2e9)


@pytest.mark.parametrize(("log", "why"), [(LogSpec(redact=("b",)), "log.redact names it"), (LogSpec(hash=("b",)), "log.hash names it")])
def test_an_input_that_is_not_kept_cannot_be_learnt_from(spec, log, why):
    with pytest.raises(RetrainingError, match=f"needs the input 'b'.*{why}"):
        window(logged(), msgspec.structs.replace(spec, log=log))


def test_an_input_that_no_row_has(spec):
    more = msgspec.structs.replace(spec, inputs=(*spec.inputs, InputSpec(name="e", type="float")))
    with pytest.raises(RetrainingError, match=r"needs the input 'e'.*no row of the window has it"):
        window(logged(), more)
    image = InputSpec(name="image", type="tensor", dtype="float32", shape=(2,))
    with pytest.raises(RetrainingError, match=r"'image'.*larger than log\.value_bytes"):
        window(logged(), msgspec.structs.replace(spec, inputs=(image,)))


def test_a_log_without_any_inputs(spec):
    rows = logged()
    rows.table = rows.table.drop_columns(["features"])
    with pytest.raises(RetrainingError, match="needs the input 'a'"):
        window(rows, spec)


def test_a_tensor_model_is_trained_by_hand(grid_artifact):
    with pytest.raises(RetrainingError, match="grid is a tensor model"):
        window(logged(), grid_artifact.spec)


def test_a_regressor_learns_numbers(plane_artifact):
    columns = {name: np.arange(N, dtype=np.float32) for name in "xyz"}
    rows = Logged(columns, [1.5, None, float("inf"), 3.0] * 25, np.arange(N) * DAY_S)
    found = window(rows, plane_artifact.spec)
    assert found.labelled == 50
    assert rows_of(found.table, plane_artifact.spec).target.tolist() == [1.5, 3.0] * 25
    said = Logged(columns, ["2.5", "many"] * 50, np.arange(N) * DAY_S)
    assert rows_of(window(said, plane_artifact.spec).table, plane_artifact.spec).target.tolist() == [2.5] * 50


def test_no_truth_at_all(spec):
    rows = logged(pa.nulls(N, pa.float64()))
    found = window(rows, spec)
    assert (found.n, found.labelled_share) == (0, 0.0)


def test_values_of_a_type_that_the_input_has_not(spec):
    texts = pa.array(["x"] * N)
    with pytest.raises(RetrainingError, match="input 'a' of the rows is string, which is no float"):
        window(logged(a=texts), spec)


def test_a_shape_that_the_input_has_not(spec):
    image = InputSpec(name="a", type="tensor", dtype="float32", shape=(3,))
    pairs = pa.array([[1.0, 2.0]] * N, pa.list_(pa.float32(), 2))
    with pytest.raises(RetrainingError, match="input 'a'"):
        window(logged(a=pairs), msgspec.structs.replace(spec, inputs=(image,)))
