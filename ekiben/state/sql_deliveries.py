"""Deliveries in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select

from ekiben.state.database import Database
from ekiben.state.deliveries import ROLLOUTS, Deliveries, Delivery
from ekiben.state.schema import CURSORS, DELIVERIES
from ekiben.state.stored import decoded, digest, encoded
from ekiben.state.upsert import insert_missing, upsert

_CURSOR: Final = "deliveries"


class SqlDeliveries(Deliveries):
    """Deliveries in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """See `Deliveries`."""
        if deliveries:
            with self._database.writing() as connection:
                insert_missing(connection, DELIVERIES, map(delivery_columns, deliveries))

    def due(self, now: float, limit: int = 20, *, queue: str = ROLLOUTS) -> list[Delivery]:
        """See `Deliveries`."""
        query = select(DELIVERIES.c.body).where(DELIVERIES.c.queue == queue, DELIVERIES.c.state == "waiting", DELIVERIES.c.due <= now)
        query = query.order_by(DELIVERIES.c.event, DELIVERIES.c.url_digest).limit(max(0, limit))
        return [decoded(row.body, Delivery) for row in self._database.read(query)]

    def update(self, delivery: Delivery) -> None:
        """See `Deliveries`."""
        with self._database.writing() as connection:
            upsert(connection, DELIVERIES, [delivery_columns(delivery)])

    def last_event(self) -> int:
        """See `Deliveries`."""
        rows = self._database.read(select(CURSORS.c.number).where(CURSORS.c.name == _CURSOR))
        return rows[0].number if rows else 0

    def set_last_event(self, event: int) -> None:
        """See `Deliveries`."""
        with self._database.writing() as connection:
            upsert(connection, CURSORS, [{"name": _CURSOR, "number": event}])


def delivery_columns(delivery: Delivery) -> dict[str, Any]:
    """A delivery as a row of its table."""
    return {
        "event": delivery.event.id,
        "url_digest": digest(delivery.url),
        "state": delivery.state,
        "due": delivery.due,
        "queue": delivery.queue,
        "body": encoded(delivery),
    }
