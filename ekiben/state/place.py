"""Places: where a control database is, and what differs between SQLite and PostgreSQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import AbstractContextManager

from sqlalchemy import ColumnElement, Connection, Engine


class Place(ABC):
    """A file or a server.

    Attributes:
        writer: Its connections begin transactions in which nobody else writes what they wrote.
        reader: Its connections change nothing, each statement sees what is committed then.
        remedy: What to do where it cannot be used.
    """

    writer: Engine
    reader: Engine
    remedy: str

    @abstractmethod
    def found(self) -> Hashable | None:
        """Which database is there, another value for another one; None where there is none yet.

        Raises:
            StateError: It cannot be reached, or it was there and is gone.
        """

    @abstractmethod
    def create(self) -> None:
        """Creates what the first connection needs.

        Raises:
            StateError: It cannot be created.
        """

    @abstractmethod
    def lock(self, connection: Connection) -> None:
        """Keeps other processes from migrating until the transaction ends."""

    @abstractmethod
    def limits(self, connection: Connection, *, durable: bool, limit_s: float) -> AbstractContextManager[None]:
        """Begins a transaction that is as durable as it is to be, and none of whose statements takes longer."""

    @abstractmethod
    def now(self) -> ColumnElement[float]:
        """Its time, seconds since the epoch."""

    @abstractmethod
    def close(self) -> None:
        """Closes idle connections; the next use opens new ones."""
