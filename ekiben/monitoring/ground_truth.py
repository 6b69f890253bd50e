"""Ground truth joined with the inference log: what was answered beside what really happened.

A truth belongs to every logged row of its request id and row, whenever either came: a truth that is there before its prediction
waits for it, and where a client used an id twice, each of the two predictions has the truth. Rows whose truth is not known stay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.state.truth import TruthColumns, Truths, Value

_KEYS: Final = ("request_id", "row", "time")
_TRUTH_WITHIN_S: Final = 48 * 3600.0
_AGES_H: Final = (0.0, 1.0, 6.0, 24.0, 48.0, 168.0, 720.0)
_HOUR_S: Final = 3600.0
_MICROSECOND_S: Final = 1e-6
_TIME: Final = pa.timestamp("us", tz="UTC")

Mask = npt.NDArray[np.bool_]


class ReadsLog(Protocol):
    """What reads the inference log; see `ekiben.monitoring.log_reader.LogReader`."""

    def read(
        self,
        model: str,
        *,
        since: float,
        until: float,
        columns: Sequence[str] | None = None,
        version: str | None = None,
        shadows: bool = False,
    ) -> pa.Table:
        """The rows of a model that were answered in [since, until), seconds since the epoch, by time."""


class AgeGroup(msgspec.Struct, frozen=True):
    """How much is known of rows that were answered so long ago.

    Attributes:
        from_h, to_h: How long, in hours, [from, to); the oldest have no end.
        rows: How many there are.
        labelled: Of how many the truth is known.
        share: That is which share, 0 to 1.
    """

    from_h: float
    to_h: float | None
    rows: int
    labelled: int
    share: float


class Coverage(msgspec.Struct, frozen=True):
    """Of how many rows the truth is known.

    Attributes:
        rows: All rows.
        labelled: Those whose truth is known.
        due: Those so old that their truth should be there.
        due_labelled: Those of them whose truth is.
        by_age: The same by age, the youngest first, without ages that no row has.
    """

    rows: int
    labelled: int
    due: int
    due_labelled: int
    by_age: tuple[AgeGroup, ...] = ()


@dataclass(frozen=True)
class Joined:
    """The log with the truth beside it.

    Attributes:
        table: The log's columns, and ``actual`` (float64 where all that was said are numbers, else text), ``outcome`` (float64) and
            ``truth_time`` (timestamp[us, UTC]), null where they are not known.
        coverage: Of how many rows the actual is known; where nobody reports any, the outcome.
        now: When it was joined, seconds since the epoch.
        truth_within_s: By which age a row's truth should be there, seconds.
    """

    table: pa.Table
    coverage: Coverage
    now: float
    truth_within_s: float


def joined(
    log: ReadsLog,
    truths: Truths,
    model: str,
    *,
    since: float,
    until: float,
    version: str | None = None,
    columns: Sequence[str] | None = None,
    shadows: bool = False,
    truth_within_s: float = _TRUTH_WITHIN_S,
    now: float | None = None,
) -> Joined:
    """Joins what a model answered with what happened.

    Args:
        log: The inference log.
        truths: Ground truth.
        model: The model.
        since: Rows answered from then on, seconds since the epoch.
        until: Rows answered before.
        version: Of this version only.
        columns: Of the log, beside those that are joined by; None takes all.
        shadows: Whether rows that a shadow computed are wanted too.
        truth_within_s: `MonitorSpec.truth_within` in seconds: rows younger than that may still get their truth.
        now: Seconds since the epoch; None takes the present.

    Raises:
        StateError: The control database cannot be read.
    """
    wanted = None if columns is None else [*_KEYS, *(c for c in columns if c not in _KEYS)]
    table = log.read(model, since=since, until=until, columns=wanted, version=version, shadows=shadows)
    table = with_truth(table, truths.of(model, pc.unique(table["request_id"]).to_pylist()))
    now = time.time() if now is None else now
    known = is_known(table["actual"])
    if not known.any():
        known = is_known(table["outcome"])
    return Joined(table, coverage_of(table["time"], known, now, truth_within_s), now, truth_within_s)


def with_truth(table: pa.Table, found: TruthColumns) -> pa.Table:
    """A table of the log with truths beside its rows; see `Joined.table`.

    Args:
        table: Has ``request_id`` and ``row``.
        found: The truths; one at most of each request id and row.
    """
    at = _positions(table, found)
    truth_time = pa.array(np.round(np.asarray(found.time, np.float64) / _MICROSECOND_S).astype(np.int64)).cast(_TIME)
    columns = {
        "actual": _actuals(found.actual),
        "outcome": pa.array(list(found.outcome), pa.float64()),
        "truth_time": truth_time,
    }
    for name, values in columns.items():
        table = table.append_column(name, values.take(at))
    return table


def coverage_of(times: Any, known: Mask, now: float, truth_within_s: float) -> Coverage:
    """Of how many rows the truth is known.

    Args:
        times: Arrow timestamps, ``[n]``: when the rows were answered.
        known: ``[n]``: of which the truth is known.
        now: Seconds since the epoch.
        truth_within_s: By which age a truth should be there.
    """
    ages_s = now - pc.cast(times, pa.int64()).to_numpy() * _MICROSECOND_S
    due = ages_s >= truth_within_s
    # Clocks of two machines differ: a row that is answered a little later than now is as young as one can be.
    group = np.searchsorted(_AGES_H, np.maximum(ages_s, 0.0) / _HOUR_S, side="right") - 1
    rows = np.bincount(group, minlength=len(_AGES_H)).tolist()
    labelled = np.bincount(group[known], minlength=len(_AGES_H)).tolist()
    ends: tuple[float | None, ...] = (*_AGES_H[1:], None)
    groups = zip(_AGES_H, ends, rows, labelled, strict=True)
    return Coverage(
        rows=len(known),
        labelled=int(known.sum()),
        due=int(due.sum()),
        due_labelled=int((due & known).sum()),
        by_age=tuple(AgeGroup(low, high, n, k, k / n) for low, high, n, k in groups if n),
    )


def is_known(column: Any) -> Mask:
    """Which values of an Arrow column are not null, ``[n]``."""
    known: Mask = pc.is_valid(column).to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else pc.is_valid(column).to_numpy()
    return known


def _positions(table: pa.Table, found: TruthColumns) -> pa.Array:
    """The index of each row's truth, null where there is none.

    A request is a number, the same on both sides, and with the row's it is one number, which is looked up in the sorted ones.
    """
    n = table.num_rows
    if n == 0 or len(found) == 0:
        return pa.nulls(n, pa.int64())
    ids = pc.unique(pa.array(list(found.request_id), pa.string()))
    of_truth = _codes(pa.array(list(found.request_id), pa.string()), np.asarray(found.row), ids)
    of_row = _codes(table["request_id"], table["row"].to_numpy(), ids)
    order = np.argsort(of_truth, kind="stable")
    place = np.minimum(np.searchsorted(of_truth, of_row, sorter=order), len(order) - 1)
    at = order[place]
    return pa.array(at, mask=of_truth[at] != of_row)


def _codes(request_ids: Any, rows: Any, ids: pa.Array) -> npt.NDArray[np.int64]:
    """One number for each request id and row; negative where the id is none of those."""
    index = pc.fill_null(pc.index_in(request_ids, value_set=ids), -1).to_numpy().astype(np.int64)
    codes: npt.NDArray[np.int64] = np.where(index < 0, -1, (index << 32) + np.asarray(rows, np.int64))
    return codes


def _actuals(said: Sequence[Value | None]) -> pa.Array:
    """What was true: numbers where all are numbers, else text, as a label is called."""
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in said) and any(
        value is not None for value in said
    ):
        return pa.array([None if value is None else float(value) for value in said], pa.float64())
    return pa.array([None if value is None else _text(value) for value in said], pa.string())


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
