"""Aliases in the control database."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, and_, delete, insert, select, update

from ekiben.state.aliases import Aliases
from ekiben.state.database import Database
from ekiben.state.generations import raise_generation, read_generation
from ekiben.state.schema import ALIASES, ALIASES_PART


class SqlAliases(Aliases):
    """Aliases in the control database, shared by all processes that use it.

    Args:
        database: The control database. It is created by the first change; until then there are no aliases.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, model: str) -> dict[str, str]:
        """See `Aliases`."""
        query = select(ALIASES.c.alias, ALIASES.c.version).where(ALIASES.c.model == model).order_by(ALIASES.c.alias)
        return {row.alias: row.version for row in self._database.read(query)}

    def all(self) -> dict[str, dict[str, str]]:
        """See `Aliases`."""
        query = select(ALIASES.c.model, ALIASES.c.alias, ALIASES.c.version).order_by(ALIASES.c.model, ALIASES.c.alias)
        found: dict[str, dict[str, str]] = {}
        for row in self._database.read(query):
            found.setdefault(row.model, {})[row.alias] = row.version
        return found

    def set(self, model: str, alias: str, version: str, *, replace: bool = True) -> bool:
        """See `Aliases`."""
        with self._database.writing() as connection:
            # The raised generation is the lock: a second writer waits here until the first has committed.
            raise_generation(connection, ALIASES_PART)
            changed = write_alias(connection, model, alias, version, replace=replace)
            if not changed:
                connection.rollback()
        return changed

    def remove(self, model: str, alias: str) -> bool:
        """See `Aliases`."""
        with self._database.writing() as connection:
            raise_generation(connection, ALIASES_PART)
            changed = write_alias(connection, model, alias, None)
            if not changed:
                connection.rollback()
        return changed

    def generation(self) -> int:
        """See `Aliases`."""
        return read_generation(self._database, ALIASES_PART)


def write_alias(connection: Connection, model: str, alias: str, version: str | None, *, replace: bool = True) -> bool:
    """Makes an alias name a version, or none, in a transaction that holds the generation; returns whether that changed anything."""
    is_this = and_(ALIASES.c.model == model, ALIASES.c.alias == alias)
    if version is None:
        return bool(connection.execute(delete(ALIASES).where(is_this)).rowcount)
    current = connection.execute(select(ALIASES.c.version).where(is_this)).scalar_one_or_none()
    if current == version or (current is not None and not replace):
        return False
    changed_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    if current is None:
        connection.execute(insert(ALIASES).values(model=model, alias=alias, version=version, changed_at=changed_at))
    else:
        connection.execute(update(ALIASES).where(is_this).values(version=version, changed_at=changed_at))
    return True
