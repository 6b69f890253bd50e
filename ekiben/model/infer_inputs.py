"""Which inputs a model takes, from what its graph declares and from rows it is used with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import numpy as np

from ekiben.errors import ArtifactError
from ekiben.model.runtimes import TensorInfo
from ekiben.model.spec import DType, InputSpec, is_field_name

_SCALARS: Final[dict[str, tuple[str, str | None]]] = {
    "float32": ("float", None), "float64": ("float", "float64"), "int64": ("int", None), "int32": ("int", "int32"),
    "bool": ("bool", None), "object": ("string", None),
}  # fmt: skip
_SHOWN = 12


def graph_inputs(name: str, graph: Sequence[TensorInfo], rows: Sequence[Any] | None, *, is_batched: bool) -> tuple[InputSpec, ...]:
    """The inputs of a graph.

    An input with one value a row (``[rows]`` or ``[rows, 1]``) becomes a scalar, any other a tensor, under the graph's
    own names. One matrix ``[rows, F]`` becomes F scalars when the sample's rows have F named columns.

    Args:
        name: Name of the model, for messages.
        graph: What the graph takes.
        rows: A sample, or None.
        is_batched: Whether the first dimension of every input counts rows.

    Raises:
        ArtifactError: An input has a type that no client could send, or the sample has other columns.
    """
    columns = columns_of(rows or [])
    names = [info.name for info in graph]
    if is_batched and len(graph) == 1 and columns and columns != names and len(graph[0].shape) == 2:  # noqa: PLR2004  a matrix
        return _matrix_columns(name, graph[0], rows or [], columns)
    graph = completed(graph, rows or [], is_batched=is_batched)
    if columns and sorted(columns) != sorted(names):
        raise ArtifactError(f"{name}: the sample has the columns {_listed(columns)}; the model takes {_listed(names)}")
    if len(graph) == 1 and not columns:  # each row is the bare value
        return (_graph_input(name, graph[0], iter(rows or []), is_batched=is_batched),)
    return tuple(_graph_input(name, info, _values(rows or [], index, info.name), is_batched=is_batched) for index, info in enumerate(graph))


def completed(graph: Sequence[TensorInfo], rows: Sequence[Any], *, is_batched: bool) -> tuple[TensorInfo, ...]:
    """A graph's inputs; one that declares no dimensions takes those of the sample's nested values, each of any size.

    NOTE: ONNX Runtime does not tell an input without a declared shape from a scalar.

    Args:
        graph: What the graph takes.
        rows: A sample; empty where there is none.
        is_batched: Whether a dimension that counts rows goes before those of one value.
    """
    is_bare = len(graph) == 1 and not columns_of(rows)
    found = []
    for index, info in enumerate(graph):
        value = rows[0] if rows and is_bare else next(_values(rows, index, info.name), None)
        rank = 0 if info.shape else _depth(value)
        found.append(TensorInfo(info.name, info.dtype, (None,) * (rank + is_batched)) if rank else info)
    return tuple(found)


def table_inputs(name: str, expected: Sequence[str], rows: Sequence[Any]) -> tuple[InputSpec, ...]:
    """The inputs of a model that takes a table and does not say of which types: those of the sample's columns.

    Args:
        name: Name of the model, for messages.
        expected: The columns the model was fitted on, in its order; empty when it does not know.
        rows: The sample: dicts.

    Raises:
        ArtifactError: The sample has other columns, or one whose values are of no single type.
    """
    columns = columns_of(rows)
    if expected and columns and sorted(columns) != sorted(expected):
        raise ArtifactError(f"{name}: the sample has the columns {_listed(columns)}; the model takes {_listed(expected)}")
    if expected and not columns:
        width = len(rows[0]) if isinstance(rows[0], list) else 1
        if width != len(expected):
            raise ArtifactError(f"{name}: the sample's rows have {width} values; the model takes {len(expected)}: {_listed(expected)}")
    order = list(expected) or columns
    return tuple(_column_input(name, column, list(_values(rows, index, column))) for index, column in enumerate(order))


def columns_of(rows: Sequence[Any]) -> list[str]:
    """The names of the rows' fields in the order they first appear; empty when rows are no dicts."""
    seen: dict[str, None] = {}
    for row in rows:
        if isinstance(row, dict):
            seen.update(dict.fromkeys(row))
    return list(seen)


