import json

import numpy as np
import pytest

from ekiben.model.signature import Signature
from ekiben.model.spec import load_spec
from load_tests.demo.flights import LOST_SHARE, flights_of
from load_tests.demo.project import REPOSITORY
from load_tests.demo.scenario import SHORT
from training.datasets import load_flights

MONTH_S = SHORT.month_s


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def june(home):
    return flights_of(home, 6, SHORT)


def test_they_are_as_many_as_wanted_in_order_and_the_same_every_time(home, june):
    assert len(june) == SHORT.flights
    assert [f.asked_s for f in june] == sorted(f.asked_s for f in june)
    assert june == flights_of(home, 6, SHORT)
    assert len({f.index for f in june}) == len(june)


def test_each_is_asked_when_it_is_due_in_the_month(home, june):
    times = load_flights(home, first_month=6, last_month=6).times
    flight = june[len(june) // 2]
    passed = (times[flight.index] - np.datetime64("2013-06-01T00:00")) / np.timedelta64(30, "D")
    assert flight.asked_s == pytest.approx(passed * MONTH_S)
    assert 0 <= june[0].asked_s < june[-1].asked_s < MONTH_S


def test_a_request_says_what_the_dataset_says_and_missing_is_null(home, june):
    data = load_flights(home, first_month=6, last_month=6)
    spec = load_spec(REPOSITORY / "models" / "flight_delay" / "model.yaml")
    rows = [json.loads(f.body)["instances"][0] for f in june]
    assert any(row["wind_gust"] is None for row in rows)
    signature = Signature(spec.inputs)
    batch = signature.batch(signature.parse_rows(rows))
    taken = data.take(np.array([f.index for f in june]))
    for name, column in taken.columns.items():
        np.testing.assert_array_equal(batch.columns[name], column)
    assert [f.actual for f in june] == [("on_time", "late")[t] for t in taken.target]


def test_truth_comes_hours_later_for_some_days_and_for_a_few_never(june):
    hour_s = MONTH_S / (30 * 24)
    after_h = np.array([f.truth_after_s / hour_s for f in june if f.truth_after_s is not None])
    assert after_h.min() >= 4
    assert 0.04 < (after_h > 28).mean() < 0.12
    assert 0 < sum(f.truth_after_s is None for f in june) < 2 * LOST_SHARE * len(june)
