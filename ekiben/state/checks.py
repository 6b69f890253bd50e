"""Checks: what was found each time somebody looked whether a model's data drifted or its quality fell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock
from typing import Any, Literal

import msgspec

Kind = Literal["drift", "quality"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one version.

    Attributes:
        model, version: What was looked at.
        kind: What for.
        arm: Whose answers; empty for those of all arms.
        time: When it was done, seconds since the epoch.
        since, until: The rows that were looked at: those answered in [since, until), seconds since the epoch.
        rows: How many.
        outcome: ``ok``; ``bad`` where data drifted, or quality is below its threshold; ``unknown`` where there was too little.
        summary: One sentence for people.
        report: All figures, JSON-safe; see `ekiben.monitoring.drift` and `ekiben.monitoring.quality`.
    """

    model: str
    version: str
    kind: Kind
    arm: str = ""
    time: float
    since: float
    until: float
    rows: int
    outcome: Literal["ok", "bad", "unknown"]
    summary: str
    report: dict[str, Any] = {}


class Checks(ABC):
    """What was found, newest last.

    All methods raise `StateError` when what holds them cannot be read or written.
    """

    @abstractmethod
    def add(self, check: Check) -> None:
        """Keeps a check; one of the same model, version, kind, arm and time replaces the former."""

    @abstractmethod
    def find(
        self, model: str, *, kind: Kind | None = None, version: str | None = None, since: float = 0.0, limit: int = 100
    ) -> list[Check]:
        """The latest checks of a model that were done since then, by time, ``limit`` at most."""

    @abstractmethod
    def latest(self, model: str, *, since: float = 0.0) -> list[Check]:
        """Of each version, kind and arm of a model the newest check that was done since then, by version, kind and arm."""

    @abstractmethod
    def prune(self, before: float) -> int:
        """Deletes checks done before; returns how many."""


class MemoryChecks(Checks):
    """Checks that live as long as the object."""

    def __init__(self) -> None:
        self._checks: dict[tuple[str, str, str, str, float], Check] = {}
        self._lock = Lock()

    def add(self, check: Check) -> None:
        """See `Checks`."""
        with self._lock:
            self._checks[check.model, check.version, check.kind, check.arm, check.time] = check

    def find(
        self, model: str, *, kind: Kind | None = None, version: str | None = None, since: float = 0.0, limit: int = 100
    ) -> list[Check]:
        """See `Checks`."""
        with self._lock:
            found = [
                c
                for c in self._checks.values()
                if c.model == model and c.time >= since and kind in (None, c.kind) and version in (None, c.version)
            ]
        return sorted(found, key=lambda c: (c.time, c.version, c.kind, c.arm))[-limit:] if limit > 0 else []

    def latest(self, model: str, *, since: float = 0.0) -> list[Check]:
        """See `Checks`."""
        with self._lock:
            found = [c for c in self._checks.values() if c.model == model and c.time >= since]
        newest = {(c.version, c.kind, c.arm): c for c in sorted(found, key=lambda c: c.time)}
        return [check for _, check in sorted(newest.items())]

    def prune(self, before: float) -> int:
        """See `Checks`."""
        with self._lock:
            old = [key for key, check in self._checks.items() if check.time < before]
            for key in old:
                del self._checks[key]
        return len(old)