def _matrix_columns(name: str, info: TensorInfo, rows: Sequence[Any], columns: list[str]) -> tuple[InputSpec, ...]:
    width = info.shape[1]
    if width is not None and width != len(columns):
        raise ArtifactError(
            f"{name}: the sample has {len(columns)} columns ({_listed(columns)}); "
            f"the model takes {width} in its one input {info.name!r} (or one column of that name, with lists of {width})"
        )
    one = TensorInfo(info.name, info.dtype, (None,))
    return tuple(
        _graph_input(name, TensorInfo(column, one.dtype, one.shape), _values(rows, index, column), is_batched=True)
        for index, column in enumerate(columns)
    )


def _depth(value: Any) -> int:
    return 1 + _depth(value[0] if value else None) if isinstance(value, list | tuple) else 0


def _graph_input(name: str, info: TensorInfo, values: Iterator[Any], *, is_batched: bool) -> InputSpec:
    dtype = "string" if info.dtype == "object" else info.dtype
    if not is_field_name(info.name):
        raise ArtifactError(
            f"{name}: the model's input is called {info.name!r}; a name must be without quotation marks, backslashes and control characters"
        )
    if dtype not in get_args(DType):
        raise ArtifactError(f"{name}: the model's input {info.name!r} is of type {dtype}; Ekiben serves {', '.join(get_args(DType))}")
    is_scalar = is_batched and info.shape[1:] in ((), (1,)) and info.dtype in _SCALARS
    has_null = any(map(_has_null, values))
    if has_null and not (dtype.startswith("float") or (dtype == "string" and is_scalar)):
        raise ArtifactError(f"{name}: the sample's column {info.name!r} holds null; the model takes {dtype} there, which has none")
    if is_scalar:
        kind, exact = _SCALARS[info.dtype]
        return InputSpec(name=info.name, type=kind, dtype=exact, nullable=has_null)  # type: ignore[arg-type]
    shape = tuple(-1 if d is None else d for d in (info.shape[1:] if is_batched else info.shape))
    return InputSpec(name=info.name, type="tensor", dtype=dtype, shape=shape, nullable=has_null)  # type: ignore[arg-type]


def _column_input(name: str, column: str, values: list[Any]) -> InputSpec:
    known = [v for v in values if v is not None]
    kinds = {type(v) for v in known}
    nullable = len(known) < len(values)
    for kind, types in (("bool", {bool}), ("int", {int}), ("float", {int, float}), ("string", {str})):
        if known and kinds <= types:
            # Table models are fitted on float64; float32 would move values across the thresholds of a tree.
            return InputSpec(name=column, type=kind, dtype="float64" if kind == "float" else None, nullable=nullable)  # type: ignore[arg-type]
    if kinds == {list} and not nullable:
        array = _array(known)
        if array is not None:
            dtype = "string" if array.dtype.kind in "OU" else array.dtype.name
            return InputSpec(name=column, type="tensor", dtype=dtype, shape=array.shape[1:])  # type: ignore[arg-type]
    found = f"values of the types {', '.join(sorted(k.__name__ for k in kinds))}" if known else "nothing but null"
    raise ArtifactError(f"{name}: the sample's column {column!r} holds {found}; a column holds bools, integers, floats or strings")


def _values(rows: Sequence[Any], index: int, column: str) -> Iterator[Any]:
    for row in rows:
        if isinstance(row, dict):
            yield row.get(column)
        elif isinstance(row, list | tuple) and index < len(row):
            yield row[index]
        elif not isinstance(row, list | tuple):
            yield row


def _has_null(value: Any) -> bool:
    return any(map(_has_null, value)) if isinstance(value, list | tuple) else value is None


def _array(values: list[Any]) -> np.ndarray[Any, Any] | None:
    try:
        return np.array(values)
    except ValueError:  # ragged
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" … ({len(names)} in all)" if len(names) > _SHOWN else "")
