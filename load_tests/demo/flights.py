"""The flights that are replayed: each a request, when it is asked, what became of it and when that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from load_tests.demo.scenario import Scenario
from training.datasets import WEATHER_LEAD_H, Dataset, load_flights

Array = npt.NDArray[Any]

LABELS: Final = ("on_time", "late")
LATE_SHARE: Final = 0.08
"""Of the truths: reported days after the flight."""

LOST_SHARE: Final = 0.02
"""Of the truths: never reported."""

_DAY_MIN: Final = 1440
_DAY_H: Final = 24
_REPORTED_AFTER_H: Final = 1.0
_LATE_H: Final = (24.0, 48.0)


class Flight(msgspec.Struct, frozen=True):
    """One flight.

    Attributes:
        index: Its row in `training.datasets.load_flights` of its month.
        body: The request that asks for it.
        asked_s: When it is asked, seconds from the begin of the month's replay.
        truth_after_s: How long after its answer the truth is reported, seconds; None where it never is.
        actual: The truth.
    """

    index: int
    body: bytes
    asked_s: float
    truth_after_s: float | None
    actual: str


def flights_of(home: Path, month: int, scenario: Scenario) -> list[Flight]:
    """A month's flights in the order in which they are asked, three hours before they are to leave; the same every time.

    Args:
        home: Folder in which the joined table is kept, as for training.
        month: 1 to 12.
        scenario: How many, how fast, and the seed.

    Raises:
        DataError: The flights are not installed.
    """
    data = load_flights(home, first_month=month, last_month=month)
    draw = np.random.default_rng([scenario.seed, month])
    rows = np.sort(draw.choice(data.n, min(scenario.flights, data.n), replace=False))
    chosen = data.take(rows)
    assert chosen.times is not None  # flights have times
    begin = chosen.times[0].astype("datetime64[M]").astype("datetime64[m]")
    length_min = float(((begin.astype("datetime64[M]") + 1).astype("datetime64[m]") - begin).astype(np.int64))
    asked_s = (chosen.times - begin).astype(np.int64) / length_min * scenario.month_s
    hour_s = scenario.month_s / (length_min / 60)
    after_s = _reported_h(chosen, draw) * hour_s
    lost = draw.random(chosen.n) < LOST_SHARE
    actual = [LABELS[target] for target in chosen.target.tolist()]
    return [
        Flight(row, body, asked, None if is_lost else after, label)
        for row, body, asked, is_lost, after, label in zip(
            rows.tolist(), _bodies(chosen), asked_s.tolist(), lost.tolist(), after_s.tolist(), actual, strict=True
        )
    ]


def _reported_h(flights: Dataset, draw: np.random.Generator) -> Array:
    """Hours from the question to the report of the arrival: the time until it leaves, the flight, an hour; for some, days more."""
    block_h = (flights.columns["arrival_minute"] - flights.columns["departure_minute"]) % _DAY_MIN / 60
    late_h = np.where(draw.random(flights.n) < LATE_SHARE, draw.uniform(*_LATE_H, flights.n), 0.0)
    reported: Array = WEATHER_LEAD_H + block_h + _REPORTED_AFTER_H + late_h
    return reported


def _bodies(flights: Dataset) -> Sequence[bytes]:
    """A request a flight; missing weather is null."""
    columns = {name: _plain(column) for name, column in flights.columns.items()}
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return [msgspec.json.encode({"instances": [row]}) for row in rows]


def _plain(column: Array) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124  NaN alone is not itself
