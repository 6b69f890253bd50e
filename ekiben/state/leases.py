"""Leases: who does what only one may do at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock


class Leases(ABC):
    """Named leases; whoever holds one renews it before it runs out.

    The time is that of what holds the leases (the database server's where there is one), so that clocks need not agree.
    All methods raise `StateError` when it cannot be read or written.
    """

    @abstractmethod
    def acquire(self, name: str, holder: str, ttl_s: float) -> bool:
        """Takes a lease that is free or has run out, or renews one's own, for ``ttl_s`` seconds; returns whether one has it."""

    @abstractmethod
    def release(self, name: str, holder: str) -> None:
        """Gives a lease back, if one has it."""

    @abstractmethod
    def holder(self, name: str) -> str | None:
        """Who has a lease now, or None."""


class MemoryLeases(Leases):
    """Leases that live as long as the object.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = Lock()

    def acquire(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `Leases`."""
        with self._lock:
            if self.holder(name) not in (None, holder):
                return False
            self._held[name] = (holder, self._clock() + ttl_s)
            return True

    def release(self, name: str, holder: str) -> None:
        """See `Leases`."""
        with self._lock:
            if self.holder(name) == holder:
                del self._held[name]

    def holder(self, name: str) -> str | None:
        """See `Leases`."""
        holder, until = self._held.get(name, (None, 0.0))
        return holder if until > self._clock() else None
