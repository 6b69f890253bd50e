"""A model trained on the flights of January to April watches the rest of the year."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ekiben.model import InputSpec, ModelSpec
from ekiben.model.monitor_spec import DriftSpec, MonitorSpec
from ekiben.model.outputs import Outputs
from ekiben.model.profile import profile_of
from ekiben.model.signature import Batch
from ekiben.model.spec import CardSpec
from ekiben.monitoring.drift import drift_of
from training.datasets import WEATHER, load_flights

LABELS = ("on_time", "late")
NUMBERS = ("departure_minute", "arrival_minute", "distance", *WEATHER)


def spec(*ignore):
    inputs = [
        *(InputSpec(name=name, type="string") for name in ("carrier", "origin", "dest")),
        *(InputSpec(name=name, type="int") for name in ("day_of_week", "departure_minute", "arrival_minute")),
        *(InputSpec(name=name, type="float", nullable=True) for name in ("distance", *WEATHER)),
    ]
    return ModelSpec(
        name="flights",
        task="binary_classification",
        labels=LABELS,
        inputs=tuple(inputs),
        card=CardSpec(owner="tests"),
        monitor=MonitorSpec(drift=DriftSpec(ignore=ignore)),
    )


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """All flights, and what a small model of January to April says of them."""
    flights = load_flights(tmp_path_factory.mktemp("flights"))
    numbers = np.stack([flights.columns[name].astype(np.float64) for name in NUMBERS], axis=1)
    taught = flights.times < np.datetime64("2013-05-01")
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(numbers[taught], flights.target[taught])
    return flights, model.predict_proba(numbers)[:, 1].astype(np.float32)


@pytest.fixture(scope="module")
def profile(year):
    flights, score = year
    rows = np.flatnonzero(flights.times < np.datetime64("2013-05-01"))
    taught, score = flights.take(rows), score[rows]
    probabilities = np.stack([1 - score, score], axis=1)
    outputs = Outputs(taught.n, {"probabilities": probabilities}, LABELS, (score >= 0.5).astype(np.intp), 0.5)
    return profile_of(spec(), Batch(taught.n, dict(taught.columns)), outputs)


@pytest.fixture
def window(year):
    """``window(first, last)``: the log of those days, as a table."""

    def rows(first, last):
        flights, score = year
        days = flights.times.astype("datetime64[D]")
        taken = np.flatnonzero((days >= np.datetime64(first)) & (days <= np.datetime64(last)))
        part, score = flights.take(taken), score[taken]
        features = {
            name: pa.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None) for name, column in part.columns.items()
        }
        outputs = {"prediction": pa.array(np.array(LABELS, object)[(score >= 0.5).astype(int)]), "score": pa.array(score)}
        structs = [pa.StructArray.from_arrays(list(group.values()), list(group)) for group in (features, outputs)]
        return pa.table(structs, names=["features", "outputs"])

    return rows


def test_a_window_of_the_training_months_is_quiet(window, profile):
    months = window("2013-01-01", "2013-04-30")
    for n in (300, 1000, 5000):
        for offset in range(5):
            rows = months.take(np.linspace(offset, months.num_rows - 5, n).astype(np.int64) + offset)
            report = drift_of(rows, spec(), profile)
            assert report.outcome == "ok", report.summary


def test_the_warm_weather_is_found_in_the_first_week_of_july(window, profile):
    report = drift_of(window("2013-07-01", "2013-07-07"), spec(), profile)
    assert report.outcome == "bad"
    assert {c.name for c in report.drifted_columns("input")[:2]} == {"temp", "dewp"}
    temperature = next(c for c in report.columns if c.name == "temp")
    assert temperature.psi > 3
    assert temperature.wasserstein > 3
    assert temperature.out_of_range > 0.2


def test_a_day_is_enough(window, profile):
    found = {c.name for c in drift_of(window("2013-07-01", "2013-07-01"), spec(), profile).drifted_columns()}
    assert {"temp", "dewp"} <= found


def test_seasons_that_are_ignored_are_measured_and_are_no_alarm(window, profile):
    spring, july = window("2013-01-01", "2013-04-30"), window("2013-07-01", "2013-07-07")
    warm = july.select(["features"])["features"].combine_chunks()
    rows = spring.take(np.linspace(0, spring.num_rows - 1, july.num_rows).astype(np.int64))
    kept = rows["features"].combine_chunks()
    fields = {f.name: (warm if f.name in ("temp", "dewp") else kept).field(f.name) for f in kept.type}
    table = rows.set_column(0, "features", pa.StructArray.from_arrays(list(fields.values()), list(fields)))
    assert drift_of(table, spec(), profile).outcome == "bad"
    report = drift_of(table, spec("temp", "dewp"), profile)
    assert report.outcome == "ok"
    assert report.summary.endswith("ignored: temp, dewp")
    # A real week has other weather too: whoever wants to hear of the flights alone ignores all of it.
    assert drift_of(july, spec(*WEATHER), profile).outcome == "ok"


def test_september_drifts_in_its_inputs_and_hardly_in_its_scores(window, profile, year):
    flights, score = year
    report = drift_of(window("2013-09-01", "2013-09-30"), spec(), profile)
    assert {"temp", "dewp"} <= {c.name for c in report.drifted_columns("input")}
    assert report.drifted_columns("score", "class") == ()
    (scores,) = [c for c in report.columns if c.kind == "score"]
    assert 0.1 < scores.psi < 0.2
    # Nothing of this says that the model is right: it expects half again as many late flights as there are.
    rows = flights.times.astype("datetime64[M]") == np.datetime64("2013-09")
    assert score[rows].mean() > 1.5 * flights.target[rows].mean()
