"""Finished segments become Parquet files.

In this order, so that a crash at any point loses no row and doubles none: a file is written under a temporary name and synced,
gets its name, the folder is synced, and then its segments go. The file's metadata names its segments. Whoever reads a segment
that is named in a file leaves it out, and the next compaction deletes it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ekiben.errors import LogError
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import DAMAGED, LogFile, LogFolder, digest_of, is_finished, segment_date
from ekiben.monitoring.log_schema import HEAD_KEY, SegmentHead
from ekiben.monitoring.log_segments import DamagedSegment, LogSegment, read_segment
from ekiben.monitoring.log_table import table_of
from ekiben.monitoring.log_types import common_schema, fitted

logger = logging.getLogger("ekiben.log")

SEGMENTS_KEY: Final = b"ekiben.segments"
ROW_GROUP_ROWS: Final = 128 * 1024
GROUP_BYTES: Final = 256 * 2**20


def compact(folder: LogFolder, model: str, *, now: float, done: Compacted, leave: Container[str] = ()) -> None:
    """Turns what is finished of a model into Parquet. Only one process may, see `LogFolder.lock`.

    Args:
        folder: The log.
        model: The model.
        now: Seconds since the epoch.
        done: What is done is added to it.
        leave: Names of segments that are left alone.

    Raises:
        LogError: Rows cannot become a file.
        OSError: A file cannot be read, written or deleted.
    """
    for leftover in folder.temporaries(model):
        leftover.unlink(missing_ok=True)
    finished = [segment for segment in folder.segments(model) if segment.name not in leave and is_finished(segment, now=now)]
    finished = _without_compacted(folder, model, finished)
    for date in sorted({segment_date(segment) for segment in finished}):
        for group in _groups([segment for segment in finished if segment_date(segment) == date]):
            _compact_group(folder, model, date, group, done)


def write_file(folder: LogFolder, model: str, date: str, segments: list[LogSegment]) -> tuple[LogFile, int]:
    """Writes a file of segments, which then outlives a power failure; returns it and its rows.

    Args:
        folder: The log.
        model: The model.
        date: The date of its partition.
        segments: With rows each, and of one schema.

    Raises:
        LogError: Rows cannot become a file.
        OSError: It cannot be written.
    """
    names = sorted(segment.name for segment in segments)
    metadata = {HEAD_KEY: _common_head(segments).encoded(), SEGMENTS_KEY: msgspec.json.encode(names)}
    try:
        table = _sorted_rows(segments).replace_schema_metadata(metadata)
        first = table["time"][0].as_py()
        made_of = LogFile(model, date, f"{first:%H%M%S}-{digest_of(names)}.parquet")
        file = folder.file(made_of)
        made = file.with_name(f".{file.name}.tmp")
        file.parent.mkdir(parents=True, exist_ok=True)
        with made.open("wb") as f:
            pq.write_table(table, f, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            f.flush()
            os.fsync(f.fileno())
    except pa.ArrowException as e:
        raise LogError(f"{', '.join(names)} cannot become Parquet: {e}") from e
    made.rename(file)
    for changed in (file.parent, file.parent.parent, folder.path):
        _sync(changed)
    return LogFile(model, date, file.name, file.stat().st_size), int(table.num_rows)


def segments_in(metadata: dict[bytes, bytes] | None) -> list[str]:
    """The names of the segments that a Parquet file was made of, by the metadata of its schema."""
    return msgspec.json.decode((metadata or {}).get(SEGMENTS_KEY, b"[]"), type=list[str])


def _without_compacted(folder: LogFolder, model: str, segments: list[Path]) -> list[Path]:
    """Deletes segments that a file has already, of a compaction that did not get to its end; returns the others."""
    left = {segment.name: segment for segment in segments}
    for date in {segment_date(segment) for segment in segments}:
        for file in folder.files(model, since=date, until=date):
            for name in _segments_of(folder, file):
                if name in left:
                    left.pop(name).unlink(missing_ok=True)
    return list(left.values())


def _segments_of(folder: LogFolder, file: LogFile) -> list[str]:
    try:
        return segments_in(pq.read_schema(folder.file(file)).metadata)
    except pa.ArrowException as e:
        raise LogError(f"{folder.file(file)} cannot be read: {e}; move it away to go on without its rows") from e


def _groups(segments: list[Path]) -> Iterator[list[Path]]:
    """Segments that are read at once, so that memory suffices for them."""
    group: list[Path] = []
    size = 0
    for segment in segments:
        more = segment.stat().st_size
        if group and size + more > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(segment)
        size += more
    if group:
        yield group


def _compact_group(folder: LogFolder, model: str, date: str, paths: list[Path], done: Compacted) -> None:
    """One file for each schema among the segments."""
    by_head: dict[bytes, list[LogSegment]] = {}
    for path in paths:
        try:
            segment = read_segment(path)
        except DamagedSegment as e:
            logger.error("%s; it is kept as %s%s", e, path.name, DAMAGED)  # noqa: TRY400  the message says it all
            path.rename(path.with_name(path.name + DAMAGED))
            done.damaged.append(path.name)
            continue
        done.torn_bytes += segment.torn_bytes
        if segment.head is None or not segment.raw:
            path.unlink()
            continue
        by_head.setdefault(msgspec.structs.replace(segment.head, version="").encoded(), []).append(segment)
    for segments in by_head.values():
        _, rows = write_file(folder, model, date, segments)
        done.files += 1
        done.segments += len(segments)
        done.rows += rows
        for segment in segments:
            (paths[0].parent / segment.name).unlink()


def _sorted_rows(segments: list[LogSegment]) -> pa.Table:
    tables = [table_of(segment.raw, segment.head) for segment in segments if segment.raw is not None and segment.head is not None]
    schema = common_schema(table.schema for table in tables)
    table = pa.concat_tables([fitted(table, schema) for table in tables]).combine_chunks()
    return table.take(pc.sort_indices(table["time"]))  # stable: rows of a batch stay in their order


def _common_head(segments: list[LogSegment]) -> SegmentHead:
    """The head of the segments; without a version where they are of several."""
    heads = [segment.head for segment in segments if segment.head is not None]
    versions = {head.version for head in heads}
    return heads[0] if len(versions) == 1 else msgspec.structs.replace(heads[0], version="")


def _sync(folder: Path) -> None:
    """Makes names in a folder outlive a power failure."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
