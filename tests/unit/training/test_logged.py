from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.monitoring.logged import DAY_S, Logged

from ekiben.errors import RetrainingError
from ekiben.model import load_spec
from ekiben.model.spec import dump_spec
from ekiben.monitoring.training_rows import write_rows
from ekiben.monitoring.training_window import window_of
from training.command import MODELS
from training.datasets import DataError, load_digits, load_flights
from training.digits import digit_job
from training.flight_delay import FOLDER, flight_job
from training.logged import load_logged
from training.splits import by_days


@pytest.fixture
def flights(tmp_path):
    """January as the log has it, in a file."""
    data = load_flights(tmp_path, last_month=1).thin(3_000)
    times = data.times.astype("datetime64[s]").astype(np.int64)
    labels = np.array(["on_time", "late"], object)[data.target].tolist()
    window = window_of(Logged(data.columns, labels, times), load_spec(FOLDER / "model.yaml"), since=0, until=2e9)
    file = tmp_path / "rows.parquet"
    write_rows(file, window.table, {"since": "January", "retrained_from": "flight_delay:1"})
    return data, file


def test_what_was_logged_is_what_was_asked(flights, steps, shown):
    data, file = flights
    found = load_logged(file, FOLDER, steps)
    assert found.fingerprint() == data.fingerprint()
    assert (found.name, found.window["retrained_from"]) == ("inference log", "flight_delay:1")
    assert "Read the logged rows of rows.parquet: 3,000 rows from January on" in shown.getvalue()


def test_the_script_splits_it_by_days_and_compares_the_export_on_every_row(flights, steps):
    data = load_logged(flights[1], FOLDER, steps)
    job = flight_job(data, framework="sklearn", seed=0)
    assert job.split.test.times.min() >= job.split.validation.times.max()
    assert job.split.test.n == by_days(data).test.n
    assert job.min_parity_rows == data.n == 3_000


def test_a_label_that_the_spec_has_not_is_named(flights, tmp_path, steps):
    table = pq.read_table(flights[1])
    pq.write_table(table.set_column(2, "label", pa.array(["late", "lost"] * 1_500)), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match="label 'lost'; the labels are on_time, late"):
        load_logged(tmp_path / "odd.parquet", FOLDER, steps)
    with pytest.raises(RetrainingError, match="has an input 'image'"):
        load_logged(flights[1], MODELS / "digits", steps)


def test_images_are_images_again(tmp_path, steps):
    data = load_digits(tmp_path)
    images = pa.FixedSizeListArray.from_arrays(pa.array(data.columns["image"].reshape(-1)), 64)
    rows = Logged({"image": images}, [str(t) for t in data.target], np.arange(data.n) * DAY_S / 100)
    window = window_of(rows, load_spec(MODELS / "digits" / "model.yaml"), since=0, until=2e9)
    write_rows(tmp_path / "rows.parquet", window.table, {})
    found = load_logged(tmp_path / "rows.parquet", MODELS / "digits", steps)
    np.testing.assert_array_equal(found.columns["image"], data.columns["image"])
    np.testing.assert_array_equal(found.target, data.target)
    assert digit_job(found, runtime="onnx", seed=0).min_parity_rows == 1_797


def test_a_regressor_has_numbers(tmp_path, steps, plane_artifact):
    folder = tmp_path / "models" / "plane"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(dump_spec(plane_artifact.spec))
    rows = Logged({name: np.arange(9, dtype=np.float32) for name in "xyz"}, np.arange(9) / 2, np.arange(9) * DAY_S)
    write_rows(tmp_path / "rows.parquet", window_of(rows, plane_artifact.spec, since=0, until=1e9).table, {})
    assert load_logged(tmp_path / "rows.parquet", folder, steps).target.tolist() == (np.arange(9) / 2).tolist()
