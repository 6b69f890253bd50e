"""Arrow IPC streams, written batch by batch at the cost of copying their bytes.

pyarrow builds an object for each column and batch, which takes a hundred microseconds for twenty columns however few the rows:
more than predicting them. All batches of a stream differ in their lengths alone, though. So the message of one batch, made by
pyarrow, serves as a pattern, and the lengths in it are replaced. Format: https://arrow.apache.org/docs/format/Columnar.html,
sections "Encapsulated message format" and "RecordBatch message"; metadata is a FlatBuffer whose nodes and buffers are arrays
of 64-bit integers in place.

Columns hold no nulls: numbers of fixed width, text, structs, and lists of fixed size of these.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]

_CONTINUED: Final = 0xFFFFFFFF
_ALIGNED: Final = 8
_PADDING: Final = [b"\0" * n for n in range(_ALIGNED)]
_CACHED_LENGTHS: Final = 1024
# Fields of the FlatBuffers tables, by their place in the schema: Message and RecordBatch of Arrow's Message.fbs.
_HEADER, _BODY_LENGTH = 2, 3
_LENGTH, _NODES, _BUFFERS = 0, 1, 2


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
        schema: The columns.

    Attributes:
        head: What a stream begins with: the schema's message.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.head: bytes = schema.serialize().to_pybytes()
        layout = _Layout()
        for field in schema:
            layout.add(field.type, 1)
        self._lengths: dict[int, _Lengths] = {}
        self._rows_of_node = np.array(layout.nodes, np.int64)
        self._bytes_a_row = np.array(layout.bytes_a_row, np.int64)
        self._more_bytes = np.array(layout.more_bytes, np.int64)
        self._texts = layout.texts
        pattern = pa.RecordBatch.from_arrays([layout.example(f.type) for f in schema], schema=schema).serialize().to_pybytes()
        size = int.from_bytes(pattern[4:8], "little")
        self._message = pattern[: 8 + size]
        self._places = _places(self._message)

    def batch(self, n: int, columns: Sequence[Column]) -> bytes:
        """A message of n rows.

        Args:
            n: How many, one at least.
            columns: The leaves, in the order of the schema.
        """
        lengths = self._lengths.get(n) or self._lengths_of(n)
        pieces: list[bytes | bytearray] = [lengths.message]
        texts: list[int] = []
        for column in columns:
            if isinstance(column, Text):
                size = len(column.data)
                texts.append(size)
                pieces += (column.offsets, _PADDING[-len(column.offsets) % _ALIGNED], column.data, _PADDING[-size % _ALIGNED])
            else:
                pieces += (column, _PADDING[-len(column) % _ALIGNED])
        if texts:
            pieces[0] = self._with_texts(lengths, texts)
        return b"".join(pieces)

    def _lengths_of(self, n: int) -> _Lengths:
        nodes = np.zeros((len(self._rows_of_node), 2), np.int64)
        nodes[:, 0] = self._rows_of_node * n
        buffers = self._bytes_a_row * n + self._more_bytes
        places, message = self._places, bytearray(self._message)
        padded = (buffers + _ALIGNED - 1) // _ALIGNED * _ALIGNED
        ends = np.cumsum(padded)
        placed = np.stack([ends - padded, buffers], axis=1)
        struct.pack_into("<q", message, places.length, n)
        struct.pack_into("<q", message, places.body_length, int(ends[-1]))
        message[places.nodes : places.nodes + nodes.nbytes] = nodes.tobytes()
        message[places.buffers : places.buffers + placed.nbytes] = placed.tobytes()
        lengths = _Lengths(bytes(message), int(ends[-1]))
        if len(self._lengths) < _CACHED_LENGTHS:
            self._lengths[n] = lengths
        return lengths

    def _with_texts(self, lengths: _Lengths, texts: list[int]) -> bytearray:
        """The message for text of so many bytes in each column of text, which moves all buffers behind it."""
        message = bytearray(lengths.message)
        placed = np.frombuffer(message, np.int64, 2 * len(self._bytes_a_row), self._places.buffers)
        body_length = lengths.body_length
        for buffer, size in zip(self._texts, texts, strict=True):
            if size:
                placed[2 * buffer + 1] = size
                moved = size + -size % _ALIGNED
                placed[2 * buffer + 2 :: 2] += moved
                body_length += moved
        struct.pack_into("<q", message, self._places.body_length, body_length)
        return message


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

    def add(self, kind: pa.DataType, times: int) -> None:
        """Adds a column of a type, of which there are so many values a row."""
        self.nodes.append(times)
        self._buffer(0)  # validity: none
        if pa.types.is_struct(kind):
            for n in range(kind.num_fields):
                self.add(kind.field(n).type, times)
        elif pa.types.is_fixed_size_list(kind):
            self.add(kind.value_type, times * kind.list_size)
        elif pa.types.is_string(kind):
            self._buffer(4 * times, 4)
            self.texts.append(len(self.bytes_a_row))
            self._buffer(0)
        else:
            self._buffer(kind.byte_width * times)

    def _buffer(self, bytes_a_row: int, more: int = 0) -> None:
        self.bytes_a_row.append(bytes_a_row)
        self.more_bytes.append(more)

    @staticmethod
    def example(kind: pa.DataType) -> pa.Array:
        """One row of a column; not empty, since FlatBuffers leave out what is zero."""
        return pa.array([_value(kind)], kind)


def _value(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {kind.field(n).name: _value(kind.field(n).type) for n in range(kind.num_fields)}
    if pa.types.is_fixed_size_list(kind):
        return [_value(kind.value_type)] * kind.list_size
    if pa.types.is_string(kind):
        return "x"
    return np.float16(1) if pa.types.is_float16(kind) else 1


class _Places(msgspec.Struct, frozen=True):
    """Where in a message the numbers are that differ from batch to batch."""

    body_length: int
    length: int
    nodes: int
    buffers: int


def _places(message: bytes) -> _Places:
    if int.from_bytes(message[:4], "little") != _CONTINUED:
        raise ValueError("the message does not begin as Arrow's do since version 0.15")
    root = 8 + _u32(message, 8)
    header = _follow(message, _field(message, root, _HEADER))
    return _Places(
        body_length=_field(message, root, _BODY_LENGTH),
        length=_field(message, header, _LENGTH),
        nodes=_follow(message, _field(message, header, _NODES)) + 4,
        buffers=_follow(message, _field(message, header, _BUFFERS)) + 4,
    )


def _u32(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 4], "little")


def _follow(message: bytes, at: int) -> int:
    return at + _u32(message, at)


def _field(message: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is: its vtable, which lies before or behind, holds the distance from the table."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    distance = struct.unpack_from("<H", message, vtable + 4 + 2 * number)[0]
    if not distance:
        raise ValueError("pyarrow leaves out a part of the message that must be there")
    return int(table + distance)
