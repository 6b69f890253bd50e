"""A training window: rows of the log whose truth is known, and which of them judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ekiben.errors import RetrainingError
from ekiben.model.labels import label_of, number_of
from ekiben.model.signature import Signature
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.training_rows import fields_of, one_chunk, rows_of

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]

HELD_BACK: Final = 0.2
"""Share of the rows, the newest, that the new version does not see, and is compared with the champion on."""

_FEWEST_MIN_ROWS: Final = 5
"""Times the spec's ``min_rows``: then the rows that are held back are that many."""


class LabelledRows(Protocol):
    """Where rows come from: the log joined with ground truth."""

    def __call__(self, model: str, *, since: float, until: float) -> pa.Table:
        """Rows answered in [since, until), seconds since the epoch, without shadows.

        Returns:
            At least ``request_id``, ``row``, ``time`` and ``features`` as in the log, and ``actual``, null where nobody said.
        """


@dataclass(frozen=True)
class Window:
    """The rows of a time, in its order, that can be learnt from.

    Attributes:
        spec: What they are inputs of.
        since, until: Seconds since the epoch.
        answered: Rows that were answered in that time, a repeated one once.
        labelled: Those whose truth is known.
        table: Those of them that satisfy the signature, as the file has them.
    """

    spec: ModelSpec
    since: float
    until: float
    answered: int
    labelled: int
    table: pa.Table

    @property
    def n(self) -> int:
        """Number of rows to learn from."""
        return int(self.table.num_rows)

    @property
    def labelled_share(self) -> float:
        """Which share of the answered rows has a truth."""
        return self.labelled / self.answered if self.answered else 0.0

    def check_enough(self) -> None:
        """Refuses windows that teach nothing, or on which no two versions can be told apart.

        Raises:
            RetrainingError: There are too few rows.
        """
        need = _FEWEST_MIN_ROWS * self.spec.monitor.min_rows
        if self.n < need:
            raise RetrainingError(
                f"{self.spec.name} has {self.n:,} rows with ground truth in the window ({self.answered:,} were answered), and {need:,} are "
                f"needed ({_FEWEST_MIN_ROWS} times monitor.min_rows); take a longer --window, or report more ground truth"
            )

    def split(self) -> tuple[pa.Table, pa.Table]:
        """The rows to learn from, and the newest, which are held back; rows of one moment stay together."""
        times = self.table["time"].to_numpy()
        cut = int(np.searchsorted(times, times[min(round(self.n * (1 - HELD_BACK)), self.n - 1)], side="left"))
        return self.table.slice(0, cut), self.table.slice(cut)


def window_of(rows: LabelledRows, spec: ModelSpec, *, since: float, until: float) -> Window:
    """Reads a window.

    Args:
        rows: Where they come from.
        spec: The champion's spec: its inputs, its labels, what its log keeps.
        since: Seconds since the epoch.
        until: Seconds since the epoch, excluded.

    Raises:
        RetrainingError: The model's task has no truth to learn from, or the log does not keep all its inputs.
    """
    import pyarrow as pa  # noqa: PLC0415  who starts a monitor without pyarrow reads no log

    if spec.task == "tensor":
        raise RetrainingError(f"{spec.name} is a tensor model, whose ground truth says nothing of its outputs; train it by hand")
    answered = rows(spec.name, since=since, until=until)
    if not answered.num_rows:
        raise RetrainingError(
            f"{spec.name} answered nothing in the window that the log still holds; `ekiben log status` shows what there is"
        )
    answered = answered.take(_once(answered))
    has_features = "features" in answered.column_names
    _refuse_missing(spec, {field.name for field in answered.schema.field("features").type} if has_features else set())
    inputs = fields_of(answered["features"])
    label, is_labelled = _labels(answered["actual"], spec)
    usable = is_labelled.copy()
    for item in spec.inputs:
        if not item.nullable:
            usable &= inputs[item.name].is_valid().to_numpy(zero_copy_only=False)
    order = np.flatnonzero(usable)
    order = order[np.argsort(answered["time"].to_numpy()[order], kind="stable")]
    names, chosen = [item.name for item in spec.inputs], pa.array(order, pa.int64())
    features = pa.StructArray.from_arrays([inputs[name].take(chosen) for name in names], names=names)
    labels = pa.array(label[order].tolist(), pa.string() if spec.is_classifier else pa.float64())
    table = pa.table({"time": answered["time"].take(chosen), "features": features, "label": labels})
    return Window(spec, since, until, answered.num_rows, int(is_labelled.sum()), table.filter(pa.array(_keeps_rules(table, spec))))


def _once(table: pa.Table) -> Array:
    """The first of each request id and row: a request that a client repeats teaches once."""
    ids = one_chunk(table["request_id"]).dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(ids * 2**31 + table["row"].to_numpy(), return_index=True)
    return np.sort(first)


def _refuse_missing(spec: ModelSpec, kept: set[str]) -> None:
    for item in spec.inputs:
        why = next((f"log.{name} names it" for name in ("redact", "hash") if item.name in getattr(spec.log, name)), "")
        if item.name in kept and not why:
            continue
        why = why or ("it is larger than log.value_bytes" if item.type == "tensor" else "no row of the window has it")
        raise RetrainingError(
            f"{spec.name} needs the input {item.name!r} to learn from, and the log does not keep it: {why}; train it by hand"
        )


def _labels(actual: pa.ChunkedArray, spec: ModelSpec) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Labels, or numbers, ``[n]``, and of which rows they are known."""
    coded = one_chunk(actual).dictionary_encode()
    values = [_label(value, spec) for value in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    found = np.array([*values, None], object)[codes]
    return found, np.array([*(v is not None for v in values), False], np.bool_)[codes]


def _label(value: Any, spec: ModelSpec) -> str | float | None:
    return label_of(value, spec.labels) if spec.is_classifier else number_of(value)


def _keeps_rules(table: pa.Table, spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """Which rows satisfy the signature: another version may have had wider ranges."""
    signature, keeps = Signature(spec.inputs), np.ones(table.num_rows, np.bool_)
    if table.num_rows:
        faults = signature.check(signature.from_columns(rows_of(table, spec).columns))
        keeps[[fault.row for fault in faults]] = False
    return keeps
