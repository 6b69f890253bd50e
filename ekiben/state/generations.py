"""The numbers by which workers see that a part of the control database has changed."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from ekiben.state.database import Database
from ekiben.state.schema import GENERATIONS


def raise_generation(connection: Connection, part: str) -> None:
    """Raises a part's number, first thing in the transaction that changes it: a second writer waits there for the first."""
    connection.execute(update(GENERATIONS).where(GENERATIONS.c.part == part).values(number=GENERATIONS.c.number + 1))


def read_generation(database: Database, part: str) -> int:
    """A part's number; 0 before its first change.

    Raises:
        StateError: The database cannot be read.
    """
    rows = database.read(select(GENERATIONS.c.number).where(GENERATIONS.c.part == part))
    return int(rows[0].number) if rows else 0
