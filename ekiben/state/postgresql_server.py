"""The control database on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, ColumnElement, Connection, Double, Engine, cast, create_engine, event, func, text

from ekiben.errors import StateError
from ekiben.state.place import Place

_CONNECT_S: Final = 2  # the least that libpq takes
_LONGER_THAN_THE_SERVER_S: Final = 1.0
_MIGRATION_LOCK: Final = 0x656B6962656E  # any number, the same in every process: "ekiben"


class PostgresqlServer(Place):
    """A PostgreSQL database.

    The server ends a statement that takes too long. Where it does not even do that, as one behind a cut cable, the client
    gives it up a second later.

    Args:
        url: Where it is, and who we are; what it says of ``connect_timeout`` and ``options`` counts more than what is set here.
        statement_s: How long a statement may take where nothing else is said.
        shown: The URL as people may see it.

    Raises:
        StateError: The driver is not installed.
    """

    def __init__(self, url: URL, statement_s: float, *, shown: str) -> None:
        try:
            self.writer: Engine = create_engine(url, pool_pre_ping=True, pool_size=2, pool_timeout=statement_s)
        except ImportError as e:
            raise StateError(
                f"the control database {shown} needs a driver that is not installed ({e}); pip install 'psycopg[binary]'"
            ) from e
        from ekiben.state.patient_connection import PatientConnection  # noqa: PLC0415  psycopg is an extra

        def connect(_dialect: Any, _record: Any, arguments: list[Any], given: dict[str, Any]) -> PatientConnection:
            options = f"-c statement_timeout={int(statement_s * 1000)} {given.get('options', '')}".strip()
            connection = PatientConnection.connect(*arguments, **{"connect_timeout": _CONNECT_S, **given, "options": options})
            connection.patience_s = statement_s + _LONGER_THAN_THE_SERVER_S
            return connection

        event.listen(self.writer, "do_connect", connect)
        self._statement_s = statement_s
        self.reader = self.writer.execution_options(isolation_level="AUTOCOMMIT")
        self.remedy = "check EKIBEN_DATABASE_URL, the server, and the user's rights"

    def found(self) -> Hashable | None:
        """See `Place`; a server that is away is found out by using it."""
        return self.writer.url

    def create(self) -> None:
        """See `Place`; a PostgreSQL database is made by who administers the server."""

    def lock(self, connection: Connection) -> None:
        """See `Place`."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})

    @contextmanager
    def limits(self, connection: Connection, *, durable: bool, limit_s: float) -> Iterator[None]:  # noqa: ARG002  of SQLite
        """See `Place`."""
        if limit_s == self._statement_s:
            yield
            return
        driver: Any = connection.connection.driver_connection
        usual_s = driver.patience_s
        driver.patience_s = limit_s + _LONGER_THAN_THE_SERVER_S
        try:
            connection.execute(text(f"SET LOCAL statement_timeout = {int(limit_s * 1000)}"))
            yield
        finally:
            driver.patience_s = usual_s

    def now(self) -> ColumnElement[float]:
        """See `Place`."""
        return cast(func.extract("epoch", func.clock_timestamp()), Double)

    def close(self) -> None:
        """See `Place`."""
        self.writer.dispose()
