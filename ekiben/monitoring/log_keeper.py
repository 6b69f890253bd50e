"""What must be done to the log now and then, on each host that writes one: compaction, shipping, retention.

A host without pyarrow, say a container of the image that serves, cannot compact: there finished segments are shipped as they are,
and where the log is shipped nowhere, they stay. Age and budget hold for segments too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec

from ekiben.errors import LogError
from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.kept import Kept
from ekiben.monitoring.log_folder import LogFile, LogFolder, LogPart, open_folder, segment_date
from ekiben.monitoring.log_storage import LogStorage, open_storage
from ekiben.monitoring.retention import oldest_date, outlived
from ekiben.monitoring.shipping import Shipping
from ekiben.settings import Settings

logger = logging.getLogger("ekiben.log")


class LogKeeper:
    """Keeps one host's log.

    Args:
        folder: The log.
        specs: What a model wants kept, by its name; None for one that is not known here, whose files stay for the default time.
        storage: Where files are shipped to, if anywhere.
        compacts: Whether it makes files of segments, for which pyarrow must be installed.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        folder: LogFolder,
        specs: Callable[[str], LogSpec | None],
        *,
        storage: LogStorage | None = None,
        compacts: bool = True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._specs = specs
        self._storage = storage
        self._shipping = None if storage is None else Shipping(folder, storage)
        self._compacts = compacts
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

    def take_in(self, goes_on: Callable[[], bool] = lambda: True) -> Kept:
        """Makes files of what hosts without pyarrow shipped; one monitor of a fleet need do so, and several do no harm.

        Args:
            goes_on: Asked before each segment; where it says no, the rest is left.

        Raises:
            LogError: The storage does not answer.
            OSError: The folder cannot be made or locked.
        """
        kept = Kept()
        if self._storage is None or self._shipping is None or not self._compacts:
            return kept
        from ekiben.monitoring.intake import Intake  # noqa: PLC0415  needs pyarrow

        intake = Intake(self._folder, self._storage, self._shipping)
        with self._folder.lock() as is_ours:
            if not is_ours:
                kept.is_busy = True
                return kept
            for model in self._storage.models():
                self._works(lambda model, kept: intake.run(model, now=self._wall(), goes_on=goes_on, done=kept), model, kept)
        return kept

    def _works(self, do: Callable[[str, Kept], None], model: str, kept: Kept) -> bool:
        try:
            do(model, kept)
        except (LogError, OSError) as e:
            logger.warning("%s: %s", model, e)
            kept.problems.append(f"{model}: {e}")
            return False
        return True

    def _compact(self, model: str, kept: Kept) -> None:
        if not self._compacts:
            return
        from ekiben.monitoring.compaction import compact  # noqa: PLC0415  needs pyarrow

        begun = self._folder.shipping_marks(model) if self._shipping is not None else ()
        compact(self._folder, model, now=self._wall(), done=kept.compacted, leave=begun)

    def _ship(self, model: str, kept: Kept) -> None:
        if self._shipping is None:
            return
        now = self._wall()
        kept.tidied_files += len(self._shipping.tidy(model, now=now))
        try:
            kept.shipped_segments += len(self._shipping.ship_segments(model, now=now, only_begun=self._compacts))
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
        here: list[LogPart] = [*self._folder.files(model), *self._folder.finished(model, now=now)]
        local = {part.relative: part for part in here}
        remote = {part.relative: part for part in self._stored(model, now)}
        for part in outlived(list({**remote, **local}.values()), spec, now=now):
            if part.relative in remote and self._storage is not None:
                self._storage.remove(part)
            if part.relative in local:
                self._remove(part, kept)
            kept.expired_files += 1
            kept.expired_bytes += part.size_bytes
        for segment in self._folder.damaged(model):
            if segment_date(segment) < oldest_date(spec, now=now):
                segment.unlink()

    def _remove(self, part: LogPart, kept: Kept) -> None:
        if isinstance(part, LogFile):
            kept.expired_rows += _rows(self._folder, part) if self._compacts else 0
            self._folder.remove(part)
        else:
            self._folder.remove_segment(part)

    def _stored(self, model: str, now: float) -> list[LogPart]:
        """What was shipped, once an hour; none while the storage is away, where nothing can be deleted either."""
        hour = time.strftime("%Y-%m-%d %H", time.gmtime(now))
        if self._storage is None or self._remote_checked.get(model) == hour:
            return []
        try:
            found: list[LogPart] = [*self._storage.files(model), *self._storage.segments(model)]
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
        LogError: The library for the place it is shipped to is not installed, or that place is the log itself.
    """
    folder, storage = open_folder(settings), open_storage(settings.log_uri)
    if storage is not None and storage.disk is not None and storage.disk.resolve() == folder.path.resolve():
        raise LogError(f"EKIBEN_LOG_URI is {storage.uri}, which is this host's own log; name another place, or none")
    compacts = find_spec("pyarrow") is not None
    return LogKeeper(folder, specs, storage=storage, compacts=compacts, wall=wall)


def _rows(folder: LogFolder, file: LogFile) -> int:
    import pyarrow as pa  # noqa: PLC0415  who does not compact does not ask
    import pyarrow.parquet as pq  # noqa: PLC0415  as above

    try:
        return int(pq.read_metadata(folder.file(file)).num_rows)
    except (OSError, pa.ArrowException):  # it goes in any case
        return 0
