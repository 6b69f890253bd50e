from __future__ import annotations

import shutil
from itertools import count

import pytest

from ekiben.state.database import Database


class Clock:
    """Seconds since the epoch that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A file with all tables and nothing in them."""
    file = tmp_path_factory.mktemp("state") / "control.db"
    database = Database(f"sqlite:///{file}")
    database.upgrade()
    database.close()
    return file


@pytest.fixture
def new_database(empty_database, tmp_path, clock):
    """A function that gives another empty SQLite database; a copy, as migrating takes its time."""
    numbers, opened = count(), []

    def make() -> Database:
        file = shutil.copy(empty_database, tmp_path / f"control-{next(numbers)}.db")
        opened.append(Database(f"sqlite:///{file}", wall=clock))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def database(new_database) -> Database:
    """An empty SQLite database."""
    return new_database()
