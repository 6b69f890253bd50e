"""Aliases: which version of a model is its champion, which its challenger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock


class Aliases(ABC):
    """Names for versions, kept outside the model store so that they can move while versions never change.

    An alias is a plain name here; whether the version it names is in the store is the registry's business.

    All methods raise `StateError` when what holds the aliases cannot be read or written.
    """

    def get(self, model: str) -> dict[str, str]:
        """The aliases of one model, alias → version; empty when it has none."""
        return self.all().get(model, {})

    @abstractmethod
    def all(self) -> dict[str, dict[str, str]]:
        """The aliases of all models that have some, model → alias → version."""

    @abstractmethod
    def set(self, model: str, alias: str, version: str, *, replace: bool = True) -> bool:
        """Makes an alias name a version.

        Args:
            model: Name of the model.
            alias: The alias, for example ``champion``.
            version: The version, without the model's name.
            replace: False leaves an alias that exists as it is. Of several processes that try this at once, one succeeds.

        Returns:
            Whether anything changed.
        """

    @abstractmethod
    def remove(self, model: str, alias: str) -> bool:
        """Removes an alias; returns whether there was one."""

    @abstractmethod
    def generation(self) -> int:
        """A number that grows with every change, 0 before the first. Cheap: every worker asks twice a second."""


class MemoryAliases(Aliases):
    """Aliases that live as long as the object."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], str] = {}
        self._generation = 0
        self._lock = Lock()

    def all(self) -> dict[str, dict[str, str]]:
        """See `Aliases`."""
        found: dict[str, dict[str, str]] = {}
        for (model, alias), version in sorted(self._versions.items()):
            found.setdefault(model, {})[alias] = version
        return found

    def set(self, model: str, alias: str, version: str, *, replace: bool = True) -> bool:
        """See `Aliases`."""
        with self._lock:
            current = self._versions.get((model, alias))
            if current == version or (current is not None and not replace):
                return False
            self._versions[model, alias] = version
            self._generation += 1
        return True

    def remove(self, model: str, alias: str) -> bool:
        """See `Aliases`."""
        with self._lock:
            if self._versions.pop((model, alias), None) is None:
                return False
            self._generation += 1
        return True

    def generation(self) -> int:
        """See `Aliases`."""
        return self._generation
