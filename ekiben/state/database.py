"""The control database: a SQLite file by default, PostgreSQL by URL.

Reading never creates anything: where there is no database yet, or one without tables, there is nothing to read, and a
container with a read-only root can serve. The first write creates the folder, the file and all tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, Row, Select, Table, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from ekiben.errors import StateError
from ekiben.state.schema import GENERATIONS, PARTS, SCHEMA

_BUSY_S = 15.0
_CONNECT_S = 5
_CREATION_LOCK = 0x656B6962656E  # any number, the same in every process: "ekiben"


class Database:
    """Connections to the control database.

    Args:
        url: SQLAlchemy URL: ``sqlite:////folder/control.db`` or ``postgresql://user:password@host/database``.

    Raises:
        StateError: The URL is of no database Ekiben knows, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._file = Path(parsed.database or "").absolute() if parsed.get_backend_name() == "sqlite" else None
        if self._file is not None:
            self._writer = _sqlite_writer(self._file)
            self._reader = _sqlite_reader(self._file)
        else:
            self._writer = _postgresql_engine(parsed, self.name)
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        self._tables: set[str] = set()  # known to be there for reading
        self._is_complete = False  # known to be there with all its parts, for writing

    def read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a query; none where there is no database yet, or not yet the tables it asks for.

        Raises:
            StateError: It is there and cannot be read.
        """
        if not self._is_there():
            self._tables.clear()
            self._is_complete = False
            return []
        try:
            with self._reader.connect() as connection:
                # A database that an older version made lacks the tables of newer parts until something is written.
                needed = {table.name for table in query.get_final_froms() if isinstance(table, Table)}
                if not needed <= self._tables:
                    self._tables = set(inspect(connection).get_table_names())
                return connection.execute(query).all() if needed <= self._tables else []
        except SQLAlchemyError as e:
            self._tables.clear()
            raise StateError(f"the control database {self.name} cannot be read: {_reason(e)}; {self._remedy()}") from e

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end unless it was rolled back or failed. Creates what is missing first.

        Raises:
            StateError: The database cannot be created or written.
        """
        try:
            self._create()
            with self._writer.connect() as connection:
                yield connection
                connection.commit()
        except SQLAlchemyError as e:
            self._is_complete = False
            raise StateError(f"the control database {self.name} cannot be written: {_reason(e)}; {self._remedy()}") from e

    def close(self) -> None:
        """Closes the connections; the next use opens new ones."""
        self._writer.dispose()
        self._reader.dispose()

    def _create(self) -> None:
        """Creates folder, file and tables where they are missing. Any number of processes may do so at once."""
        if self._is_complete and self._is_there():
            return
        if self._file is not None:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise StateError(
                    f"the control database's folder {self._file.parent} cannot be created: {e.strerror}; {self._remedy()}"
                ) from e
        with self._writer.begin() as connection:
            if self._file is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATION_LOCK})
            SCHEMA.create_all(connection)
            there = set(connection.execute(select(GENERATIONS.c.part)).scalars())
            for part in PARTS:
                if part not in there:
                    connection.execute(insert(GENERATIONS).values(part=part, number=0))
        self._is_complete = True

    def _is_there(self) -> bool:
        try:
            return self._file is None or self._file.exists()
        except OSError as e:
            raise StateError(f"the control database {self.name} cannot be reached: {e.strerror}; {self._remedy()}") from e

    def _remedy(self) -> str:
        if self._file is None:
            return "check EKIBEN_DATABASE_URL, the server, and the user's rights"
        return f"make {self._file.parent} writable, or set EKIBEN_HOME or EKIBEN_DATABASE_URL to a place that is"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StateError(
            "EKIBEN_DATABASE_URL is no database URL; give sqlite:////folder/control.db or postgresql://user:password@host/database"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg") if "+" not in parsed.drivername else parsed
    raise StateError(
        f"the control database {parsed.render_as_string()} is of a kind Ekiben does not use; "
        "give sqlite:////folder/control.db or postgresql://user:password@host/database"
    )


def _postgresql_engine(url: URL, name: str) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True, pool_size=2, connect_args={"connect_timeout": _CONNECT_S})
    except (ImportError, NoSuchModuleError) as e:
        raise StateError(f"the control database {name} needs a driver that is not installed ({e}); pip install 'psycopg[binary]'") from e


def _sqlite_writer(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool, creator=lambda: _open_for_writing(file))
    # NOTE: Python's sqlite3 begins transactions late and not before DDL. Here it begins none, we do: IMMEDIATE, so that a
    # second writer waits at the door and not in the middle, where SQLite would refuse it.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _open_for_writing(file: Path) -> sqlite3.Connection:
    give_up = time.monotonic() + _BUSY_S
    while True:
        connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # NOTE: while another process switches the new file to WAL, SQLite answers "locked" at once, timeout or not.
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as e:
            connection.close()
            if "locked" not in str(e) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return connection


def _sqlite_reader(file: Path) -> Engine:
    return create_engine(f"sqlite:///{file}", poolclass=NullPool, isolation_level="AUTOCOMMIT", creator=lambda: _open_for_reading(file))


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
    return connection


def _reason(error: SQLAlchemyError) -> str:
    text_ = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return " ".join(text_.split())
