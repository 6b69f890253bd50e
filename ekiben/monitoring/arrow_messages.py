"""Messages of an Arrow IPC stream, made with FlatBuffers: the one of a schema, and the one of a record batch as a pattern.

Format: https://arrow.apache.org/docs/format/Columnar.html, "Encapsulated message format"; the tables and the numbers of their
fields are those of Arrow's ``Schema.fbs`` and ``Message.fbs``, of the metadata's version 5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers
import msgspec

from ekiben.monitoring.arrow_columns import Field, FixedSizeList, Number, StructOf, Type, Utf8

_CONTINUED: Final = 0xFFFFFFFF
_ALIGNED: Final = 8
_VERSION_5: Final = 4
# Members of the unions Type and MessageHeader.
_INT, _FLOATING_POINT, _UTF8, _STRUCT, _FIXED_SIZE_LIST = 2, 3, 5, 13, 16
_SCHEMA, _RECORD_BATCH = 1, 3
_PRECISIONS: Final = {16: 0, 32: 1, 64: 2}
# Fields of tables, by their place in the schema.
_MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 2, 3
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2
_PAIR_BYTES: Final = 16
_LIST_ITEM: Final = "item"


class Places(msgspec.Struct, frozen=True):
    """Where in a batch's message the numbers are that differ from batch to batch, 64 bits each.

    Attributes:
        body_length: The bytes behind the message.
        length: The rows.
        nodes: A pair for each node: its values, and how many of them are null.
        buffers: A pair for each buffer: where it begins in the body, and its bytes.
    """

    body_length: int
    length: int
    nodes: int
    buffers: int


def schema_message(fields: Sequence[Field], metadata: Mapping[bytes, bytes]) -> bytes:
    """What a stream begins with.

    Args:
        fields: The columns.
        metadata: What the schema says of itself, UTF-8.
    """
    builder = flatbuffers.Builder(1024)
    columns = _offsets(builder, [_field(builder, field) for field in fields])
    pairs = _offsets(builder, [_key_value(builder, key, value) for key, value in metadata.items()]) if metadata else 0
    builder.StartObject(4)  # endianness is left out: little
    builder.PrependUOffsetTRelativeSlot(1, columns, 0)
    builder.PrependUOffsetTRelativeSlot(2, pairs, 0)
    return _message(builder, _SCHEMA, builder.EndObject())


def batch_message(nodes: int, buffers: int) -> tuple[bytes, Places]:
    """The message of a batch of no rows, and where its numbers are.

    Args:
        nodes: How many columns there are, those inside others too.
        buffers: How many buffers they have.
    """
    builder = flatbuffers.Builder(1024)
    builder.ForceDefaults(True)  # noqa: FBT003  FlatBuffers leave out what is zero otherwise, and there would be no place for it
    placed = [_zero_pairs(builder, count) for count in (buffers, nodes)]
    builder.StartObject(4)
    builder.PrependInt64Slot(_BATCH_LENGTH, 0, 0)
    builder.PrependUOffsetTRelativeSlot(_BATCH_NODES, placed[1], 0)
    builder.PrependUOffsetTRelativeSlot(_BATCH_BUFFERS, placed[0], 0)
    message = _message(builder, _RECORD_BATCH, builder.EndObject())
    return message, _places(message)


def _message(builder: Any, kind: int, header: int) -> bytes:
    builder.StartObject(5)
    builder.PrependInt64Slot(_MESSAGE_BODY_LENGTH, 0, 0)
    builder.PrependUOffsetTRelativeSlot(_MESSAGE_HEADER, header, 0)
    builder.PrependInt16Slot(0, _VERSION_5, 0)
    builder.PrependUint8Slot(1, kind, 0)
    builder.Finish(builder.EndObject())
    made = bytes(builder.Output())
    made += bytes(-len(made) % _ALIGNED)
    return struct.pack("<Ii", _CONTINUED, len(made)) + made


def _field(builder: Any, field: Field) -> int:
    children = _offsets(builder, [_field(builder, child) for child in _children(field.type)])
    name = builder.CreateString(field.name)
    member, kind = _type(builder, field.type)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependBoolSlot(1, True, False)  # noqa: FBT003  nullable, as pyarrow's fields are
    builder.PrependUint8Slot(2, member, 0)
    builder.PrependUOffsetTRelativeSlot(3, kind, 0)
    builder.PrependUOffsetTRelativeSlot(5, children, 0)
    return int(builder.EndObject())


def _children(kind: Type) -> Sequence[Field]:
    if isinstance(kind, StructOf):
        return kind.fields
    return [Field(_LIST_ITEM, kind.item)] if isinstance(kind, FixedSizeList) else []


def _type(builder: Any, kind: Type) -> tuple[int, int]:
    """The member of the union, and its table."""
    if isinstance(kind, Number) and kind.kind == "float":
        builder.StartObject(1)
        builder.PrependInt16Slot(0, _PRECISIONS[kind.bits], 0)
        member = _FLOATING_POINT
    elif isinstance(kind, Number):
        builder.StartObject(2)
        builder.PrependInt32Slot(0, kind.bits, 0)
        builder.PrependBoolSlot(1, kind.kind == "int", False)  # noqa: FBT003  the default
        member = _INT
    elif isinstance(kind, FixedSizeList):
        builder.StartObject(1)
        builder.PrependInt32Slot(0, kind.size, 0)
        member = _FIXED_SIZE_LIST
    else:
        builder.StartObject(0)
        member = _UTF8 if isinstance(kind, Utf8) else _STRUCT
    return member, int(builder.EndObject())


def _key_value(builder: Any, key: bytes, value: bytes) -> int:
    texts = [builder.CreateString(text) for text in (key, value)]
    builder.StartObject(2)
    for n, text in enumerate(texts):
        builder.PrependUOffsetTRelativeSlot(n, text, 0)
    return int(builder.EndObject())


def _offsets(builder: Any, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):  # FlatBuffers are written from their end
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _zero_pairs(builder: Any, count: int) -> int:
    builder.StartVector(_PAIR_BYTES, count, 8)
    for _ in range(2 * count):
        builder.PrependInt64(0)
    return int(builder.EndVector())


def _places(message: bytes) -> Places:
    root = 8 + _u32(message, 8)
    header = _follow(message, _place(message, root, _MESSAGE_HEADER))
    return Places(
        body_length=_place(message, root, _MESSAGE_BODY_LENGTH),
        length=_place(message, header, _BATCH_LENGTH),
        nodes=_follow(message, _place(message, header, _BATCH_NODES)) + 4,
        buffers=_follow(message, _place(message, header, _BATCH_BUFFERS)) + 4,
    )


def _u32(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 4], "little")


def _follow(message: bytes, at: int) -> int:
    return at + _u32(message, at)


def _place(message: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is: its vtable, which lies before or behind, holds the distance from the table."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    return int(table + struct.unpack_from("<H", message, vtable + 4 + 2 * number)[0])
