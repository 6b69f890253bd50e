"""Ground truth on its way: each report is due some time after its answer; some come late, some twice, and none in order."""

from __future__ import annotations

import heapq
from random import Random
from typing import Any, Final

import msgspec

REPEATED_SHARE: Final = 0.05
_REPEATED_AFTER_S: Final = (0.05, 0.5)


class TruthCounts(msgspec.Struct):
    """What was reported.

    Attributes:
        flights: Different rows.
        reports: Reports, the repeated ones too.
    """

    flights: int = 0
    reports: int = 0

    @property
    def repeated(self) -> int:
        """Reports of what had been reported before."""
        return self.reports - self.flights


class TruthQueue:
    """Reports by when they are due.

    Args:
        seed: Draws which are repeated, and the order of those that are due together.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  the same every time, and no secret
        self._due: list[tuple[float, int, dict[str, Any]]] = []
        self._added = 0
        self.counts = TruthCounts()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._due)

    def add(self, request_id: str, actual: str, due_s: float) -> None:
        """A row's truth is to be reported.

        Args:
            request_id: The request; its first row is meant.
            actual: What happened.
            due_s: When, seconds of any clock.
        """
        report = {"request_id": request_id, "actual": actual}
        self.counts.flights += 1
        self._push(due_s, report)
        if self._random.random() < REPEATED_SHARE:
            self._push(due_s + self._random.uniform(*_REPEATED_AFTER_S), report)

    def take(self, now_s: float) -> list[dict[str, Any]]:
        """The reports that are due, in no order."""
        taken = []
        while self._due and self._due[0][0] <= now_s:
            taken.append(heapq.heappop(self._due)[2])
        self._random.shuffle(taken)
        return taken

    def _push(self, due_s: float, report: dict[str, Any]) -> None:
        self._added += 1
        self.counts.reports += 1
        heapq.heappush(self._due, (due_s, self._added, report))
