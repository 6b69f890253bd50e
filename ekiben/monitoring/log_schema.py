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
column. The model is the partition's name, and is in the schema's metadata as all else that a reader needs, see `SegmentHead`. Such
tables are made by `ekiben.monitoring.log_table`; nothing here needs pyarrow.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from ekiben.model.spec import InputSpec, ModelSpec
from ekiben.monitoring.arrow_columns import Field, FixedSizeList, StructOf, Type, Utf8, number_of

HEAD_KEY: Final = b"ekiben"
SHADOW_ARM: Final = "shadow"
RAW_COMMON: Final = (
    Field("request_id", Utf8()),
    Field("row", number_of("int32")),
    Field("time", number_of("int64")),
    Field("arm", Utf8()),
    Field("key", Utf8()),
    Field("latency_s", number_of("float32")),
    Field("cached", number_of("uint8")),
)
"""How the common columns are written: fixed widths where there is a choice, ``key`` empty and ``latency_s`` NaN for none."""


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


def raw_columns(head: SegmentHead) -> tuple[Field, ...]:
    """The columns of a segment: what `ekiben.monitoring.log_table.table_of` makes a table of.

    Text has no nulls and numbers no validity bits, so that a batch is written without looking at each value.
    """
    features = StructOf(tuple(Field(f.name, _raw_type(f)) for f in head.inputs))
    if head.labels:
        classes = FixedSizeList(number_of("float32"), len(head.labels))
        outputs = StructOf((Field("class_index", number_of("int16")), Field("probabilities", classes)))
    else:
        outputs = StructOf(tuple(Field(f.name, _raw_type(f)) for f in head.outputs))
    return (*RAW_COMMON, *(Field(name, kind) for name, kind in (("features", features), ("outputs", outputs)) if kind.fields))


def _raw_type(field: LoggedField) -> Type:
    if field.dtype == "object":
        return Utf8()
    element = number_of("uint8" if field.dtype == "bool" else field.dtype)
    return FixedSizeList(element, field.elements) if field.type == "tensor" else element
