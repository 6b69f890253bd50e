"""The folder of the inference log: which segments and which Parquet files there are of which model and date.

    EKIBEN_HOME/inference_log/
        tail/model=<model>/<date>-….arrows           segments, as workers write them
        tail/model=<model>/.<segment>.shipping       a segment that is shipped as it is; see `ekiben.monitoring.shipping`
        model=<model>/date=<date>/<name>.parquet     what became of finished segments
        model=<model>/date=<date>/.<name>.shipped    to where a file was shipped, and when
        model=<model>/date=<date>/.<name>.tmp        a file that is being written, or was when its writer died
        tail/….damaged                               a segment that cannot be read, kept for people as long as its rows would be
        .lock                                        held by the one process of the host that changes the above

Dates are UTC. A file never changes once it has its name, and a Parquet file names the segments that it was made of, so that
a row that is in both for a moment counts once. A file of one segment says so in its own name already, see `digest_of`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from ekiben.settings import Settings

TAIL: Final = "tail"
DAMAGED: Final = ".damaged"
_MODEL: Final = "model="
_DATE: Final = "date="
_SEGMENT: Final = ".arrows"
_FILE: Final = ".parquet"
_SHIPPING: Final = ".shipping"
_DAY_S: Final = 86_400
_YOUNG_S: Final = 60.0


class LogFile(msgspec.Struct, frozen=True, order=True):
    """A Parquet file of the log.

    Attributes:
        model: Whose rows it holds.
        date: On which day they were answered, ``YYYY-MM-DD``.
        name: Its name in the partition; unique among all hosts.
        size_bytes: Its size.
    """

    model: str
    date: str
    name: str
    size_bytes: int = 0

    @property
    def relative(self) -> str:
        """Its path below the log, here and where it is shipped to."""
        return f"{_MODEL}{self.model}/{_DATE}{self.date}/{self.name}"


class TailSegment(msgspec.Struct, frozen=True, order=True):
    """A finished segment: here, or where it was shipped to as it is.

    Attributes:
        model: Whose rows it holds.
        name: Its name, which begins with the date; unique among all hosts.
        size_bytes: Its size.
        time: When its last row was written, seconds since the epoch; 0 where that is not known.
    """

    model: str
    name: str
    size_bytes: int = 0
    time: float = 0.0

    @property
    def date(self) -> str:
        """On which day its rows were answered, ``YYYY-MM-DD``."""
        return self.name[: len("YYYY-MM-DD")]

    @property
    def relative(self) -> str:
        """Its path below the log, here and where it is shipped to."""
        return f"{TAIL}/{_MODEL}{self.model}/{self.name}"


LogPart = LogFile | TailSegment
"""What is deleted, shipped and counted as one."""


class LogFolder:
    """What is where.

    Args:
        path: The folder; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def models(self) -> list[str]:
        """Models of which there is anything."""
        found = {*_values(self.path, _MODEL), *_values(self.path / TAIL, _MODEL)}
        return sorted(found)

    def segments(self, model: str) -> list[Path]:
        """The segments of a model, finished or not, by name."""
        return sorted(entry for entry in _entries(self.path / TAIL / f"{_MODEL}{model}") if entry.suffix == _SEGMENT)

    def finished(self, model: str, *, now: float) -> list[TailSegment]:
        """The segments of a model that nobody writes any more, by name; ``now`` is seconds since the epoch.

        Raises:
            OSError: One cannot be looked at.
        """
        found = []
        for path in self.segments(model):
            if path.is_file() and is_finished(path, now=now):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    found.append(TailSegment(model, path.name, stat.st_size, stat.st_mtime))
        return found

    def segment(self, segment: TailSegment) -> Path:
        """Where a segment is, or goes."""
        return self.path / segment.relative

    def shipping_mark(self, segment: TailSegment) -> Path:
        """The file that says that a segment may be where it is shipped to already."""
        return self.segment(segment).with_name(f".{segment.name}{_SHIPPING}")

    def shipping_marks(self, model: str) -> dict[str, Path]:
        """Segment → its mark, those too whose segment has gone."""
        marks = [entry for entry in _entries(self.path / TAIL / f"{_MODEL}{model}") if entry.suffix == _SHIPPING]
        return {mark.name.removeprefix(".").removesuffix(_SHIPPING): mark for mark in marks}

    def remove_segment(self, segment: TailSegment) -> None:
        """Deletes a segment.

        Raises:
            OSError: It cannot be deleted.
        """
        self.segment(segment).unlink(missing_ok=True)
        self.shipping_mark(segment).unlink(missing_ok=True)

    def damaged(self, model: str) -> list[Path]:
        """Segments of a model that were moved aside, by name."""
        return sorted(entry for entry in _entries(self.path / TAIL / f"{_MODEL}{model}") if entry.suffix == DAMAGED)

    def dates(self, model: str) -> list[str]:
        """Dates of which there are partitions of a model."""
        return sorted(_values(self.path / f"{_MODEL}{model}", _DATE))

    def files(self, model: str, *, since: str = "", until: str = "9") -> list[LogFile]:
        """The Parquet files of a model, oldest date first; of dates from `since` to `until` alone, both included."""
        found = []
        for date in self.dates(model):
            if since <= date <= until:
                found += self._files_of(model, date)
        return found

    def file(self, file: LogFile) -> Path:
        """Where a Parquet file is, or goes."""
        return self.path / file.relative

    def marker(self, file: LogFile) -> Path:
        """The file that says to where a Parquet file was shipped."""
        return self.file(file).with_name(f".{file.name}.shipped")

    def remove(self, file: LogFile) -> None:
        """Deletes a Parquet file, and its partition when it was the last.

        Raises:
            OSError: It cannot be deleted.
        """
        path = self.file(file)
        path.unlink(missing_ok=True)
        self.marker(file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty
            path.parent.rmdir()

    def temporaries(self, model: str) -> list[Path]:
        """Files that somebody was writing; under the lock that is nobody any more."""
        return sorted((self.path / f"{_MODEL}{model}").glob(f"{_DATE}*/.*.tmp"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Keeps other processes of this host from changing the folder; gives whether it is ours, and never waits.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(file)

    def _files_of(self, model: str, date: str) -> list[LogFile]:
        found = []
        for entry in _entries(self.path / f"{_MODEL}{model}" / f"{_DATE}{date}"):
            if entry.suffix == _FILE and not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # retention had it meanwhile
                    found.append(LogFile(model, date, entry.name, entry.stat().st_size))
        return sorted(found)


def open_folder(settings: Settings) -> LogFolder:
    """The log's folder that the settings name."""
    return LogFolder(settings.home / "inference_log")


def date_of(time_s: float) -> str:
    """The UTC date of a time, ``YYYY-MM-DD``; before and after all dates for times that have none."""
    from datetime import UTC, datetime  # noqa: PLC0415  beside its one use

    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "0" if time_s < 0 else "9"


def dates_around(since: float, until: float) -> tuple[str, str]:
    """The dates of the partitions in which rows of [since, until) can be.

    A day more on both sides: a batch at midnight is in the partition of its segment.
    """
    return date_of(since - _DAY_S), date_of(until + _DAY_S)


def is_finished(segment: Path, *, now: float) -> bool:
    """Whether nobody writes a segment any more: its writer holds a lock on it.

    Between a file's beginning and its lock is a moment. So an empty file is nobody's only after a minute.

    Args:
        segment: The file.
        now: Seconds since the epoch.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        file = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(file)
        if found.st_size == 0 and now - found.st_mtime < _YOUNG_S:
            return False
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: whoever else looks is not taken for the writer
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def digest_of(segments: Sequence[str]) -> str:
    """What a file's name has of the names of its segments, in order: whoever makes a file of the same gives it the same name."""
    return blake2b("\n".join(segments).encode(), digest_size=8).hexdigest()


def digest_in(file: str) -> str:
    """The `digest_of` in a Parquet file's name."""
    return file.removesuffix(_FILE).rpartition("-")[2]


def segment_date(segment: Path) -> str:
    """The date that a segment's name begins with."""
    return segment.name[: len("YYYY-MM-DD")]


def partition_of(relative: str) -> tuple[str, str, str] | None:
    """Model, date and name of a Parquet file's path below the log; None where it is none."""
    parts = relative.split("/")
    is_file = len(parts) == len(("model", "date", "name")) and parts[0].startswith(_MODEL) and parts[1].startswith(_DATE)
    if not is_file or not parts[2].endswith(_FILE) or parts[2].startswith("."):
        return None
    return parts[0].removeprefix(_MODEL), parts[1].removeprefix(_DATE), parts[2]


def is_segment(name: str) -> bool:
    """Whether a file in the tail is a segment, by its name."""
    return name.endswith(_SEGMENT) and not name.startswith(".")


def _values(folder: Path, prefix: str) -> list[str]:
    return [entry.name.removeprefix(prefix) for entry in _entries(folder) if entry.name.startswith(prefix)]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
