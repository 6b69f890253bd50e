"""The columns of a table of the inference log as numpy arrays, without a loop over its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.spec import ModelSpec

Array = npt.NDArray[Any]
Kind = Literal["input", "score", "class"]


class LogColumn(msgspec.Struct, frozen=True):
    """One column that may drift.

    Attributes:
        name: The input's, or the output's.
        kind: An input, a number that the model gives, or a classifier's label.
        type: ``bool``, ``int``, ``float``, ``string`` or ``tensor``.
        values: One a row; of a tensor a list.
    """

    name: str
    kind: Kind
    type: str
    values: pa.ChunkedArray


def log_columns(table: pa.Table, spec: ModelSpec) -> Iterator[LogColumn]:
    """Those of a model's columns that are in the table, inputs first."""
    for item in spec.inputs:
        yield from _column(table, "features", item.name, "input", item.type)
    if spec.is_classifier:
        yield from _column(table, "outputs", "score", "score", "float")
        yield from _column(table, "outputs", "prediction", "class", "string")
    elif spec.task == "regression":
        yield from _column(table, "outputs", "prediction", "score", "float")
    else:
        for output in spec.outputs:
            yield from _column(table, "outputs", output.name, "score", "tensor" if output.shape else "float")


def numbers(column: LogColumn) -> Array:
    """Float64 ``[n]``: the value of each row, of a tensor the mean of its elements; NaN where it is missing."""
    if is_list(column):
        return _means(column.values)
    return _floats(column.values)


def elements(column: LogColumn) -> Array:
    """Float64: all elements of a tensor; of others as `numbers`."""
    return _floats(pc.list_flatten(column.values)) if is_list(column) else _floats(column.values)


def categories(column: LogColumn) -> tuple[pa.Array, Array]:
    """The different values as strings, of a tensor those of its elements, and how often each occurs; without missing ones."""
    values = pc.list_flatten(column.values) if is_list(column) else column.values
    counted = pc.value_counts(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values)
    counted = counted.filter(pc.is_valid(counted.field("values")))
    return pc.cast(counted.field("values"), pa.string()), counted.field("counts").to_numpy()


def n_elements(column: LogColumn) -> int:
    """How many values there are, missing ones too: rows, of a tensor elements."""
    return len(pc.list_flatten(column.values)) if is_list(column) else len(column.values)


def is_list(column: LogColumn) -> bool:
    """Whether each row holds several elements."""
    kind = column.values.type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(column: LogColumn) -> bool:
    """Whether its values, or a tensor's elements, are categories and no numbers; a tensor of bools holds numbers."""
    kind = column.values.type.value_type if is_list(column) else column.values.type
    if pa.types.is_boolean(kind):
        return not is_list(column)
    return not (pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _column(table: pa.Table, group: str, name: str, kind: Kind, type_: str) -> Iterator[LogColumn]:
    if group in table.column_names:
        struct = table[group]
        if struct.type.get_field_index(name) >= 0:
            yield LogColumn(name, kind, type_, pc.struct_field(struct, name))


def _floats(values: pa.ChunkedArray | pa.Array) -> Array:
    floats = pc.fill_null(pc.cast(values, pa.float64(), safe=False), float("nan"))
    return floats.to_numpy() if isinstance(floats, pa.ChunkedArray) else floats.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _means(values: pa.ChunkedArray) -> Array:
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
    flat = _floats(pc.list_flatten(values))
    row = np.repeat(np.arange(len(lengths)), lengths)
    there = np.isfinite(flat)
    sums = np.bincount(row, weights=np.where(there, flat, 0.0), minlength=len(lengths))
    counts = np.bincount(row, weights=there, minlength=len(lengths))
    return sums / np.where(counts > 0, counts, np.nan)
