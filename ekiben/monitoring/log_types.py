"""One schema for rows of versions whose schemas differ: inputs that came and went, and types that changed.

A column that some rows do not have is null in them. Numbers become the type that holds both (numpy's rules); structs have the
fields of both; whatever else does not fit becomes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.monitoring.log_table import COMMON


def common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """The schema that rows of all of these can have; without any, that of the columns which every log has.

    Metadata of fields stays where all agree; that of the schemas does not.
    """
    fields: dict[str, pa.Field] = {field.name: field for field in COMMON}
    for schema in schemas:
        for field in schema:
            former = fields.get(field.name)
            fields[field.name] = _stored(field) if former is None else _common_field(former, field)
    return pa.schema(list(fields.values()))


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a table under a schema of `common_schema`.

    Raises:
        pyarrow.ArrowInvalid: A value is not one of the type; no schema made of the table's asks for that.
    """
    columns = []
    for field in schema:
        if field.name in table.column_names:
            chunks = [_cast(chunk, field.type) for chunk in table[field.name].chunks]
            columns.append(pa.chunked_array(chunks, field.type))
        else:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
    return pa.Table.from_arrays(columns, schema=schema)


def narrowed(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """The schema of some columns alone, in the order in which they were asked for.

    Args:
        schema: What there is.
        columns: Names; ``features.temp`` takes one field of a struct. What there is not of these is null.

    Raises:
        KeyError: A name is that of no column a log could have.
    """
    wanted: dict[str, list[str] | None] = {}
    for name in columns:
        top, dot, inner = name.partition(".")
        if not (dot and top in _STRUCTS) and name not in _NAMES:
            raise KeyError(name)
        former = wanted.setdefault(top, [] if dot else None)
        if not dot:
            wanted[top] = None
        elif former is not None and inner not in former:
            former.append(inner)
    return pa.schema([_narrowed_field(schema, top, inner) for top, inner in wanted.items()])


def leaves(schema: pa.Schema, columns: Sequence[str] | None) -> list[str] | None:
    """The paths that Parquet is asked for so that `narrowed` can be made; None for all there are."""
    if columns is None:
        return None
    return [field.name + ("." + inner if inner else "") for field in narrowed(schema, columns) for inner in _inner(field, schema)]


_STRUCTS = ("features", "outputs")
_NAMES = frozenset({*(field.name for field in COMMON), *_STRUCTS})


def _inner(field: pa.Field, schema: pa.Schema) -> list[str]:
    """The fields of a struct that there are; one without a name for the whole of anything else."""
    at = schema.get_field_index(field.name)
    if at < 0:
        return []
    whole = schema.field(at).type
    if not pa.types.is_struct(field.type) or not pa.types.is_struct(whole):
        return [""]
    return [f.name for f in field.type if whole.get_field_index(f.name) >= 0]


def _narrowed_field(schema: pa.Schema, top: str, inner: list[str] | None) -> pa.Field:
    at = schema.get_field_index(top)
    whole = schema.field(at) if at >= 0 else pa.field(top, pa.struct([]))
    if inner is None or not pa.types.is_struct(whole.type):
        return whole
    there = {field.name: field for field in whole.type}
    return pa.field(top, pa.struct([there.get(name, pa.field(name, pa.null())) for name in inner]))


def _stored(field: pa.Field) -> pa.Field:
    """A field as tables have it: half floats, which few readers know, as floats."""
    return pa.field(field.name, _stored_type(field.type), metadata=field.metadata)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([_stored(field) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_stored_type(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_stored_type(kind.value_type))
    return pa.float32() if pa.types.is_float16(kind) else kind


def _common_field(a: pa.Field, b: pa.Field) -> pa.Field:
    return pa.field(a.name, _common_type(a.type, _stored_type(b.type)), metadata=a.metadata if a.metadata == b.metadata else None)


def _common_type(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        fields = {field.name: field for field in a}
        for field in b:
            former = fields.get(field.name)
            fields[field.name] = field if former is None else _common_field(former, field)
        return pa.struct(list(fields.values()))
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if _is_list(a) and _is_list(b):
        element = _common_type(a.value_type, b.value_type)
        sizes = {getattr(kind, "list_size", None) for kind in (a, b)}
        size = sizes.pop() if len(sizes) == 1 else None
        return pa.list_(element) if size is None else pa.list_(element, size)
    if _is_number(a) and _is_number(b):
        return pa.from_numpy_dtype(np.promote_types(a.to_pandas_dtype(), b.to_pandas_dtype()))
    return pa.string()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _cast(array: Any, kind: pa.DataType) -> Any:
    """An array as another type of `common_schema`."""
    if array.type.equals(kind, check_metadata=True):
        return array
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        # .field() does not look at the struct's own nulls; there are none in a log's
        children = [
            _cast(array.field(field.name), field.type) if array.type.get_field_index(field.name) >= 0 else pa.nulls(len(array), field.type)
            for field in kind
        ]
        if not children:
            return pa.array([{}] * len(array), kind)
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=pc.is_null(array) if array.null_count else None)
    if pa.types.is_string(kind) and (pa.types.is_nested(array.type)):
        texts = [None if value is None else msgspec.json.encode(value).decode() for value in array.to_pylist()]
        return pa.array(texts, kind)
    return array.cast(kind, safe=False)
