"""The log's files on object storage, for a fleet: each host ships what it has, under the same relative names.

A file is uploaded, then compared with what arrived; only then a marker beside the local file says so, and a day later the local
file goes. Uploading again changes nothing. While the storage is away, uploads are tried again after ever longer waits, and the
local files are all still there.

A host without pyarrow makes no files: it ships finished segments as they are, and each goes here as soon as it arrived. Who makes
files of them there is `ekiben.monitoring.intake`. Before an upload begins, a mark says so: from then on the segment must end there
and nowhere else, even where pyarrow is installed meanwhile, as it may have arrived when the upload failed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ekiben.errors import LogError
from ekiben.monitoring.log_folder import LogFile, LogFolder, LogPart, TailSegment
from ekiben.monitoring.log_storage import LogStorage

LOCAL_FOR_S: Final = 86_400.0
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 300.0


class Marker(msgspec.Struct, frozen=True):
    """What says that a local file was shipped.

    Attributes:
        to: The URI.
        time: When it was verified, seconds since the epoch.
    """

    to: str
    time: float


class Shipping:
    """Ships the local files of all models, and segments.

    Args:
        folder: The local log.
        storage: Where they go.
        spread: A number in [0, 1), so that hosts do not all come back at once.
    """

    def __init__(self, folder: LogFolder, storage: LogStorage, *, spread: Callable[[], float] = random.random) -> None:
        self._folder = folder
        self._storage = storage
        self._spread = spread
        self._wait_s = 0.0
        self._next = 0.0

    def unshipped(self, model: str) -> list[LogFile]:
        """Local files of a model that were not shipped to this place yet."""
        return [file for file in self._folder.files(model) if self._marker(file) is None]

    def ship(self, model: str, *, now: float) -> list[LogFile]:
        """Uploads what is new of a model; returns what arrived. During the wait after a failure it does nothing.

        Args:
            model: The model.
            now: Seconds since the epoch.

        Raises:
            LogError: The storage does not answer; what arrived until then is shipped.
            OSError: A local file cannot be read or marked.
        """
        return [file for file in self.unshipped(model) if self.ship_file(file, now=now)] if now >= self._next else []

    def ship_file(self, file: LogFile, *, now: float) -> bool:
        """Uploads one file; returns whether it is there now. During the wait after a failure it does nothing.

        Args:
            file: The file.
            now: Seconds since the epoch.

        Raises:
            LogError: The storage does not answer.
            OSError: The file cannot be read or marked.
        """
        if self._marker(file) is not None:
            return True
        if now < self._next:
            return False
        self._upload(self._folder.file(file), file, now)
        self._folder.marker(file).write_bytes(msgspec.json.encode(Marker(self._storage.uri, now)))
        return True

    def ship_segments(self, model: str, *, now: float, only_begun: bool = False) -> list[TailSegment]:
        """Uploads finished segments of a model as they are, and deletes each here once it arrived; returns them.

        Args:
            model: The model.
            now: Seconds since the epoch. During the wait after a failure nothing is done.
            only_begun: Those alone whose upload began before; the others become files here.

        Raises:
            LogError: The storage does not answer; what arrived until then is shipped.
            OSError: A segment cannot be read, marked or deleted.
        """
        if now < self._next:
            return []
        begun, shipped = self._folder.shipping_marks(model), []
        for segment in self._folder.finished(model, now=now):
            if only_begun and segment.name not in begun:
                continue
            if segment.size_bytes:
                self._folder.shipping_mark(segment).touch()
                self._upload(self._folder.segment(segment), segment, now)
                shipped.append(segment)
            self._folder.remove_segment(segment)
        there = {segment.name for segment in self._folder.segments(model)}
        for name, mark in begun.items():  # of whoever ended between a segment and its mark
            if name not in there:
                mark.unlink(missing_ok=True)
        return shipped

    def tidy(self, model: str, *, now: float) -> list[LogFile]:
        """Deletes local files that were shipped more than a day ago; returns them.

        Raises:
            OSError: One cannot be deleted.
        """
        gone = []
        for file in self._folder.files(model):
            marker = self._marker(file)
            if marker is not None and now - marker.time >= LOCAL_FOR_S:
                self._folder.remove(file)
                gone.append(file)
        return gone

    def _upload(self, local: Path, part: LogPart, now: float) -> None:
        try:
            self._storage.upload(local, part)
        except LogError:
            self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s or _FIRST_WAIT_S)
            self._next = now + self._wait_s * (1 + self._spread() / 4)
            raise
        self._wait_s = 0.0

    def _marker(self, file: LogFile) -> Marker | None:
        try:
            marker = msgspec.json.decode(self._folder.marker(file).read_bytes(), type=Marker)
        except (FileNotFoundError, msgspec.MsgspecError):  # none, or one whose writer was killed: shipping again does no harm
            return None
        return marker if marker.to == self._storage.uri else None
