"""The numbers by which workers see that a part of the control database has changed."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Select, select, update

from ekiben.state.database import Database
from ekiben.state.schema import GENERATIONS


def raise_generation(connection: Connection, part: str) -> None:
    """Raises a part's number, first thing in the transaction that changes it: a second writer waits there for the first."""
    connection.execute(update(GENERATIONS).where(GENERATIONS.c.part == part).values(number=GENERATIONS.c.number + 1))


def hold_generation(connection: Connection, part: str) -> None:
    """Has a second writer of the part wait as `raise_generation` does, where it is not yet known whether anything changes."""
    connection.execute(select(GENERATIONS.c.number).where(GENERATIONS.c.part == part).with_for_update()).all()


def read_generation(database: Database, part: str) -> int:
    """A part's number; 0 before its first change.

    Raises:
        StateError: The database cannot be read.
    """
    return read_generations(database, part)[0]


def read_generations(database: Database, *parts: str) -> tuple[int, ...]:
    """The numbers of several parts, as they are at one time.

    Raises:
        StateError: The database cannot be read.
    """
    numbers = {row.part: int(row.number) for row in database.read(_generations_of(parts))}
    return tuple(numbers.get(part, 0) for part in parts)


@cache
def _generations_of(parts: tuple[str, ...]) -> Select[tuple[str, int]]:
    """Built once: workers ask many times a second."""
    return select(GENERATIONS.c.part, GENERATIONS.c.number).where(GENERATIONS.c.part.in_(parts))
