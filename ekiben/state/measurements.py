"""Measurements: what an analysis found, each time it looked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Literal

import msgspec

Outcome = Literal["Successful", "Failed", "Inconclusive", "Error"]


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look at one metric.

    Attributes:
        rollout: Id of the rollout.
        step: Index of the step that began the stage: the last ``setWeight`` or ``shadow``.
        metric: Its name in the plan.
        time: Seconds since the epoch.
        outcome: What was found.
        message: Why, a sentence with the numbers.
        value, low, high: The challenger's, with its interval; None where there is none.
        n: Requests (rows, for quality) it is of.
        champion_value, champion_low, champion_high, champion_n: The same of the champion.
        limit: What the value was held against.
        dry_run: It decides nothing.
    """

    rollout: str
    step: int
    metric: str
    time: float
    outcome: Outcome
    message: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    champion_value: float | None = None
    champion_low: float | None = None
    champion_high: float | None = None
    champion_n: int = 0
    limit: float | None = None
    dry_run: bool = False


class Measurements(ABC):
    """The measurements of all rollouts. All methods raise `StateError` when what holds them cannot be read or written.

    They are written with the rollout that they belong to, or alone where nothing else changes.
    """

    @abstractmethod
    def append(self, measurements: Sequence[Measurement]) -> None:
        """Keeps measurements, all or none."""

    @abstractmethod
    def find(self, rollout: str, *, step: int | None = None) -> list[Measurement]:
        """The measurements of a rollout, or of one of its stages, in the order they were made."""


class MemoryMeasurements(Measurements):
    """Measurements that live as long as the object."""

    def __init__(self) -> None:
        self._kept: list[Measurement] = []
        self._lock = Lock()

    def append(self, measurements: Sequence[Measurement]) -> None:
        """See `Measurements`."""
        with self._lock:
            self._kept += measurements

    def find(self, rollout: str, *, step: int | None = None) -> list[Measurement]:
        """See `Measurements`."""
        with self._lock:
            return [m for m in self._kept if m.rollout == rollout and step in (None, m.step)]
