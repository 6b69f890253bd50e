"""What must be done to the log now and then, on each host that writes one: compaction, shipping, retention."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ekiben.errors import LogError
from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.compaction import Compacted, compact
from ekiben.monitoring.log_folder import LogFile, LogFolder, open_folder, segment_date
from ekiben.monitoring.retention import oldest_date, outlived
from ekiben.monitoring.shipping import LogStorage, Shipping, open_storage
from ekiben.settings import Settings

logger = logging.getLogger("ekiben.log")


class Kept(msgspec.Struct):
    """What a run did.

    Attributes:
        is_busy: Another process of this host was at it, and nothing was done.
        compacted: Segments that became Parquet.
        shipped_files, shipped_bytes: Uploaded and verified.
        tidied_files: Local files that were shipped a day ago, and went.
        expired_files, expired_bytes, expired_rows: What retention deleted, here and where it is shipped; rows of local files alone.
        problems: What did not work; the rest was done all the same.
    """

    is_busy: bool = False
    compacted: Compacted = msgspec.field(default_factory=Compacted)
    shipped_files: int = 0
    shipped_bytes: int = 0
    tidied_files: int = 0
    expired_files: int = 0
    expired_bytes: int = 0
    expired_rows: int = 0
    problems: list[str] = []


class LogKeeper:
    """Keeps one host's log.

    Args:
        folder: The log.
        specs: What a model wants kept, by its name; None for one that is not known here, whose files stay for the default time.
        storage: Where files are shipped to, if anywhere.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        folder: LogFolder,
        specs: Callable[[str], LogSpec | None],
        *,
        storage: LogStorage | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._specs = specs
        self._storage = storage
        self._shipping = None if storage is None else Shipping(folder, storage)
        self._wall = wall
        self._remote_checked: dict[str, str] = {}

    def run_once(self) -> Kept:
        """Does what there is to do. One process of a host at a time does; others do nothing and say so.

        Raises:
            OSError: The folder cannot be made or locked.
        """
        kept = Kept()
        with self._folder.lock() as is_ours:
            if not is_ours:
                kept.is_busy = True
                return kept
            for model in self._folder.models():
                if self._works(self._compact, model, kept):  # a segment that is left could come back once its file has gone
                    self._works(self._ship, model, kept)
                self._works(self._expire, model, kept)
        return kept

    def _works(self, do: Callable[[str, Kept], None], model: str, kept: Kept) -> bool:
        try:
            do(model, kept)
        except (LogError, OSError, pa.ArrowException) as e:
            logger.warning("%s: %s", model, e)
            kept.problems.append(f"{model}: {e}")
            return False
        return True

    def _compact(self, model: str, kept: Kept) -> None:
        compact(self._folder, model, now=self._wall(), done=kept.compacted)

    def _ship(self, model: str, kept: Kept) -> None:
        if self._shipping is None:
            return
        now = self._wall()
        kept.tidied_files += len(self._shipping.tidy(model, now=now))
        try:
            shipped = self._shipping.ship(model, now=now)
        except LogError as e:  # an outage is no reason to keep more than the budget
            logger.warning("%s: %s; it will be tried again", model, e)
            kept.problems.append(f"{model}: {e}")
            return
        kept.shipped_files += len(shipped)
        kept.shipped_bytes += sum(file.size_bytes for file in shipped)

    def _expire(self, model: str, kept: Kept) -> None:
        spec = self._specs(model) or LogSpec()
        now = self._wall()
        local = {file.relative: file for file in self._folder.files(model)}
        remote = {file.relative: file for file in self._stored(model, now)}
        for file in outlived(list({**remote, **local}.values()), spec, now=now):
            if file.relative in remote and self._storage is not None:
                self._storage.remove(file)
            if file.relative in local:
                kept.expired_rows += _rows(self._folder, file)
                self._folder.remove(file)
            kept.expired_files += 1
            kept.expired_bytes += file.size_bytes
        for segment in self._folder.damaged(model):
            if segment_date(segment) < oldest_date(spec, now=now):
                segment.unlink()

    def _stored(self, model: str, now: float) -> list[LogFile]:
        """The shipped files, once an hour; none while the storage is away, where nothing can be deleted either."""
        hour = time.strftime("%Y-%m-%d %H", time.gmtime(now))
        if self._storage is None or self._remote_checked.get(model) == hour:
            return []
        try:
            found = self._storage.files(model)
        except LogError as e:
            logger.warning("%s: retention must wait for it: %s", model, e)
            return []
        self._remote_checked[model] = hour
        return found


def open_keeper(settings: Settings, specs: Callable[[str], LogSpec | None], *, wall: Callable[[], float] = time.time) -> LogKeeper:
    """What keeps the log that the settings name.

    Args:
        settings: The settings.
        specs: See `LogKeeper`.
        wall: Seconds since the epoch.

    Raises:
        LogError: The library for the place it is shipped to is not installed.
    """
    return LogKeeper(open_folder(settings), specs, storage=open_storage(settings.log_uri), wall=wall)


def _rows(folder: LogFolder, file: LogFile) -> int:
    try:
        return int(pq.read_metadata(folder.file(file)).num_rows)
    except (OSError, pa.ArrowException):  # it goes in any case
        return 0
