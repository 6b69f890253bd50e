"""Loads: which models people had loaded or unloaded, beyond and against the models folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock


class Loads(ABC):
    """What people asked for, model by model: to have it in memory, or not.

    A model nobody asked about is not here; whether it is served is the models folder's business. Asking again for the same
    is a change too: it has every worker try again what failed before.

    All methods raise `StateError` when what holds them cannot be read or written.
    """

    @abstractmethod
    def all(self) -> dict[str, bool]:
        """Model → whether it is to be loaded, by name; the models nobody asked about are left out."""

    @abstractmethod
    def set(self, model: str, *, loaded: bool) -> None:
        """Asks for a model to be loaded (or not); the last one who asks is heard."""

    @abstractmethod
    def generation(self) -> int:
        """A number that grows each time somebody asks, 0 before the first. Cheap: every worker asks twice a second."""


class MemoryLoads(Loads):
    """Loads that live as long as the object."""

    def __init__(self) -> None:
        self._loaded: dict[str, bool] = {}
        self._generation = 0
        self._lock = Lock()

    def all(self) -> dict[str, bool]:
        """See `Loads`."""
        with self._lock:
            return dict(sorted(self._loaded.items()))

    def set(self, model: str, *, loaded: bool) -> None:
        """See `Loads`."""
        with self._lock:
            self._loaded[model] = loaded
            self._generation += 1

    def generation(self) -> int:
        """See `Loads`."""
        return self._generation
