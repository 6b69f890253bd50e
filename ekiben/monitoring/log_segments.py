"""Segments of the inference log, read however they end.

A segment is an Arrow IPC stream. Its worker may have been killed, or the power may have failed, in the middle of a message:
then everything up to the last whole record batch is read, and what is behind it was never acknowledged whole. A stream that is
wrong in any other way is damaged, and that is an error.

Framing: https://arrow.apache.org/docs/format/Columnar.html, "Encapsulated message format".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from ekiben.errors import LogError
from ekiben.monitoring.log_schema import SegmentHead
from ekiben.monitoring.log_table import head_of

_CONTINUED: Final = b"\xff\xff\xff\xff"
_PREFIX_BYTES: Final = 8
_BODY_LENGTH_FIELD: Final = 3


class LogSegment(msgspec.Struct, frozen=True):
    """What a segment holds.

    Attributes:
        name: The name of its file.
        head: What its columns mean; None where its worker did not get so far.
        raw: Its rows, of `ekiben.monitoring.log_schema.raw_columns`; None as well then.
        size_bytes: Of the file.
        torn_bytes: How many bytes at its end are no whole message.
    """

    name: str
    head: SegmentHead | None
    raw: pa.Table | None
    size_bytes: int
    torn_bytes: int


class DamagedSegment(LogError):
    """A segment is wrong in a way that no interrupted write explains."""


def read_segment(segment: Path, fields: Sequence[str] | None = None) -> LogSegment:
    """Reads the whole record batches of a segment.

    Args:
        segment: The file.
        fields: Raw columns to read; None for all.

    Raises:
        DamagedSegment: It is wrong otherwise than by its end missing.
        OSError: It cannot be read, or is not there any more.
    """
    return segment_of(segment.name, segment.read_bytes(), fields, where=str(segment))


def segment_of(name: str, data: bytes, fields: Sequence[str] | None = None, *, where: str = "") -> LogSegment:
    """The whole record batches in the bytes of a segment.

    Args:
        name: The name of its file.
        data: What is in it.
        fields: Raw columns to read; None for all.
        where: What an error calls it.

    Raises:
        DamagedSegment: It is wrong otherwise than by its end missing.
    """
    try:
        end = _end_of_messages(data)
        if end == 0:
            return LogSegment(name, None, None, len(data), len(data))
        buffer = pa.py_buffer(data).slice(0, end)
        schema = pa.ipc.open_stream(buffer).schema
        head = head_of(schema)
        wanted = None if fields is None else [n for n, name in enumerate(schema.names) if name in fields]
        raw = pa.ipc.open_stream(buffer, options=pa.ipc.IpcReadOptions(included_fields=wanted)).read_all()
        raw.validate(full=True)
        raw = raw.combine_chunks()  # a batch is a request's rows, or few more: everything else would look at each of them
    except (ValueError, OSError, pa.ArrowException, msgspec.MsgspecError) as e:
        raise DamagedSegment(f"{where or name} is damaged, not merely cut off: {e}; move it away to go on without its rows") from e
    return LogSegment(name, head, raw, len(data), len(data) - end)


def _end_of_messages(data: bytes) -> int:
    """Where the last whole message ends.

    Raises:
        ValueError: There is something that is no message, nor the beginning of one.
    """
    at, size = 0, len(data)
    while at < size:
        prefix = data[at : at + _PREFIX_BYTES]
        if not any(prefix) or prefix == _CONTINUED + bytes(4):  # a file that grew before its bytes came; the stream's end
            if data[at:].removeprefix(_CONTINUED).strip(b"\0"):
                raise ValueError(f"after its end, at byte {at}, there is something more")
            return at
        if prefix[:4] != _CONTINUED[: len(prefix)]:
            raise ValueError(f"at byte {at} there is no message")
        if len(prefix) < _PREFIX_BYTES:
            return at
        end = _message_end(data, at)
        if end is None or end > size:
            return at
        at = end
    return at


def _message_end(data: bytes, at: int) -> int | None:
    """Where a message ends that begins there; None where its metadata is cut off.

    Raises:
        ValueError: Its metadata is none.
    """
    length = int.from_bytes(data[at + 4 : at + _PREFIX_BYTES], "little", signed=True)
    begin = at + _PREFIX_BYTES
    if begin + length > len(data):
        return None
    body = _body_bytes(data[begin : begin + max(length, 0)])
    if body < 0:
        if not data[begin:].strip(b"\0"):
            return None  # the file grew before its bytes came
        raise ValueError(f"the message at byte {at} has no metadata that can be read")
    return begin + length + body


def _body_bytes(metadata: bytes) -> int:
    """The field ``bodyLength`` of a Message, a FlatBuffers table; 0 where it is left out, -1 where this is no such table."""
    try:
        (root,) = struct.unpack_from("<I", metadata, 0)
        (back,) = struct.unpack_from("<i", metadata, root)
        (vtable_bytes,) = struct.unpack_from("<H", metadata, root - back)
        if vtable_bytes < 4:  # noqa: PLR2004  it begins with two sizes of two bytes
            return -1
        entry = 4 + 2 * _BODY_LENGTH_FIELD
        (distance,) = struct.unpack_from("<H", metadata, root - back + entry) if entry < vtable_bytes else (0,)
        return int(struct.unpack_from("<q", metadata, root + distance)[0]) if distance else 0
    except struct.error:
        return -1
