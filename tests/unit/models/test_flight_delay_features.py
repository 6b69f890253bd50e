from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ekiben.model import Signature, load_spec
from ekiben.model.features import load_transform
from training.command import MODELS

FOLDER = MODELS / "flight_delay"
ROW = {
    "carrier": "UA", "origin": "JFK", "dest": "IAH", "day_of_week": 3, "departure_minute": 1380, "arrival_minute": 30,
    "distance": 1400, "temp": 39.5, "dewp": 20.5, "humid": 50.5, "wind_dir": 90, "wind_speed": 10, "wind_gust": None, "precip": 0.5,
    "pressure": None, "visib": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def code():
    spec = importlib.util.spec_from_file_location("flight_delay_features", FOLDER / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def signature() -> Signature:
    return Signature(load_spec(FOLDER / "model.yaml").inputs)


@pytest.fixture
def features(code, signature):
    """The features of rows, by name."""

    def of(*rows):
        batch = signature.batch(signature.parse_rows(list(rows)))
        assert signature.check(batch) == []
        made = load_transform(FOLDER / "features.py")(batch.columns)["features"]
        return dict(zip(code.FEATURES, made.T, strict=True))

    return of


def test_one_float32_matrix_with_a_column_a_feature(code, signature):
    batch = signature.batch(signature.parse_rows([ROW, ROW, ROW]))
    made = code.transform(batch.columns)
    assert list(made) == ["features"]
    assert made["features"].shape == (3, len(code.FEATURES))
    assert made["features"].dtype == np.float32


def test_the_lists_of_categories_are_those_of_the_spec(code, signature):
    listed = {i.name: i.categories for i in signature.inputs if i.type == "string"}
    assert listed == {"carrier": code.CARRIERS, "origin": code.ORIGINS, "dest": code.DESTINATIONS}


def test_each_feature_is_in_its_place(features):
    found = {name: float(column[0]) for name, column in features(ROW).items()}
    assert found.pop("carrier") == 11
    assert found.pop("origin") == 1
    assert found.pop("dest") == 43
    assert np.isnan([found.pop("wind_gust"), found.pop("pressure")]).all()
    assert found == pytest.approx(
        {
            "day_of_week": 3, "departure_hour": 23, "departure_sin": np.sin(23 / 12 * np.pi), "departure_cos": np.cos(23 / 12 * np.pi),
            "arrival_hour": 0.5, "block_hours": 1.5, "distance": 1400, "temp": 39.5, "dewp": 20.5, "humid": 50.5, "wind_east": 10,
            "wind_north": 0, "wind_speed": 10, "precip": 0.5, "visib": 9,
        },
        abs=1e-5,
    )  # fmt: skip


def test_a_new_destination_has_the_code_of_none(features):
    assert features({**ROW, "dest": "XYZ"})["dest"].tolist() == [-1.0]


def test_missing_weather_stays_missing(features):
    row = {name: value for name, value in ROW.items() if name not in ("temp", "wind_dir")}
    found = features(row)
    assert np.isnan([found["temp"][0], found["wind_east"][0], found["wind_north"][0]]).all()
    assert found["wind_speed"][0] == 10


def test_a_row_has_the_same_features_alone_and_among_others(features):
    others = [{**ROW, "departure_minute": minute, "dest": "BOS"} for minute in range(0, 1440, 97)]
    alone, among = features(ROW), features(*others, ROW, *others)
    for name, column in alone.items():
        np.testing.assert_array_equal(column[0], among[name][len(others)])
