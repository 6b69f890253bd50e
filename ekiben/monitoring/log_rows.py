"""Answered rows, and the messages that a segment of the inference log holds of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.outputs import Outputs
from ekiben.model.signature import Batch
from ekiben.monitoring.arrow_stream import Column, StreamEncoder, Text, text_of
from ekiben.monitoring.log_schema import HEAD_KEY, LoggedField, SegmentHead, raw_columns

_HASH_BYTES: Final = 16
_CACHED_TEXTS: Final = 1024

Array = npt.NDArray[Any]


class LoggedRows(msgspec.Struct):
    """Answered rows of one batch, a request or several.

    Attributes:
        batch, outputs: The rows' inputs, and what was answered, n rows each.
        request_ids, arms, keys: A request each; an empty key is none.
        latencies: From arrival to answer, seconds, a request each; NaN for a shadow's.
        rows: How many rows, a request each; None for one each.
        time: When they were answered, seconds since the epoch.
        is_cached: Whether the answers were remembered ones.
    """

    batch: Batch
    outputs: Outputs
    request_ids: list[str]
    arms: list[str]
    keys: list[str]
    latencies: list[float]
    rows: list[int] | None
    time: float
    is_cached: bool = False


class RowEncoder:
    """Makes messages of rows, for one version.

    Args:
        head: What is kept.
        hash_key: The secret that values are hashed with.

    Attributes:
        head: What a segment begins with.
    """

    def __init__(self, head: SegmentHead, hash_key: Callable[[], bytes]) -> None:
        self._encoder = StreamEncoder(raw_columns(head), {HEAD_KEY: head.encoded()})
        self.head = self._encoder.head
        self._inputs = [(field.name, _column_maker(field, hash_key)) for field in head.inputs]
        self._outputs = [(field.name, _column_maker(field, hash_key)) for field in head.outputs]
        self._is_classifier = bool(head.labels)
        self._is_hashed = any(field.is_hashed for field in head.inputs)
        self._texts: dict[tuple[str, int], Text] = {}
        self._rows: dict[int, bytes] = {}

    def encoded(self, rows: LoggedRows) -> bytes:
        """The message of a batch.

        Raises:
            ValueError: Arrays are not of the shape that the spec says.
            OSError: The secret for hashes cannot be read.
        """
        n = rows.outputs.n
        ids, arms, keys, latencies = rows.request_ids, rows.arms, rows.keys, rows.latencies
        numbers = self._rows.get(n) or self._rows.setdefault(n, bytes(4 * n))
        if rows.rows is not None:
            sizes = rows.rows
            ids, arms, keys, latencies = (_repeated(values, sizes) for values in (ids, arms, keys, latencies))
            numbers = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]).tobytes()
        columns: list[Column] = [
            text_of(ids),
            numbers,
            int(rows.time * 1e6).to_bytes(8, "little", signed=True) * n,
            self._often(arms),
            self._often(keys),
            array("f", latencies).tobytes(),
            b"\1" * n if rows.is_cached else bytes(n),
        ]
        self._add_features(columns, rows.batch)
        self._add_outputs(columns, rows.outputs)
        return self._encoder.batch(n, columns)

    def _often(self, values: list[str]) -> Text:
        """Of most batches all rows are of one arm, and without a key."""
        n, first = len(values), values[0]
        if values.count(first) != n:
            return text_of(values)
        text = self._texts.get((first, n))
        if text is None:
            text = text_of(values)
            if len(self._texts) < _CACHED_TEXTS:
                self._texts[first, n] = text
        return text

    def _add_features(self, columns: list[Column], batch: Batch) -> None:
        matrix = batch.matrix
        if matrix is not None and len(self._inputs) == matrix.shape[1] and not self._is_hashed:
            # Column by column, each padded to 8 bytes, in one piece.
            a_word = 8 // matrix.itemsize
            padded = np.zeros((matrix.shape[1], -(-batch.n // a_word) * a_word), matrix.dtype)
            padded[:, : batch.n] = matrix.T
            columns.append(padded.tobytes())
            return
        values = batch.columns
        columns += [column_of(values[name]) for name, column_of in self._inputs]

    def _add_outputs(self, columns: list[Column], outputs: Outputs) -> None:
        if self._is_classifier:
            assert outputs.class_index is not None  # the model classifies
            columns += (outputs.class_index.astype(np.int16).tobytes(), np.ascontiguousarray(outputs.arrays["probabilities"]).tobytes())
            return
        columns += [column_of(outputs.arrays[name]) for name, column_of in self._outputs]


def _column_maker(field: LoggedField, hash_key: Callable[[], bytes]) -> Callable[[Array], Column]:
    """What makes a column of an input's or output's values; it is called for each batch."""
    if field.is_hashed:
        return lambda values: text_of([_hashed(value, key) for key in (hash_key(),) for value in values.tolist()])
    if field.dtype == "object":
        return lambda values: text_of(values.tolist())
    dtype, elements = np.dtype(np.uint8 if field.dtype == "bool" else field.dtype), field.elements

    def numbers(values: Array) -> Column:
        if values.size != len(values) * elements:
            raise ValueError(f"{field.name!r} has the shape {list(values.shape[1:])} a row; it must be {list(field.shape or ())}")
        return values.astype(dtype, copy=False).tobytes()

    return numbers


def _repeated(values: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]


def _hashed(value: Any, key: bytes) -> str:
    """A keyed hash of a value as people would write it; nothing for a value that is missing."""
    if value == "" or value != value:  # noqa: PLR0124  NaN
        return ""
    text = f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    return blake2b(text.encode("utf-8", "replace"), key=key, digest_size=_HASH_BYTES).hexdigest()
