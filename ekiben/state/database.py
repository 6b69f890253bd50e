"""The control database: a SQLite file by default, PostgreSQL by URL.

Reading never creates anything: where there is no database yet, or one without tables, there is nothing to read, and a
container with a read-only root can serve. The first write creates the folder, the file and all tables, and brings an older
database to the newest revision. A database of a newer revision is used as it is: migrations only add, so that versions of
Ekiben may differ while an upgrade rolls through the workers.

Every failure is a `StateError`, and within seconds: a server that does not answer holds nobody up for longer. When the
database is back, the next use finds it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Row, Select, Table, column, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql import visitors

from ekiben.errors import StateError
from ekiben.state.place import Place
from ekiben.state.postgresql_server import PostgresqlServer
from ekiben.state.schema import HEAD, REVISION_TABLE
from ekiben.state.sqlite_file import SqliteFile

_STATEMENT_S = 3.0
_MIGRATION_S = 30.0
_SECRET_PARTS = ("pass", "secret", "token", "key")


class Database:
    """Connections to the control database. They are closed with it, or by whatever ends the process in order.

    Args:
        url: SQLAlchemy URL: ``sqlite:////folder/control.db`` or ``postgresql://user:password@host/database``.
        wall: Seconds since the epoch, the clock of leases and workers in SQLite; PostgreSQL has its own.

    Raises:
        StateError: The URL is of no database Ekiben knows, or its driver is not installed.
    """

    def __init__(self, url: str, *, wall: Callable[[], float] = time.time) -> None:
        parsed = _parse(url)
        self.name = shown(parsed)
        self.backend = parsed.get_backend_name()
        self._place: Place = (
            SqliteFile(parsed, wall) if self.backend == "sqlite" else PostgresqlServer(parsed, _STATEMENT_S, shown=self.name)
        )
        self._tables: set[str] = set()  # known to be there for reading
        self._migrated: object = None  # which database is known to have all tables, for writing
        weakref.finalize(self, self._place.close)

    def read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a query; none where there is no database yet, or not yet the tables it asks for.

        Raises:
            StateError: It is there and cannot be read, or it was there and is gone.
        """
        if self._place.found() is None:
            self._tables.clear()
            return []
        try:
            with self._place.reader.connect() as connection:
                # A database that an older version made lacks the tables of newer parts until something is written.
                needed = _tables_of(query)
                if not needed <= self._tables:
                    self._tables = set(inspect(connection).get_table_names())
                return connection.execute(query).all() if needed <= self._tables else []
        except SQLAlchemyError as e:
            self._tables.clear()
            raise self._failure("read", e) from e

    @contextmanager
    def writing(self, *, durable: bool = True, limit_s: float = _STATEMENT_S) -> Iterator[Connection]:
        """A transaction, committed at the end unless it was rolled back or failed. Creates and migrates what is missing first.

        Args:
            durable: Whether it survives a power failure once it is committed. Without it SQLite does not wait for the disc;
                PostgreSQL does as its server is configured either way.
            limit_s: How long one statement may take on PostgreSQL; SQLite waits as long for others that write, and 5 s at least.

        Raises:
            StateError: The database cannot be created or written, or it was there and is gone.
        """
        try:
            self.upgrade()
            with self._place.writer.connect() as connection, self._place.limits(connection, durable=durable, limit_s=limit_s):
                yield connection
                connection.commit()
        except SQLAlchemyError as e:
            self._migrated = None
            raise self._failure("written", e) from e

    def upgrade(self) -> bool:
        """Creates what is missing and brings an older database to the newest revision. Any number of processes may do so at once.

        Returns:
            Whether there was anything to do.

        Raises:
            StateError: The database cannot be created or written, or it was there and is gone.
        """
        there = self._place.found()
        if there is not None and there == self._migrated:
            return False
        self._place.create()
        try:
            is_behind = there is None or self._is_behind()
            if is_behind:
                self._migrate()
        except SQLAlchemyError as e:
            raise self._failure("written", e) from e
        self._migrated = self._place.found()
        return is_behind

    def revision(self) -> str | None:
        """The revision of its tables; None where there are none, or those of before there were revisions.

        Raises:
            StateError: It is there and cannot be read, or it was there and is gone.
        """
        rows = self.read(select(column("version_num")).select_from(table(REVISION_TABLE))) if REVISION_TABLE in self.tables() else []
        return str(rows[0].version_num) if rows else None

    def tables(self) -> set[str]:
        """Names of all tables that are there.

        Raises:
            StateError: It is there and cannot be read, or it was there and is gone.
        """
        if self._place.found() is None:
            return set()
        try:
            with self._place.reader.connect() as connection:
                return set(inspect(connection).get_table_names())
        except SQLAlchemyError as e:
            raise self._failure("read", e) from e

    def now(self) -> ColumnElement[float]:
        """The database's own time, seconds since the epoch, as a part of a statement that is run at once."""
        return self._place.now()

    def close(self) -> None:
        """Closes the connections; the next use opens new ones."""
        self._place.close()

    def _is_behind(self) -> bool:
        with self._place.reader.connect() as connection:
            return _revision(connection) < HEAD

    def _migrate(self) -> None:
        # Alembic is imported before the lock is taken, for others wait there.
        from ekiben.state.migrating import migrate  # noqa: PLC0415  a fifth of a second that most processes need not spend

        with self._place.writer.connect() as connection, self._place.limits(connection, durable=True, limit_s=_MIGRATION_S):
            self._place.lock(connection)
            if _revision(connection) < HEAD:
                migrate(connection)
            connection.commit()

    def _failure(self, done: str, error: SQLAlchemyError) -> StateError:
        reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        return StateError(f"the control database {self.name} cannot be {done}: {reason}; {self._place.remedy}")


def shown(url: URL) -> str:
    """A database's URL as people may see it: drivers take passwords in the query too."""
    query = {name: "hidden" if any(part in name.lower() for part in _SECRET_PARTS) else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StateError(
            "EKIBEN_DATABASE_URL is no database URL; give sqlite:////folder/control.db or postgresql://user:password@host/database"
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite") and parsed.database not in (None, "", ":memory:"):
        return parsed
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StateError(
        f"the control database {shown(parsed)} is of a kind Ekiben does not use; "
        "give sqlite:////folder/control.db or postgresql://user:password@host/database"
    )


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table(REVISION_TABLE):
        return ""
    found = connection.execute(select(column("version_num")).select_from(table(REVISION_TABLE))).scalar()
    return str(found or "")


def _tables_of(query: Select[Any]) -> set[str]:
    return {part.name for origin in query.get_final_froms() for part in visitors.iterate(origin) if isinstance(part, Table)}
