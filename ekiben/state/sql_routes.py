"""Routes in the control database."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, delete, select

from ekiben.state.database import Database
from ekiben.state.generations import raise_generation, read_generation
from ekiben.state.routes import Route, Routes
from ekiben.state.schema import ROUTES, ROUTES_PART
from ekiben.state.stored import decoded, encoded
from ekiben.state.upsert import upsert


class SqlRoutes(Routes):
    """Routes in the control database, shared by all processes that use it.

    Args:
        database: The control database. It is created by the first change; until then there are no routes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Route]:
        """See `Routes`."""
        rows = self._database.read(select(ROUTES.c.model, ROUTES.c.route).order_by(ROUTES.c.model))
        return {row.model: decoded(row.route, Route) for row in rows}

    def get(self, model: str) -> Route | None:
        """See `Routes`."""
        rows = self._database.read(select(ROUTES.c.route).where(ROUTES.c.model == model))
        return decoded(rows[0].route, Route) if rows else None

    def generation(self) -> int:
        """See `Routes`."""
        return read_generation(self._database, ROUTES_PART)


def write_route(connection: Connection, model: str, route: Route | None) -> None:
    """Changes the route of a model, None takes it away, and raises the generation."""
    raise_generation(connection, ROUTES_PART)
    if route is None:
        connection.execute(delete(ROUTES).where(ROUTES.c.model == model))
    else:
        changed_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        upsert(connection, ROUTES, [{"model": model, "route": encoded(route), "changed_at": changed_at}])
