"""Measurements in the control database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from ekiben.state.database import Database
from ekiben.state.measurements import Measurement, Measurements
from ekiben.state.schema import MEASUREMENTS
from ekiben.state.stored import decoded, encoded, plain


class SqlMeasurements(Measurements):
    """Measurements in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, measurements: Sequence[Measurement]) -> None:
        """See `Measurements`."""
        if measurements:
            with self._database.writing() as connection:
                append_measurements(connection, measurements)

    def find(self, rollout: str, *, step: int | None = None) -> list[Measurement]:
        """See `Measurements`."""
        query = select(MEASUREMENTS.c.body).where(MEASUREMENTS.c.rollout == rollout).order_by(MEASUREMENTS.c.id)
        if step is not None:
            query = query.where(MEASUREMENTS.c.step == step)
        return [decoded(row.body, Measurement) for row in self._database.read(query)]


def append_measurements(connection: Connection, measurements: Sequence[Measurement]) -> None:
    """Keeps measurements as a part of a transaction."""
    rows = [
        {"rollout": m.rollout, "step": m.step, "metric": plain(m.metric), "time": m.time, "outcome": m.outcome, "body": encoded(m)}
        for m in measurements
    ]
    if rows:
        connection.execute(insert(MEASUREMENTS), rows)
