"""Drift: how far what a model is asked, and what it answers, has moved away from a reference.

A column has drifted when the difference is no chance *and* is large: its p-value, corrected over all columns, is below
``monitor.drift.p_value``, and its population stability index reaches ``monitor.drift.effect``. Of many rows every difference is
significant, of few every one is large; neither alone is a reason to wake somebody. Where a window is too small to tell whether the
index is above or below the limit, its upper bound decides, so that a clear difference is not missed for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa

from ekiben.model.monitor_spec import DriftSpec
from ekiben.model.profile import Distribution
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.drift_columns import ColumnDrift, column_drift
from ekiben.monitoring.drift_tests import adjusted
from ekiben.monitoring.log_columns import LogColumn, log_columns
from ekiben.monitoring.reference import Key, distributions, distributions_of

ReferenceKind = Literal["training", "season", "trailing"]
_SHOWN = 5


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one version; `msgspec.to_builtins` makes it JSON-safe.

    Attributes:
        model, version: What was looked at.
        since, until: Rows answered in [since, until), seconds since the epoch.
        rows: How many.
        reference: What they were compared with.
        reference_rows: How many rows that was made of.
        outcome: ``ok``, ``bad`` where it drifted, ``unknown`` where there was too little to say; as `ekiben.state.checks.Check` has it.
        drifted: Whether any column drifted that is not ignored.
        columns: All that could be compared, inputs first.
        not_compared: Column → why not.
        summary: One sentence for people.
    """

    model: str
    version: str
    since: float
    until: float
    rows: int
    reference: ReferenceKind
    reference_rows: int
    outcome: Literal["ok", "bad", "unknown"]
    drifted: bool
    columns: tuple[ColumnDrift, ...] = ()
    not_compared: dict[str, str] = {}
    summary: str

    def drifted_columns(self, *kinds: Literal["input", "score", "class"]) -> tuple[ColumnDrift, ...]:
        """Those that drifted and count, of these kinds, or of all; the largest effect first."""
        return tuple(c for c in _counted(self.columns) if not kinds or c.kind in kinds)


def drift_of(
    table: pa.Table,
    spec: ModelSpec,
    reference: Mapping[str, Any] | pa.Table,
    *,
    version: str = "",
    since: float = 0.0,
    until: float = 0.0,
    kind: ReferenceKind = "training",
) -> DriftReport:
    """Compares rows of the log with a reference.

    Args:
        table: Rows of one version, as `ekiben.monitoring.log_schema` describes them; ``features`` and ``outputs`` are looked at.
        spec: The version's.
        reference: The artifact's profile, or other rows of the log, whose outputs must be that version's too.
        version: Which one, for the report.
        since: When its first row was answered at the earliest, for the report.
        until: Before when its last one was.
        kind: What the reference is, for the report.
    """
    against: dict[Key, LogColumn] = {}
    if isinstance(reference, pa.Table):
        against = {(c.kind, c.name): c for c in log_columns(reference, spec)}
        known, m = distributions_of(reference, spec), reference.num_rows
    else:
        known, m = distributions(reference), int(reference["rows"])
    about = {"model": spec.name, "version": version, "since": since, "until": until, "rows": table.num_rows, "reference": kind}
    too_little = _too_little(table.num_rows, m, spec.monitor.min_rows, kind)
    if not m or not table.num_rows:
        return DriftReport(**about, reference_rows=m, outcome="unknown", drifted=False, summary=too_little)
    found, not_compared = _compared(table, spec, known, m, against)
    columns = _judged(found, spec.monitor.drift, says_something=not too_little)
    has_drifted = bool(_counted(columns))
    nothing = too_little or ("" if columns else "drift is unknown: the log holds none of the columns that the reference describes")
    return DriftReport(
        **about,
        reference_rows=m,
        outcome="unknown" if nothing else "bad" if has_drifted else "ok",
        drifted=has_drifted,
        columns=columns,
        not_compared=not_compared,
        summary=nothing or _sentence(columns, table.num_rows, kind),
    )


def _too_little(rows: int, m: int, min_rows: int, kind: ReferenceKind) -> str:
    if not m and kind == "training":
        return "drift is unknown: the version came without a sample of its training inputs; `ekiben models add --sample` gives it one"
    if m < min_rows and kind != "training":
        return f"drift is unknown: the reference ({kind}) has {m} rows, and {min_rows} are needed (monitor.min_rows)"
    if rows < min_rows:
        return f"drift is unknown: {rows} rows were answered, and {min_rows} are needed (monitor.min_rows)"
    return ""


def _compared(
    table: pa.Table, spec: ModelSpec, known: Mapping[Key, Distribution], m: int, against: Mapping[Key, LogColumn]
) -> tuple[list[ColumnDrift], dict[str, str]]:
    found: list[ColumnDrift] = []
    seen: set[Key] = set()
    reasons: dict[str, str] = {}
    for column in log_columns(table, spec):
        key: Key = (column.kind, column.name)
        seen.add(key)
        if not against and column.kind == "input" and column.name in spec.log.hash:
            reasons[column.name] = "the log holds keyed hashes of it, the profile its values"
        elif key not in known:
            reasons[column.name] = "the reference does not hold it"
        elif (compared := column_drift(column, known[key], m, against.get(key))) is None:
            reasons[column.name] = f"it is {column.values.type} here, and of another kind in the reference"
        else:
            found.append(compared)
    reasons |= {name: "the log does not hold it" for kind, name in known if (kind, name) not in seen}
    return found, reasons


def _judged(columns: Sequence[ColumnDrift], drift: DriftSpec, *, says_something: bool) -> tuple[ColumnDrift, ...]:
    """Corrects the p-values and says which drifted.

    The correction lets more pass the more columns differ. Ignored ones, of which that is known beforehand, are corrected apart.
    """
    is_ignored = [c.kind == "input" and c.name in drift.ignore for c in columns]
    corrected: dict[int, float] = {}
    for group in (False, True):
        members = [i for i, ignored in enumerate(is_ignored) if ignored is group]
        corrected |= dict(zip(members, adjusted([columns[i].p_value for i in members]), strict=True))
    return tuple(
        msgspec.structs.replace(
            column,
            p_adjusted=corrected[i],
            ignored=is_ignored[i],
            drifted=says_something and corrected[i] < drift.p_value and column.psi_high >= drift.effect,
        )
        for i, column in enumerate(columns)
    )


def _counted(columns: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Those that drifted and are not ignored, the largest effect first."""
    return sorted((c for c in columns if c.drifted and not c.ignored), key=lambda c: -c.psi)


def _sentence(columns: Sequence[ColumnDrift], rows: int, kind: ReferenceKind) -> str:
    counted = _counted(columns)
    ignored = [c.name for c in columns if c.drifted and c.ignored]
    beside = f"; ignored: {', '.join(ignored)}" if ignored else ""
    if not counted:
        return f"no drift in {rows} rows against {kind}{beside}"
    shown = ", ".join(f"{c.name} (PSI {c.psi:.2f})" for c in counted[:_SHOWN])
    more = f" and {len(counted) - _SHOWN} more" if len(counted) > _SHOWN else ""
    return f"{len(counted)} of {len(columns)} columns drifted in {rows} rows against {kind}: {shown}{more}{beside}"
