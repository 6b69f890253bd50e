"""Segments: rows that have the same value of an input; of numbers with many values, those of the same quarter."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.monitoring.answers import column_of

MOST_VALUES: Final = 20
_QUARTERS: Final = (0.25, 0.5, 0.75)
_NULL: Final = "null"


class Segment(msgspec.Struct, frozen=True):
    """Rows of one value, or of a range.

    Attributes:
        field: The input.
        value: The value as text; ``null`` where it was missing.
        above: Of a range, what its numbers are above; None without such an end.
        upto: Of a range, the most that its numbers are; None without such an end.
    """

    field: str
    value: str
    above: float | None = None
    upto: float | None = None


def segments_of(table: pa.Table, field: str) -> list[Segment]:
    """The segments of a table of the log by an input.

    Of a number with more than 20 values they are four of as many rows each; of text the 20 values that occur most, with the most
    frequent first.

    Returns:
        None of an input that the log does not have.
    """
    column = column_of(table, "features", field)
    if column is None or table.num_rows == 0:
        return []
    counts = pc.value_counts(column)
    values, rows = counts.field("values"), counts.field("counts").to_numpy()
    if len(values) > MOST_VALUES and _is_number(column.type):
        return _ranges(column, field)
    ranked = sorted(zip(values.to_pylist(), rows.tolist(), strict=True), key=lambda item: (-item[1], _text(item[0])))
    return [Segment(field, _text(value)) for value, _ in ranked[:MOST_VALUES]]


def in_segment(table: pa.Table, segment: Segment) -> npt.NDArray[np.bool_]:
    """Which rows are of a segment, ``[n]``; none where the log does not have its input."""
    column = column_of(table, "features", segment.field)
    if column is None:
        return np.zeros(table.num_rows, np.bool_)
    if segment.above is None and segment.upto is None:
        coded = pa.chunked_array([column.combine_chunks()]).dictionary_encode().combine_chunks()
        coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
        values = coded.dictionary.to_pylist()
        is_of = np.array([*(_text(value) == segment.value for value in values), segment.value == _NULL], np.bool_)
        found: npt.NDArray[np.bool_] = is_of[coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)]
        return found
    low, high = (-math.inf if segment.above is None else segment.above), (math.inf if segment.upto is None else segment.upto)
    numbers = _floats(column)
    return (numbers > low) & (numbers <= high)


def _ranges(column: Any, field: str) -> list[Segment]:
    numbers = _floats(column)
    there = numbers[np.isfinite(numbers)]
    cuts = np.unique(np.quantile(there, _QUARTERS, method="inverted_cdf")).tolist()
    ends = [None, *cuts, None]
    found = [Segment(field, _range(low, high), low, high) for low, high in pairwise(ends)]
    last = found[-1]
    if last.above is not None and not (there > last.above).any():
        found.pop()
    return [*found, *([Segment(field, _NULL)] if len(there) < len(numbers) else [])]


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"up to {high:g}"
    return f"above {low:g}" if high is None else f"{low:g} to {high:g}"


def _floats(column: Any) -> npt.NDArray[np.float64]:
    return pc.cast(column, pa.float64()).to_numpy()  # type: ignore[no-any-return]


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _text(value: Any) -> str:
    if value is None:
        return _NULL
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
