"""Leases in the control database."""

from __future__ import annotations

from sqlalchemy import delete, or_, select

from ekiben.state.database import Database
from ekiben.state.leases import Leases
from ekiben.state.schema import LEASES
from ekiben.state.upsert import inserting


class SqlLeases(Leases):
    """Leases in the control database, shared by all processes that use it, by the database's clock.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `Leases`; whoever waits for another's lease only reads, however many they are."""
        if self.holder(name) not in (None, holder):
            return False
        with self._database.writing(durable=False) as connection:
            now = self._database.now()
            statement = inserting(connection, LEASES).values(name=name, holder=holder, until=now + ttl_s)
            is_ours_or_over = or_(LEASES.c.holder == holder, LEASES.c.until <= now)
            statement = statement.on_conflict_do_update(
                index_elements=[LEASES.c.name], set_={"holder": holder, "until": now + ttl_s}, where=is_ours_or_over
            )
            # NOTE: SQLAlchemy counts the rows of an INSERT only when it is asked to.
            return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1

    def release(self, name: str, holder: str) -> None:
        """See `Leases`."""
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.holder == holder))

    def holder(self, name: str) -> str | None:
        """See `Leases`."""
        rows = self._database.read(select(LEASES.c.holder).where(LEASES.c.name == name, LEASES.c.until > self._database.now()))
        return rows[0].holder if rows else None
