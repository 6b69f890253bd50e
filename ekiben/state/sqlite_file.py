"""The control database as a SQLite file, in WAL mode: one writes, and all others read meanwhile."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import quote

from sqlalchemy import URL, ColumnElement, Connection, Double, Engine, NullPool, QueuePool, create_engine, event, literal

from ekiben.errors import StateError
from ekiben.state.place import Place

_BUSY_S: Final = 5.0
_MORE_WRITERS: Final = 8
_DURABLE: Final = "ekiben_durable"
_BUSY: Final = "ekiben_busy_s"


class SqliteFile(Place):
    """A SQLite file.

    A file that was seen is never made again: where it is gone, somebody moved it or its volume is away, and an empty one in its
    place would say that nothing was ever promoted or rolled back.

    NOTE: Another file may take its place only while nobody has it open. SQLite would take the WAL of the former for its own.

    Args:
        url: Where it is.
        wall: Seconds since the epoch.
    """

    def __init__(self, url: URL, wall: Callable[[], float]) -> None:
        self.file = Path(url.database or "").absolute()
        self._wall = wall
        self._seen: Hashable | None = None
        self._lock = Lock()
        # One connection stays open: the last one that closes a database writes its WAL back, which waits for the disc.
        self.writer = create_engine(
            f"sqlite:///{self.file}",
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=_MORE_WRITERS,
            pool_timeout=_BUSY_S,
            creator=lambda: _open_for_writing(self.file, may_create=self._seen is None),
        )
        event.listen(self.writer, "begin", _begin)
        self.reader: Engine = create_engine(
            f"sqlite:///{self.file}", poolclass=NullPool, isolation_level="AUTOCOMMIT", creator=lambda: _open_for_reading(self.file)
        )
        self.remedy = f"make {self.file.parent} writable, or set EKIBEN_HOME or EKIBEN_DATABASE_URL to a place that is"

    def found(self) -> Hashable | None:
        """See `Place`."""
        seen = self._seen  # before looking: another thread may make the file in between
        try:
            stat = self.file.stat()
        except (FileNotFoundError, NotADirectoryError):
            if seen is None:
                return None
            self.close()
            raise StateError(
                f"the control database {self.file} is gone; bring it back, or restart all that use it to begin with an empty one"
            ) from None
        except OSError as e:
            raise StateError(f"the control database {self.file} cannot be reached: {e.strerror}; {self.remedy}") from e
        there = (stat.st_dev, stat.st_ino)
        with self._lock:
            if self._seen not in (None, there):
                self.close()  # those connections are to the file that was here before
            self._seen = there
        return there

    def create(self) -> None:
        """See `Place`."""
        if self._seen is not None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StateError(f"the control database's folder {self.file.parent} cannot be created: {e.strerror}; {self.remedy}") from e

    def lock(self, connection: Connection) -> None:
        """See `Place`; the transaction is the only one that writes as it is."""

    @contextmanager
    def limits(self, connection: Connection, *, durable: bool, limit_s: float) -> Iterator[None]:
        """See `Place`; what SQLite can limit is how long it waits for others."""
        connection.execution_options(**{_DURABLE: durable, _BUSY: max(limit_s, _BUSY_S)}).begin()
        yield

    def now(self) -> ColumnElement[float]:
        """See `Place`."""
        return literal(self._wall(), Double)

    def close(self) -> None:
        """See `Place`."""
        self.writer.dispose()


def _begin(connection: Connection) -> None:
    # SQLite takes this only outside of transactions. In WAL mode NORMAL loses the last of them in a power failure, no more.
    wanted = connection.get_execution_options()
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if wanted.get(_DURABLE, True) else 'NORMAL'}")
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(wanted.get(_BUSY, _BUSY_S) * 1000)}")
    # NOTE: Python's sqlite3 begins transactions late and not before DDL. Here it begins none, we do: IMMEDIATE, so that a
    # second writer waits at the door and not in the middle, where SQLite would refuse it.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_for_writing(file: Path, *, may_create: bool) -> sqlite3.Connection:
    give_up = time.monotonic() + _BUSY_S
    uri = f"file:{quote(str(file))}?mode={'rwc' if may_create else 'rw'}"
    while True:
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # NOTE: while another process switches the new file to WAL, SQLite answers "locked" at once, timeout or not.
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.Error as e:
            connection.close()
            if "locked" not in str(e) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return connection


def _open_for_reading(file: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(file))}"
    connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=_BUSY_S, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        wal = file.with_name(file.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise  # it holds changes that cannot be read without writing beside it
        # SQLite reads a WAL database in a folder it may not write only when told that nobody else writes either.
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
