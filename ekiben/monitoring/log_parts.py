"""The parts a log consists of at one moment: segments that are written here, segments that were shipped, files here, files that were.

They are looked at in this order, which is that in which rows travel. So a row that moves on meanwhile is met at least once,
and by the names of segments and files it is known where it was met before.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow.parquet as pq

from ekiben.errors import LogError
from ekiben.monitoring.compaction import segments_in
from ekiben.monitoring.log_folder import LogFile, LogFolder, dates_around, digest_in, digest_of, segment_date
from ekiben.monitoring.log_segments import DamagedSegment, LogSegment, read_segment, segment_of
from ekiben.monitoring.log_storage import LogStorage

logger = logging.getLogger("ekiben.log")


class Parts(msgspec.Struct):
    """What there is of a model and a time.

    Attributes:
        segments: Those with rows that no file has yet, here and where other hosts shipped theirs to.
        local: Files here.
        remote: Files that are only where they were shipped to.
        problem: Why what was shipped is missing; empty where none are.
    """

    segments: list[LogSegment]
    local: list[LogFile]
    remote: list[LogFile]
    problem: str = ""


class LogParts:
    """Finds the parts.

    Args:
        folder: The local log.
        storage: Where files are shipped to, if anywhere.
    """

    def __init__(self, folder: LogFolder, storage: LogStorage | None = None) -> None:
        self.folder = folder
        self.storage = storage
        self._segments_of: dict[str, list[str]] = {}

    def models(self) -> list[str]:
        """Models of which there is anything here or where it is shipped to; those here alone while that is away."""
        found = set(self.folder.models())
        if self.storage is not None:
            try:
                found |= set(self.storage.models())
            except LogError as e:
                logger.warning("models of which there is nothing here are left out: %s", e)
        return sorted(found)

    def find(self, model: str, *, since: float, until: float, fields: Sequence[str] | None = None) -> Parts:
        """What there is of a model's rows in [since, until), and of the days around.

        Args:
            model: The model.
            since: When they begin, seconds since the epoch.
            until: When they end.
            fields: Raw columns of segments that are wanted; None for all.

        Raises:
            LogError: A segment is damaged, or cannot be read.
        """
        first, last = dates_around(since, until)
        segments = list(self._read_segments(model, first, last, fields))
        shipped, problem = self._shipped_segments(model, first, last, fields, {segment.name for segment in segments})
        segments = [segment for segment in (*segments, *shipped) if segment.raw]
        local = self.folder.files(model, since=first, until=last)
        there = self._compacted(local, {segment.name for segment in segments})
        remote, problem = ([], problem) if problem else self._remote(model, first, last)
        of_one = {digest_in(file.name) for file in (*local, *remote)}
        segments = [segment for segment in segments if segment.name not in there and digest_of([segment.name]) not in of_one]
        names = {file.relative for file in local}
        return Parts(segments, local, [file for file in remote if file.relative not in names], problem)

    @contextlib.contextmanager
    def opened(self, file: LogFile) -> Iterator[pq.ParquetFile | None]:
        """A file here, or where it was shipped to when it has gone from here meanwhile; None where it is in neither place.

        Raises:
            LogError: The storage does not answer.
            OSError: It cannot be read.
        """
        with contextlib.ExitStack() as stack:
            try:
                source: Any = stack.enter_context(self.folder.file(file).open("rb"))
            except FileNotFoundError:
                source = self._opened_remotely(file, stack)
            yield None if source is None else stack.enter_context(pq.ParquetFile(source))

    def _opened_remotely(self, file: LogFile, stack: contextlib.ExitStack) -> Any:
        if self.storage is None:
            return None
        try:
            return stack.enter_context(self.storage.fs.open(self.storage.path(file), "rb"))
        except FileNotFoundError:
            return None
        except Exception as e:  # whatever the storage's library raises
            raise LogError(f"{self.storage.uri} does not work, reading {file.relative}: {str(e) or type(e).__name__}") from e

    def _read_segments(self, model: str, first: str, last: str, fields: Sequence[str] | None) -> Iterator[LogSegment]:
        for path in self.folder.segments(model):
            if first <= segment_date(path) <= last:
                try:
                    yield read_segment(path, fields)
                except FileNotFoundError:  # it is in a file by now, which is found next
                    continue
                except OSError as e:
                    raise LogError(f"{path} cannot be read: {e.strerror or e}") from e

    def _shipped_segments(
        self, model: str, first: str, last: str, fields: Sequence[str] | None, here: set[str]
    ) -> tuple[list[LogSegment], str]:
        """Segments that hosts without pyarrow shipped, and why they are missing; of one that is here as well, that here counts."""
        if self.storage is None:
            return [], ""
        found = []
        try:
            for segment in self.storage.segments(model):
                if first <= segment.date <= last and segment.name not in here:
                    data = self.storage.read(segment)
                    if data is not None:  # otherwise it is in a file by now, which is found next
                        found.append(segment_of(segment.name, data, fields, where=f"{self.storage.uri}/{segment.relative}"))
        except DamagedSegment:
            raise
        except LogError as e:
            logger.warning("rows that are nowhere but there are left out: %s", e)
            return [], str(e)
        return found, ""

    def _compacted(self, local: Sequence[LogFile], segments: set[str]) -> set[str]:
        """Which of the segments are in a file already."""
        dates = {name[: len("YYYY-MM-DD")] for name in segments}
        found: set[str] = set()
        for file in local:
            if file.date in dates:
                if file.relative not in self._segments_of:
                    with self.opened(file) as parquet:
                        metadata = None if parquet is None else parquet.schema_arrow.metadata
                    self._segments_of[file.relative] = segments_in(metadata)
                found |= segments & set(self._segments_of[file.relative])
        return found

    def _remote(self, model: str, first: str, last: str) -> tuple[list[LogFile], str]:
        if self.storage is None:
            return [], ""
        try:
            return self.storage.files(model, since=first, until=last), ""
        except LogError as e:
            logger.warning("rows that are nowhere but there are left out: %s", e)
            return [], str(e)
