from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.monitoring.logged import DAY_S, Logged

from ekiben.errors import RetrainingError
from ekiben.model import InputSpec, Signature
from ekiben.monitoring.training_rows import read_rows, rows_of, write_rows
from ekiben.monitoring.training_window import window_of

INPUTS = (
    InputSpec(name="time", type="string", nullable=True),
    InputSpec(name="label", type="string", categories=("u", "v")),
    InputSpec(name="whole", type="int"),
    InputSpec(name="some", type="int", nullable=True),
    InputSpec(name="flag", type="bool"),
    InputSpec(name="maybe", type="bool", nullable=True),
    InputSpec(name="real", type="float", dtype="float64"),
    InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 3)),
)
N = 6


@pytest.fixture
def spec(tiny_spec):
    return msgspec.structs.replace(tiny_spec, inputs=INPUTS)


@pytest.fixture
def table(spec):
    columns = {
        "time": pa.array(["x", None, "", "y", "z", "ä"]),
        "label": pa.array(["u", "v"] * 3),
        "whole": pa.array([2**53 + 1, 2, 3, 4, 5, 6], pa.int64()),
        "some": pa.array([1, None, 3, None, 5, 6], pa.int64()),
        "flag": pa.array([True, False] * 3),
        "maybe": pa.array([True, None, False] * 2),
        "real": pa.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], pa.float64()),
        "image": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(N * 6, dtype=np.float32)), 6),
    }
    return window_of(Logged(columns, ["yes", "no"] * 3, np.arange(N) * DAY_S), spec, since=0, until=N * DAY_S).table


def test_every_type_arrives_as_the_signature_has_it(spec, table, tmp_path):
    file = tmp_path / "rows.parquet"
    write_rows(file, table, {"since": "then"})
    rows = read_rows(file, spec)
    assert rows.lineage == {"since": "then"}
    assert {i.name: np.dtype(i.array_dtype) for i in INPUTS} == {name: c.dtype for name, c in rows.columns.items()}
    assert Signature(INPUTS).check(Signature(INPUTS).from_columns(rows.columns)) == []
    assert rows.columns["time"].tolist() == ["x", "", "", "y", "z", "ä"]
    assert rows.columns["whole"].tolist()[0] == 2**53 + 1
    np.testing.assert_array_equal(rows.columns["some"], [1, np.nan, 3, np.nan, 5, 6])
    np.testing.assert_array_equal(rows.columns["maybe"], [1, np.nan, 0] * 2)
    np.testing.assert_array_equal(rows.columns["image"], np.arange(36, dtype=np.float32).reshape(6, 2, 3))
    assert rows.target.tolist() == ["yes", "no"] * 3
    assert rows.times.tolist() == (np.arange(N) * np.timedelta64(1, "D") + np.datetime64("1970-01-01", "us")).tolist()


def test_a_part_of_the_rows_is_that_part(spec, table, tmp_path):
    file = tmp_path / "rows.parquet"
    write_rows(file, table.slice(2, 3), {})
    rows = read_rows(file, spec)
    assert rows.n == 3
    np.testing.assert_array_equal(rows.columns["image"], np.arange(12, 30, dtype=np.float32).reshape(3, 2, 3))
    assert rows.fingerprint() == rows_of(table.slice(2, 3), spec).fingerprint()


def test_any_difference_changes_the_fingerprint(spec, table):
    before = rows_of(table, spec).fingerprint()
    assert rows_of(table, spec).fingerprint() == before
    assert rows_of(table.slice(1), spec).fingerprint() != before
    assert rows_of(table.set_column(2, "label", pa.array(["no", "yes"] * 3)), spec).fingerprint() != before


def test_files_that_are_none_say_so(spec, table, tmp_path):
    file = tmp_path / "rows.parquet"
    with pytest.raises(RetrainingError, match="cannot be read"):
        read_rows(file, spec)
    file.write_bytes(b"PAR2")
    with pytest.raises(RetrainingError, match="cannot be read"):
        read_rows(file, spec)
    pq.write_table(pa.table({"time": [1]}), file)
    with pytest.raises(RetrainingError, match="has the columns time; it must have time, features and label"):
        read_rows(file, spec)


def test_an_input_that_the_file_lacks_is_named(spec, table, tmp_path):
    file = tmp_path / "rows.parquet"
    write_rows(file, table, {})
    with pytest.raises(RetrainingError, match="has an input 'new', which the rows have not; they have time, label"):
        read_rows(file, msgspec.structs.replace(spec, inputs=(InputSpec(name="new", type="int"),)))
