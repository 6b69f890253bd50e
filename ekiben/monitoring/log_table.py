"""A table of the inference log as people read it, made of what a segment holds; needs pyarrow, which who writes a log need not have.

The columns are documented in `ekiben.monitoring.log_schema`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.monitoring.log_schema import HEAD_KEY, LoggedField, SegmentHead

COMMON: Final = (
    pa.field("request_id", pa.string()),
    pa.field("row", pa.int32()),
    pa.field("time", pa.timestamp("us", tz="UTC")),
    pa.field("version", pa.string()),
    pa.field("arm", pa.string()),
    pa.field("key", pa.string()),
    pa.field("latency_s", pa.float32()),
    pa.field("cached", pa.bool_()),
)

_MAX_CLASSES: Final = 1000


def head_of(schema: pa.Schema) -> SegmentHead:
    """The head of a segment.

    Raises:
        ValueError: It is no segment of an inference log.
    """
    encoded = (schema.metadata or {}).get(HEAD_KEY)
    if encoded is None:
        raise ValueError("these are no rows of an inference log: the schema has no metadata of one")
    return msgspec.json.decode(encoded, type=SegmentHead)


def table_of(raw: pa.Table, head: SegmentHead) -> pa.Table:
    """The documented table of what a segment holds.

    Args:
        raw: Its batches, of `ekiben.monitoring.log_schema.raw_columns`.
        head: Its head.
    """
    n = raw.num_rows
    key, latency = raw["key"], raw["latency_s"]
    columns = [
        raw["request_id"],
        raw["row"],
        raw["time"].cast(pa.timestamp("us", tz="UTC")),
        pa.chunked_array([pa.repeat(pa.scalar(head.version), n)]) if n else pa.chunked_array([], pa.string()),
        raw["arm"],
        pc.if_else(pc.equal(key, ""), pa.scalar(None, pa.string()), key),
        pc.if_else(pc.is_nan(latency), pa.scalar(None, pa.float32()), latency),
        raw["cached"].cast(pa.bool_()),
    ]
    fields = list(COMMON)
    for name, made in (("features", _features(raw, head)), ("outputs", _outputs(raw, head))):
        if made is not None:
            columns.append(made)
            fields.append(pa.field(name, made.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata={HEAD_KEY: head.encoded()}))


def _features(raw: pa.Table, head: SegmentHead) -> pa.Array | None:
    if not head.inputs:
        return None
    return _struct(raw.column("features").combine_chunks(), head.inputs)


def _outputs(raw: pa.Table, head: SegmentHead) -> pa.Array | None:
    if not head.labels:
        return _struct(raw.column("outputs").combine_chunks(), head.outputs) if head.outputs else None
    struct = _one_chunk(raw.column("outputs"))
    n, k = len(struct), len(head.labels)
    index = struct.field("class_index").to_numpy(zero_copy_only=False).astype(np.intp)
    flat = struct.field("probabilities").flatten().to_numpy(zero_copy_only=False).reshape(n, k)
    score = flat[:, 1] if head.is_binary else flat[np.arange(n), index] if n else np.zeros(0, np.float32)
    prediction = pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(head.labels, pa.string())).dictionary_decode()
    children = [prediction, _missing_as_null(pa.array(score))]
    names = ["prediction", "score"]
    if k <= _MAX_CLASSES:
        by_label = [_missing_as_null(pa.array(np.ascontiguousarray(flat[:, i]))) for i in range(k)]
        children.append(pa.StructArray.from_arrays(by_label, names=list(head.labels)))
        names.append("probabilities")
    return pa.StructArray.from_arrays(children, names=names)


def _one_chunk(column: pa.ChunkedArray) -> Any:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _struct(combined: Any, fields: Sequence[LoggedField]) -> pa.Array:
    struct = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    children = [_typed(struct.field(field.name), field) for field in fields]
    return pa.StructArray.from_arrays(children, fields=[_arrow_field(f, c.type) for f, c in zip(fields, children, strict=True)])


def _arrow_field(field: LoggedField, kind: pa.DataType) -> pa.Field:
    shape = {"shape": ",".join(map(str, field.shape))} if field.type == "tensor" and field.shape is not None else None
    return pa.field(field.name, kind, metadata=shape)


def _typed(array: pa.Array, field: LoggedField) -> pa.Array:
    """A column as the spec means it: what was carried as NaN or empty text is null, bools and ints are such."""
    if field.type == "tensor":
        return array.cast(pa.list_(pa.bool_(), field.elements)) if field.dtype == "bool" else array
    if field.dtype == "object":
        return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array) if field.nullable else array
    if field.dtype == "bool":
        return array.cast(pa.bool_())
    array = _missing_as_null(array)
    if field.type == "bool":
        return array.cast(pa.bool_())
    return array.cast(pa.int64()) if field.type == "int" and pa.types.is_floating(array.type) else array


def _missing_as_null(array: pa.Array) -> pa.Array:
    if not pa.types.is_floating(array.type) or pa.types.is_float16(array.type):
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
