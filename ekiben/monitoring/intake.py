"""Segments that hosts shipped as they are become Parquet files where they were shipped to.

A server's image has no pyarrow: its host ships finished segments (`ekiben.monitoring.shipping`), and a monitor elsewhere takes
them in. It makes one file of each segment. The file's name follows from the segment's name and first row, so that whoever
makes it makes the same: two monitors over one place double no row, whether or not they know of each other. In this order, so
that a crash at any point loses no row either: the file is written here, uploaded and compared, and then the segment goes. A
segment whose file is there already, say because its host uploaded it once more after a crash, goes at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ekiben.monitoring.compaction import write_file
from ekiben.monitoring.kept import Kept
from ekiben.monitoring.log_folder import DAMAGED, LogFile, LogFolder, TailSegment, digest_in, digest_of
from ekiben.monitoring.log_segments import DamagedSegment, segment_of
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.shipping import Shipping

logger = logging.getLogger("ekiben.log")


class Intake:
    """Takes in what was shipped to a place.

    Args:
        folder: The local log; only one process may change it, see `LogFolder.lock`.
        storage: The place.
        shipping: Ships files to it.
    """

    def __init__(self, folder: LogFolder, storage: LogStorage, shipping: Shipping) -> None:
        self._folder = folder
        self._storage = storage
        self._shipping = shipping

    def run(self, model: str, *, now: float, goes_on: Callable[[], bool], done: Kept) -> None:
        """Makes files of a model's segments.

        Args:
            model: The model.
            now: Seconds since the epoch.
            goes_on: Asked before each segment; where it says no, the rest is left.
            done: What is done is added to it.

        Raises:
            LogError: The storage does not answer, or rows cannot become a file.
            OSError: A local file cannot be read or written.
        """
        segments = self._storage.segments(model)
        if not segments:
            return
        dates = {segment.date for segment in segments}
        first, last = min(dates), max(dates)
        there = {digest_in(file.name) for file in self._storage.files(model, since=first, until=last)}
        here = {digest_in(file.name): file for file in self._folder.files(model, since=first, until=last)}
        for segment in segments:
            if not goes_on():
                return
            digest = digest_of([segment.name])
            if digest in there or self._is_shipped(segment, here.get(digest), now, done):
                self._storage.remove(segment)

    def _is_shipped(self, segment: TailSegment, file: LogFile | None, now: float, done: Kept) -> bool:
        """Whether what a segment holds is elsewhere by now, so that it may go."""
        if file is None:
            data = self._storage.read(segment)
            if data is None:
                return False
            try:
                read = segment_of(segment.name, data, where=f"{self._storage.uri}/{segment.relative}")
            except DamagedSegment as e:
                self._keep_damaged(segment, data, e, done)
                return True
            done.compacted.torn_bytes += read.torn_bytes
            if read.head is None or not read.raw:
                return True
            file, rows = write_file(self._folder, segment.model, segment.date, [read])
            done.taken_in += 1
            done.compacted.files += 1
            done.compacted.segments += 1
            done.compacted.rows += rows
        if not self._shipping.ship_file(file, now=now):
            return False
        done.shipped_files += 1
        done.shipped_bytes += file.size_bytes
        return True

    def _keep_damaged(self, segment: TailSegment, data: bytes, error: DamagedSegment, done: Kept) -> None:
        aside = self._folder.segment(segment).with_name(segment.name + DAMAGED)
        logger.error("%s; it is kept here as %s", error, aside)
        aside.parent.mkdir(parents=True, exist_ok=True)
        made = aside.with_name(f".{aside.name}.tmp")
        made.write_bytes(data)
        made.rename(aside)
        done.compacted.damaged.append(segment.name)
