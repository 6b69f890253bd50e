"""Events: what happened, who did it and why; never changed, never deleted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Attributes:
        time: Seconds since the epoch.
        who: ``controller``, or a person: ``user@host``, or the key that the admin API was asked with.
        model: The model it is about.
        rollout: Id of the rollout or experiment; empty where it is about none.
        kind: What happened, in a word: ``started``, ``step``, ``measured``, ``paused``, ``resumed``, ``promoted``, ``rolled-back``,
            ``aborted``, ``loaded``, ``load-failed``, ``hook-failed``, ``retrain_started`` …
        message: What happened and why, a sentence.
        details: What decided: weights, measurements.
        id: Its number, growing; 0 until it is kept.
    """

    time: float
    who: str
    model: str
    kind: str
    message: str
    rollout: str = ""
    details: dict[str, Any] = {}
    id: int = 0


class Events(ABC):
    """The events of all models. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def append(self, events: Sequence[Event]) -> list[Event]:
        """Keeps events, all or none; returns them with their numbers."""

    @abstractmethod
    def find(
        self, *, model: str | None = None, rollout: str | None = None, kind: str | None = None, after: int = 0, limit: int = 100
    ) -> list[Event]:
        """The latest ``limit`` events numbered above ``after``, of a kind if one is given, the oldest of them first."""


class MemoryEvents(Events):
    """Events that live as long as the object."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._lock = Lock()

    def append(self, events: Sequence[Event]) -> list[Event]:
        """See `Events`."""
        with self._lock:
            kept = [msgspec.structs.replace(event, id=len(self._events) + n) for n, event in enumerate(events, 1)]
            self._events += kept
        return kept

    def find(
        self, *, model: str | None = None, rollout: str | None = None, kind: str | None = None, after: int = 0, limit: int = 100
    ) -> list[Event]:
        """See `Events`."""
        found = [
            e for e in self._events if e.id > after and model in (None, e.model) and rollout in (None, e.rollout) and kind in (None, e.kind)
        ]
        return found[-limit:] if limit > 0 else []
