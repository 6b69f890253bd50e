"""Loads in the control database."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert, select, update

from ekiben.state.database import Database
from ekiben.state.generations import raise_generation, read_generation
from ekiben.state.loads import Loads
from ekiben.state.schema import LOADS, LOADS_PART


class SqlLoads(Loads):
    """Loads in the control database, shared by all processes that use it.

    Args:
        database: The control database. It is created by the first change; until then nobody has asked for anything.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, bool]:
        """See `Loads`."""
        query = select(LOADS.c.model, LOADS.c.loaded).order_by(LOADS.c.model)
        return {row.model: row.loaded for row in self._database.read(query)}

    def set(self, model: str, *, loaded: bool) -> None:
        """See `Loads`."""
        values = {"loaded": loaded, "changed_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with self._database.writing() as connection:
            # The raised generation is the lock: a second writer waits here, so that not both insert.
            raise_generation(connection, LOADS_PART)
            if not connection.execute(update(LOADS).where(LOADS.c.model == model).values(values)).rowcount:
                connection.execute(insert(LOADS).values(model=model, **values))

    def generation(self) -> int:
        """See `Loads`."""
        return read_generation(self._database, LOADS_PART)
