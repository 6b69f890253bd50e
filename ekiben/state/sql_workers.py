"""Workers in the control database."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import delete, select

from ekiben.state.database import Database
from ekiben.state.schema import WORKERS
from ekiben.state.stored import decoded, encoded
from ekiben.state.upsert import inserting
from ekiben.state.workers import Workers, WorkerState

_FORGOTTEN_S: Final = 24 * 3600.0


class SqlWorkers(Workers):
    """Workers in the control database, by the database's clock.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    def say(self, state: WorkerState) -> None:
        """See `Workers`; a worker's first word takes away those that ended without one, a day ago and more."""
        with self._database.writing(durable=False) as connection:
            now = self._database.now()
            said = {"seen_at": now, "state": encoded(state)}
            statement = inserting(connection, WORKERS).values(id=state.id, **said)
            connection.execute(statement.on_conflict_do_update(index_elements=[WORKERS.c.id], set_=said))
            if state.id not in self._known:
                connection.execute(delete(WORKERS).where(WORKERS.c.seen_at < now - _FORGOTTEN_S))
        self._known.add(state.id)

    def forget(self, worker: str) -> None:
        """See `Workers`."""
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.id == worker))
        self._known.discard(worker)

    def alive(self, within_s: float) -> list[WorkerState]:
        """See `Workers`."""
        rows = self._database.read(select(WORKERS).where(WORKERS.c.seen_at >= self._database.now() - within_s).order_by(WORKERS.c.id))
        return [msgspec.structs.replace(decoded(row.state, WorkerState), seen_at=row.seen_at) for row in rows]
