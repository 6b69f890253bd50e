"""API keys in the control database."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from ekiben.state.database import Database
from ekiben.state.events import Event
from ekiben.state.generations import raise_generation, read_generation
from ekiben.state.keys import ApiKey, Keys
from ekiben.state.schema import KEYS, KEYS_PART
from ekiben.state.sql_events import append_events
from ekiben.state.stored import decoded, encoded, merged
from ekiben.state.upsert import upsert


class SqlKeys(Keys):
    """API keys in the control database, shared by all processes that use it.

    Args:
        database: The control database. It is created by the first change; until then there are no keys.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[ApiKey]:
        """See `Keys`."""
        query = select(KEYS.c.body, KEYS.c.revision).order_by(KEYS.c.created, KEYS.c.prefix)
        return [msgspec.structs.replace(decoded(row.body, ApiKey), revision=row.revision) for row in self._database.read(query)]

    def keep(self, keys: Sequence[ApiKey], *, event: Event) -> bool:
        """See `Keys`."""
        with self._database.writing() as connection:
            # The raised generation is the lock: a second writer waits here until the first has committed.
            raise_generation(connection, KEYS_PART)
            is_kept = all(_keep(connection, key) for key in keys)
            if is_kept:
                append_events(connection, [event])
            else:
                connection.rollback()
        return is_kept

    def generation(self) -> int:
        """See `Keys`."""
        return read_generation(self._database, KEYS_PART)


def _keep(connection: Connection, key: ApiKey) -> bool:
    """Writes a key where what is there has its revision, in a transaction that holds the generation."""
    former = connection.execute(select(KEYS.c.body, KEYS.c.revision).where(KEYS.c.prefix == key.prefix)).one_or_none()
    if (former.revision if former is not None else 0) != key.revision:
        return False
    body = encoded(key) if former is None else merged(former.body, key)
    upsert(connection, KEYS, [{"prefix": key.prefix, "created": key.created, "revision": key.revision + 1, "body": body}])
    return True
