"""Events in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from ekiben.state.database import Database
from ekiben.state.events import Event, Events
from ekiben.state.generations import raise_generation
from ekiben.state.schema import EVENTS, EVENTS_PART
from ekiben.state.stored import decoded, encoded, plain


class SqlEvents(Events):
    """Events in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, events: Sequence[Event]) -> list[Event]:
        """See `Events`."""
        if not events:
            return []
        with self._database.writing() as connection:
            return append_events(connection, events)

    def find(
        self, *, model: str | None = None, rollout: str | None = None, kind: str | None = None, after: int = 0, limit: int = 100
    ) -> list[Event]:
        """See `Events`."""
        query = select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id.desc()).limit(max(0, limit))
        if model is not None:
            query = query.where(EVENTS.c.model == model)
        if rollout is not None:
            query = query.where(EVENTS.c.rollout == rollout)
        if kind is not None:
            query = query.where(EVENTS.c.kind == kind)
        return [_event(row) for row in reversed(self._database.read(query))]


def append_events(connection: Connection, events: Sequence[Event]) -> list[Event]:
    """Keeps events as a part of a transaction; returns them with their numbers.

    The numbers become visible in their order: PostgreSQL gives them out before a transaction is committed, so that without the
    lock a reader could see 8, and 7 only after it has asked for those after 8.
    """
    if not events:
        return []
    raise_generation(connection, EVENTS_PART)
    return [msgspec.structs.replace(event, id=_insert(connection, event)) for event in events]


def _insert(connection: Connection, event: Event) -> int:
    values = {
        "time": event.time,
        "who": plain(event.who),
        "model": plain(event.model),
        "rollout": plain(event.rollout),
        "kind": plain(event.kind),
        "message": plain(event.message),
        "details": encoded(event.details),
    }
    key = connection.execute(insert(EVENTS).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        time=row.time,
        who=row.who,
        model=row.model,
        rollout=row.rollout,
        kind=row.kind,
        message=row.message,
        details=decoded(row.details, dict[str, Any]),
    )
