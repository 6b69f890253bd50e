"""Alerts in the control database."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, UpdateBase, delete, select, update

from ekiben.state.alerts import Alert, Alerts, deliveries_of
from ekiben.state.database import Database
from ekiben.state.events import Event
from ekiben.state.schema import ALERTS, DELIVERIES
from ekiben.state.sql_deliveries import delivery_columns
from ekiben.state.sql_events import append_events
from ekiben.state.stored import decoded, encoded
from ekiben.state.upsert import insert_missing, inserting


class SqlAlerts(Alerts):
    """Alerts in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, model: str | None = None) -> list[Alert]:
        """See `Alerts`."""
        query = select(ALERTS.c.body, ALERTS.c.revision).order_by(ALERTS.c.model, ALERTS.c.name)
        if model is not None:
            query = query.where(ALERTS.c.model == model)
        return [msgspec.structs.replace(decoded(row.body, Alert), revision=row.revision) for row in self._database.read(query)]

    def keep(self, alert: Alert, *, event: Event | None = None) -> bool:
        """See `Alerts`."""
        values = _columns(alert)
        with self._database.writing() as connection:
            is_kept = connection.execute(_keep(connection, alert, values)).one_or_none() is not None
            if is_kept and event is not None:
                kept = append_events(connection, [event])
                insert_missing(connection, DELIVERIES, [delivery_columns(d) for of in kept for d in deliveries_of(alert, of)])
            return is_kept

    def forget(self, model: str, name: str) -> None:
        """See `Alerts`."""
        with self._database.writing() as connection:
            connection.execute(delete(ALERTS).where(ALERTS.c.model == model, ALERTS.c.name == name))


def _keep(connection: Connection, alert: Alert, values: dict[str, Any]) -> UpdateBase:
    """Changes the row that has the alert's revision, or adds one where there must be none; returns a row where it did."""
    # NOTE: not every driver says how many rows an insert added.
    if not alert.revision:
        new = inserting(connection, ALERTS).values(values)
        return new.on_conflict_do_nothing(index_elements=[ALERTS.c.model, ALERTS.c.name]).returning(ALERTS.c.revision)
    of_it = (ALERTS.c.model == alert.model, ALERTS.c.name == alert.name, ALERTS.c.revision == alert.revision)
    return update(ALERTS).where(*of_it).values(values).returning(ALERTS.c.revision)


def _columns(alert: Alert) -> dict[str, Any]:
    return {
        "model": alert.model,
        "name": alert.name,
        "state": alert.state,
        "revision": alert.revision + 1,
        "body": encoded(alert),
    }
