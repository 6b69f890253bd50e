"""API keys: who was given one, what it allows, and until when. The secret itself is kept nowhere, only its digest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock

import msgspec

from ekiben.state.events import Event, Events


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret.

    Attributes:
        prefix: The part of the key that may be seen and names it.
        name: Whom or what it is for.
        digest: SHA-256 of the secret, hexadecimal.
        scopes: What it allows.
        created: When it was made, seconds since the epoch.
        created_by: Who made it.
        expires: When it ends, seconds since the epoch; 0 for never.
        revoked: When it was revoked, seconds since the epoch; 0 where it was not.
        replaced_by: Prefix of the key that was made in its place; empty where none was.
        revision: Grows with every change; 0 until it is kept.
    """

    prefix: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    created: float
    created_by: str
    expires: float = 0.0
    revoked: float = 0.0
    replaced_by: str = ""
    revision: int = 0


class Keys(ABC):
    """All keys. All methods raise `StateError` when what holds them cannot be read or written."""

    def get(self, prefix: str) -> ApiKey | None:
        """The key of a prefix; None where there is none."""
        return next((key for key in self.all() if key.prefix == prefix), None)

    @abstractmethod
    def all(self) -> list[ApiKey]:
        """All keys, also those that ended, by when they were made."""

    @abstractmethod
    def keep(self, keys: Sequence[ApiKey], *, event: Event) -> bool:
        """Keeps keys as they are now, and with them, all or none, the event that tells of it.

        Args:
            keys: What is to be kept, each with the revision of what was read; 0 for one that must be new.
            event: What happened.

        Returns:
            Whether they were kept: not where somebody else changed one of them meanwhile.
        """

    @abstractmethod
    def generation(self) -> int:
        """A number that grows with every change, 0 before the first. Cheap: every worker asks twice a second."""


class MemoryKeys(Keys):
    """Keys that live as long as the object.

    Args:
        events: Where their events are kept.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._keys: dict[str, ApiKey] = {}
        self._generation = 0
        self._lock = Lock()

    def all(self) -> list[ApiKey]:
        """See `Keys`."""
        with self._lock:
            return sorted(self._keys.values(), key=lambda key: (key.created, key.prefix))

    def keep(self, keys: Sequence[ApiKey], *, event: Event) -> bool:
        """See `Keys`."""
        with self._lock:
            if any(self._revision(key.prefix) != key.revision for key in keys):
                return False
            self._keys |= {key.prefix: msgspec.structs.replace(key, revision=key.revision + 1) for key in keys}
            self._generation += 1
            self._events.append([event])
            return True

    def generation(self) -> int:
        """See `Keys`."""
        return self._generation

    def _revision(self, prefix: str) -> int:
        kept = self._keys.get(prefix)
        return kept.revision if kept is not None else 0
