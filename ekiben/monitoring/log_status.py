"""How much there is in the inference log, and of when."""

from __future__ import annotations

import msgspec
import pyarrow.parquet as pq

from ekiben.monitoring.log_reader import LogReader
from ekiben.monitoring.shipping import Shipping


class LogStatus(msgspec.Struct, frozen=True):
    """What the log has of a model.

    Attributes:
        model: The model.
        rows: Rows, those of shadows among them.
        size_bytes: Bytes of files, here and where they were shipped to, and of segments.
        oldest, newest: When the first and last row was answered, seconds since the epoch; None without rows.
        segments: Segments that are no file yet: most of those here are being written, others were shipped by hosts without pyarrow.
        files: Files here.
        remote_files: Files that are only where they were shipped to.
        unshipped_files: Files here that were not shipped yet; None where the log is not shipped.
        problem: Why shipped files are missing in this; empty where none are.
    """

    model: str
    rows: int
    size_bytes: int
    oldest: float | None
    newest: float | None
    segments: int
    files: int
    remote_files: int
    unshipped_files: int | None
    problem: str = ""


def status_of(reader: LogReader, model: str) -> LogStatus:
    """What the log has of a model; of files it reads no more than their ends.

    Raises:
        LogError: A part of the log cannot be read.
    """
    parts, opener = reader.find(model, since=float("-inf"), until=float("inf"))
    rows, times = 0, []
    for segment in parts.segments:
        if segment.raw is not None:
            rows += segment.raw.num_rows
            found = segment.raw["time"].to_numpy()
            times += [float(found.min()) / 1e6, float(found.max()) / 1e6]
    for file in (*parts.local, *parts.remote):
        with reader.opened(file) as parquet:
            if parquet is not None:
                rows += parquet.metadata.num_rows
                times += _times(parquet)
    size = sum(file.size_bytes for file in (*parts.local, *parts.remote))
    unshipped = None if opener.storage is None else len(Shipping(opener.folder, opener.storage).unshipped(model))
    return LogStatus(
        model=model,
        rows=rows,
        size_bytes=size + sum(segment.size_bytes for segment in parts.segments),
        oldest=min(times, default=None),
        newest=max(times, default=None),
        segments=len(parts.segments),
        files=len(parts.local),
        remote_files=len(parts.remote),
        unshipped_files=unshipped,
        problem=parts.problem,
    )


def _times(parquet: pq.ParquetFile) -> list[float]:
    """The times of a file's first and last rows, by its statistics; it is sorted."""
    metadata = parquet.metadata
    at = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path == "time")
    found = [metadata.row_group(n).column(at).statistics for n in range(metadata.num_row_groups)]
    return [moment.timestamp() for statistics in found if statistics is not None for moment in (statistics.min, statistics.max)]
