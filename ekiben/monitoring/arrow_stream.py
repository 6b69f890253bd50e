"""Arrow IPC streams, written batch by batch at the cost of copying their bytes.

Making a message of a batch takes a hundred microseconds for twenty columns however few the rows: more than predicting them. All
batches of a stream differ in their lengths alone, though. So the message of one batch serves as a pattern, and the lengths in it
are replaced. Format: https://arrow.apache.org/docs/format/Columnar.html, sections "Encapsulated message format" and "RecordBatch
message"; metadata is a FlatBuffer whose nodes and buffers are arrays of 64-bit integers in place. The patterns themselves are
made by `ekiben.monitoring.arrow_messages`, and none of it needs pyarrow.

Columns hold no nulls: numbers of fixed width, text, structs, and lists of fixed size of these.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.monitoring.arrow_columns import Field, FixedSizeList, StructOf, Type, Utf8
from ekiben.monitoring.arrow_messages import batch_message, schema_message

Array = npt.NDArray[Any]

_ALIGNED: Final = 8
_PADDING: Final = [b"\0" * n for n in range(_ALIGNED)]
_CACHED_LENGTHS: Final = 1024
_NUMBER: Final = struct.Struct("<q")
_PLACED: Final = struct.Struct("<qq")


class Text(msgspec.Struct, frozen=True):
    """A column of text: where each value begins and the last ends, ``[n + 1]`` int32, and the values, UTF-8, one after the other."""

    offsets: bytes
    data: bytes


Column = bytes | Text
"""A leaf's values: the bytes of numbers, or text. Several neighbours of fixed width may be one piece, each padded to 8 bytes."""


def text_of(values: Sequence[str]) -> Text:
    """A column of these values; a half of a surrogate pair, which is no text, becomes a question mark."""
    joined = "".join(values)
    data = joined.encode("utf-8", "replace")
    lengths = map(len, values) if len(data) == len(joined) else [len(v.encode("utf-8", "replace")) for v in values]
    return Text(array("i", accumulate(lengths, initial=0)).tobytes(), data)


class _Lengths(msgspec.Struct, frozen=True):
    """What is the same for all batches of n rows.

    Attributes:
        message: The message as it is where all text is empty.
        body_length: Of the same.
    """

    message: bytes
    body_length: int


class StreamEncoder:
    """Encodes batches of one schema.

    Args:
        fields: The columns.
        metadata: What the schema says of itself.

    Attributes:
        head: What a stream begins with: the schema's message.
    """

    def __init__(self, fields: Sequence[Field], metadata: Mapping[bytes, bytes] | None = None) -> None:
        self.head: bytes = schema_message(fields, metadata or {})
        layout = _Layout()
        for field in fields:
            layout.add(field.type, 1)
        self._lengths: dict[int, _Lengths] = {}
        self._rows_of_node = np.array(layout.nodes, np.int64)
        self._bytes_a_row = np.array(layout.bytes_a_row, np.int64)
        self._more_bytes = np.array(layout.more_bytes, np.int64)
        self._message, self._places = batch_message(len(layout.nodes), len(layout.bytes_a_row))
        self._texts = [self._places.buffers + _PLACED.size * buffer for buffer in layout.texts]

    def batch(self, n: int, columns: Sequence[Column]) -> bytes:
        """A message of n rows.

        Args:
            n: How many, one at least.
            columns: The leaves, in the order of the schema.
        """
        lengths = self._lengths.get(n) or self._lengths_of(n)
        message = bytearray(lengths.message)
        pieces: list[bytes | bytearray] = [message]
        behind: list[bytes | bytearray] = []
        end = lengths.body_length
        places = iter(self._texts)
        for column in columns:
            if isinstance(column, Text):
                # What texts there are differs from batch to batch, so they are behind all else, which stays in its place.
                offsets, data = column.offsets, column.data
                size = len(data)
                pieces += (offsets, _PADDING[-len(offsets) % _ALIGNED])
                behind += (data, _PADDING[-size % _ALIGNED])
                _PLACED.pack_into(message, next(places), end, size)
                end += size + -size % _ALIGNED
            else:
                pieces += (column, _PADDING[-len(column) % _ALIGNED])
        _NUMBER.pack_into(message, self._places.body_length, end)
        return b"".join(pieces + behind)

    def _lengths_of(self, n: int) -> _Lengths:
        nodes = np.zeros((len(self._rows_of_node), 2), np.int64)
        nodes[:, 0] = self._rows_of_node * n
        buffers = self._bytes_a_row * n + self._more_bytes
        places, message = self._places, bytearray(self._message)
        padded = (buffers + _ALIGNED - 1) // _ALIGNED * _ALIGNED
        ends = np.cumsum(padded)
        placed = np.stack([ends - padded, buffers], axis=1)
        _NUMBER.pack_into(message, places.length, n)
        _NUMBER.pack_into(message, places.body_length, int(ends[-1]))
        message[places.nodes : places.nodes + nodes.nbytes] = nodes.tobytes()
        message[places.buffers : places.buffers + placed.nbytes] = placed.tobytes()
        lengths = _Lengths(bytes(message), int(ends[-1]))
        if len(self._lengths) < _CACHED_LENGTHS:
            self._lengths[n] = lengths
        return lengths


class _Layout:
    """The nodes and buffers of a batch, depth first.

    Attributes:
        nodes: Of each node, its values a row.
        bytes_a_row, more_bytes: Of each buffer, its bytes a row, and those beside.
        texts: The buffers that hold text.
    """

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.bytes_a_row: list[int] = []
        self.more_bytes: list[int] = []
        self.texts: list[int] = []

    def add(self, kind: Type, times: int) -> None:
        """Adds a column of a type, of which there are so many values a row."""
        self.nodes.append(times)
        self._buffer(0)  # validity: none
        if isinstance(kind, StructOf):
            for field in kind.fields:
                self.add(field.type, times)
        elif isinstance(kind, FixedSizeList):
            self.add(kind.item, times * kind.size)
        elif isinstance(kind, Utf8):
            self._buffer(4 * times, 4)
            self.texts.append(len(self.bytes_a_row))
            self._buffer(0)
        else:
            self._buffer(kind.bits // 8 * times)

    def _buffer(self, bytes_a_row: int, more: int = 0) -> None:
        self.bytes_a_row.append(bytes_a_row)
        self.more_bytes.append(more)
