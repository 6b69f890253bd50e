"""Checks in the control database."""

from __future__ import annotations

from sqlalchemy import and_, delete, func, select

from ekiben.state.checks import Check, Checks, Kind
from ekiben.state.database import Database
from ekiben.state.schema import CHECKS
from ekiben.state.stored import decoded, encoded
from ekiben.state.upsert import upsert


class SqlChecks(Checks):
    """Checks in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, check: Check) -> None:
        """See `Checks`."""
        columns = {name: getattr(check, name) for name in ("model", "version", "kind", "arm", "time", "outcome")}
        with self._database.writing() as connection:
            upsert(connection, CHECKS, [{**columns, "body": encoded(check)}])

    def find(
        self, model: str, *, kind: Kind | None = None, version: str | None = None, since: float = 0.0, limit: int = 100
    ) -> list[Check]:
        """See `Checks`."""
        order = (CHECKS.c.time, CHECKS.c.version, CHECKS.c.kind, CHECKS.c.arm)
        query = select(CHECKS.c.body).where(CHECKS.c.model == model, CHECKS.c.time >= since)
        if kind is not None:
            query = query.where(CHECKS.c.kind == kind)
        if version is not None:
            query = query.where(CHECKS.c.version == version)
        query = query.order_by(*(column.desc() for column in order)).limit(max(0, limit))
        return [decoded(row.body, Check) for row in reversed(self._database.read(query))]

    def latest(self, model: str, *, since: float = 0.0) -> list[Check]:
        """See `Checks`."""
        looked = (CHECKS.c.version, CHECKS.c.kind, CHECKS.c.arm)
        newest = select(*looked, func.max(CHECKS.c.time).label("newest")).where(CHECKS.c.model == model, CHECKS.c.time >= since)
        last = newest.group_by(*looked).subquery()
        same = and_(*(column == last.c[column.name] for column in looked), CHECKS.c.time == last.c.newest)
        query = select(CHECKS.c.body).join(last, same).where(CHECKS.c.model == model).order_by(*looked)
        return [decoded(row.body, Check) for row in self._database.read(query)]

    def prune(self, before: float) -> int:
        """See `Checks`."""
        with self._database.writing() as connection:
            return connection.execute(delete(CHECKS).where(CHECKS.c.time < before)).rowcount
