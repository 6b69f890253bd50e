import numpy as np
import pytest
from click.testing import CliRunner

from load_tests.demo.retraining import WINDOW_DAYS, main, stretched
from training.datasets import Dataset
from training.splits import by_days


def logged(n):
    times = np.datetime64("2026-03-01T12:00") + (np.arange(n) // 1000).astype("timedelta64[m]")
    return Dataset("inference log", {"x": np.arange(n)}, np.zeros(n, np.int64), times)


def test_seconds_become_days_again_and_rows_keep_their_order():
    data = stretched(logged(6000))
    days = data.times.astype("datetime64[D]")
    assert len(np.unique(days)) in (WINDOW_DAYS, WINDOW_DAYS + 1)
    assert (np.diff(data.times) >= np.timedelta64(0)).all()
    assert data.times[-1] == logged(6000).times[-1]
    split = by_days(data)
    assert split.train.columns["x"].max() < split.validation.columns["x"].min() < split.test.columns["x"].min()
    assert split.test.n == pytest.approx(900, rel=0.1)


def test_what_has_no_times_or_no_rows_stays():
    data = Dataset("digits", {}, np.zeros(3, np.int64))
    assert stretched(data) is data
    assert stretched(logged(0)).n == 0


def test_it_wants_the_rows():
    done = CliRunner().invoke(main, ["--json"])
    assert done.exit_code == 2
    assert "ekiben retrain" in done.output
