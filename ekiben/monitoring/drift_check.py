"""A look at a version's drift: reads its rows and those of its reference from the log, and compares them.

| reference | rows |
|---|---|
| ``training`` | none: the artifact's profile |
| ``season`` | those of the same months of up to three former years |
| ``trailing`` | those of the days before the window, `DriftSpec.trailing` long |

Rows of the version itself where there are enough. Else those of all versions that have its inputs, of which the outputs are not compared:
another version's scores say nothing about this one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.rollout_spec import seconds
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.drift import DriftReport, ReferenceKind, drift_of
from ekiben.monitoring.ground_truth import ReadsLog

MOST_ROWS: Final = 1_000_000
"""Beyond that, every second, third … row is looked at: more would say nothing new and might not fit into memory."""

_FORMER_YEARS: Final = 3
_MONTHS: Final = 12


class LogRows(ReadsLog, Protocol):
    """Where rows are read and counted; `ekiben.monitoring.log_reader.LogReader` is one."""

    def count(self, model: str, *, since: float, until: float) -> int:
        """How many rows there are in that time."""


def check_drift(
    log: LogRows,
    spec: ModelSpec,
    profile: Mapping[str, Any],
    version: str,
    *,
    since: float,
    until: float,
    kind: ReferenceKind | None = None,
    most_rows: int = MOST_ROWS,
) -> DriftReport:
    """Compares what a version was asked and answered in [since, until), seconds since the epoch, with its reference.

    Args:
        log: Where rows are read.
        spec: The version's.
        profile: Its artifact's.
        version: Which one.
        since: When rows were answered at the earliest.
        until: Before when they were.
        kind: What they are compared with; None takes what the spec says.
        most_rows: How many rows are looked at, at most, here and in the reference.

    Raises:
        LogError: The log cannot be read.
    """
    kind = kind or spec.monitor.drift.reference
    table = _rows(log, spec.name, version, [(since, until)], most_rows)
    reference = profile if kind == "training" else _reference_rows(log, spec, version, _windows(spec, kind, since, until), most_rows)
    return drift_of(table, spec, reference, version=version, since=since, until=until, kind=kind)


def _windows(spec: ModelSpec, kind: ReferenceKind, since: float, until: float) -> list[tuple[float, float]]:
    if kind == "trailing":
        return [(since - seconds(spec.monitor.drift.trailing), since)]
    first, last = datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(max(since, until - 1e-6), UTC)
    windows = []
    for years in range(_FORMER_YEARS, 0, -1):
        begin = datetime(first.year - years, first.month, 1, tzinfo=UTC)
        end = datetime(last.year - years + last.month // _MONTHS, last.month % _MONTHS + 1, 1, tzinfo=UTC)
        # A window of most of a year would reach into itself.
        windows.append((begin.timestamp(), min(end.timestamp(), since)))
    return windows


def _reference_rows(log: LogRows, spec: ModelSpec, version: str, windows: Sequence[tuple[float, float]], most: int) -> pa.Table:
    own = _rows(log, spec.name, version, windows, most)
    if own.num_rows >= spec.monitor.min_rows:
        return own
    every = _rows(log, spec.name, None, windows, most, columns=("features", "version"))
    names = [item.name for item in spec.inputs if item.name not in spec.log.redact]
    # An input that a version did not have is null in its rows, as if it had been missing.
    able = [v for v in pc.unique(every["version"]).to_pylist() if _has(every.filter(pc.field("version") == v), names)]
    return every.filter(pc.is_in(every["version"], pa.array(able, pa.string()))).select(["features"])


def _has(table: pa.Table, names: Sequence[str]) -> bool:
    struct = table["features"]
    there = [name for name in names if struct.type.get_field_index(name) >= 0]
    return all(pc.count(pc.struct_field(struct, name)).as_py() for name in there)


def _rows(
    log: LogRows,
    model: str,
    version: str | None,
    windows: Sequence[tuple[float, float]],
    most: int,
    *,
    columns: Sequence[str] = ("features", "outputs"),
) -> pa.Table:
    """Rows of some windows, evenly thinned, and read piece by piece, where there are more than ``most`` of all versions."""
    total = sum(log.count(model, since=since, until=until) for since, until in windows)
    step = max(ceil(total / most), 1)
    tables = []
    for since, until in windows:
        ends = np.linspace(since, until, step + 1).tolist()
        for begin, end in pairwise(ends):
            table = log.read(model, since=begin, until=end, columns=columns, version=version)
            tables.append(table.take(np.arange(0, table.num_rows, step)) if step > 1 else table)
    return _joined(tables)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """All of them, back to where a column had another type."""
    joined = tables[-1]
    for table in reversed(tables[:-1]):
        try:
            joined = pa.concat_tables([table, joined], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            break
    return joined
