"""The columns of the inference log: of a segment's tail as it is written, and of a table as people read it.

A table has, one row an answered row:

| column | type | meaning |
|---|---|---|
| ``request_id`` | string | the request |
| ``row`` | int32 | which of its rows, from 0 |
| ``time`` | timestamp[us, UTC] | when it was answered |
| ``version`` | string | which version answered |
| ``arm`` | string | for which arm; ``shadow`` for an answer that went nowhere, beside the row that was answered |
| ``key`` | string | the routing key; null where there was none |
| ``latency_s`` | float32 | from the request's arrival to its computed answer; null for a shadow's |
| ``cached`` | bool | whether the answer came from the cache |
| ``features`` | struct | the inputs, by name, typed; missing values are null |
| ``outputs`` | struct | of a classifier ``prediction`` (the label), ``score``, ``probabilities`` (a struct by label); of others by name |

``score`` is the probability of the positive class of a binary classifier, of several classes that of the predicted one. A tensor
is a list of its elements in C order, whose shape is in the field's metadata under ``shape``. What a model's spec leaves out is no
column. The model is the partition's name, and is in the schema's metadata as all else that a reader needs, see `SegmentHead`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.spec import InputSpec, ModelSpec

HEAD_KEY: Final = b"ekiben"
SHADOW_ARM: Final = "shadow"
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
RAW_COMMON: Final = (
    pa.field("request_id", pa.string()),
    pa.field("row", pa.int32()),
    pa.field("time", pa.int64()),
    pa.field("arm", pa.string()),
    pa.field("key", pa.string()),
    pa.field("latency_s", pa.float32()),
    pa.field("cached", pa.uint8()),
)
"""How the common columns are written: fixed widths where there is a choice, ``key`` empty and ``latency_s`` NaN for none."""

_MAX_CLASSES: Final = 1000
_NUMPY: Final = {name: pa.from_numpy_dtype(np.dtype(name)) for name in (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
)}  # fmt: skip


class LoggedField(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input or output that is kept.

    Attributes:
        name: Its name.
        type: bool, int, float, string, or tensor.
        dtype: The numpy dtype of what is written; ``object`` for text.
        shape: Of a tensor.
        nullable: Whether NaN, or empty text, stands for a value that was missing.
        is_hashed: Whether a keyed hash is kept in the value's place.
    """

    name: str
    type: str
    dtype: str
    shape: tuple[int, ...] | None = None
    nullable: bool = False
    is_hashed: bool = False

    @property
    def elements(self) -> int:
        """Numbers a row."""
        return int(np.prod(self.shape or (1,)))


class SegmentHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a reader must know of a segment.

    Attributes:
        model, version: Whose rows they are.
        inputs, outputs: What is kept; of a classifier ``outputs`` is empty.
        labels: A classifier's.
        is_binary: Whether the score is the probability of the second label.
    """

    model: str
    version: str
    inputs: tuple[LoggedField, ...]
    outputs: tuple[LoggedField, ...] = ()
    labels: tuple[str, ...] = ()
    is_binary: bool = False

    def encoded(self) -> bytes:
        """For the schema's metadata."""
        return msgspec.json.encode(self)


def head_for(spec: ModelSpec, version: str, prediction: tuple[int, ...] = ()) -> SegmentHead:
    """What is kept of a version's rows, by its spec.

    Args:
        spec: The spec.
        version: The version.
        prediction: Of a regressor, the shape of what it predicts of a row; none for a number.
    """
    inputs = tuple(field for item in spec.inputs if (field := _input(item, spec)) is not None)
    if spec.is_classifier:
        return SegmentHead(spec.name, version, inputs, labels=spec.labels, is_binary=spec.task == "binary_classification")
    if spec.task == "regression":
        number = LoggedField("prediction", "tensor" if prediction else "float", "float64", prediction or None)
        return SegmentHead(spec.name, version, inputs, (number,))
    kept = [LoggedField(o.name, "tensor", o.dtype, o.shape) for o in spec.outputs]
    return SegmentHead(spec.name, version, inputs, tuple(f for f in kept if _fits(f, spec.log.value_bytes)))


def _input(item: InputSpec, spec: ModelSpec) -> LoggedField | None:
    log = spec.log
    if item.name in log.redact:
        return None
    if item.name in log.hash:
        return LoggedField(item.name, "string", "object", nullable=item.nullable, is_hashed=True)
    field = LoggedField(item.name, item.type, item.array_dtype, item.shape, item.nullable)
    return field if item.type != "tensor" or _fits(field, log.value_bytes) else None


def _fits(field: LoggedField, limit: int) -> bool:
    """Whether a tensor is kept: numbers, of a shape that is known, and not too many."""
    if field.dtype in ("string", "object") or any(d < 0 for d in field.shape or ()):
        return False
    return field.elements * np.dtype(field.dtype).itemsize <= limit


def raw_schema(head: SegmentHead) -> pa.Schema:
    """The schema of a segment: what `table_of` makes a table of.

    Text has no nulls and numbers no validity bits, so that a batch is written without looking at each value.
    """
    features = pa.struct([pa.field(f.name, _raw_type(f)) for f in head.inputs])
    if head.labels:
        classes = pa.list_(pa.float32(), len(head.labels))
        outputs = pa.struct([pa.field("class_index", pa.int16()), pa.field("probabilities", classes)])
    else:
        outputs = pa.struct([pa.field(f.name, _raw_type(f)) for f in head.outputs])
    columns = [*RAW_COMMON, *(pa.field(n, t) for n, t in (("features", features), ("outputs", outputs)) if t.num_fields)]
    return pa.schema(columns, metadata={HEAD_KEY: head.encoded()})


def _raw_type(field: LoggedField) -> pa.DataType:
    if field.dtype == "object":
        return pa.string()
    element = pa.uint8() if field.dtype == "bool" else _NUMPY[field.dtype]
    return pa.list_(element, field.elements) if field.type == "tensor" else element


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
        raw: Its batches, of `raw_schema`.
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
