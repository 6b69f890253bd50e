"""How fast the latency budget of one version is used up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 300.0
ALLOWED: Final = 0.01
"""Share of the answers that may take longer than ``latency_budget_ms``, which is promised at p99."""

_SLOTS: Final = 30
_SLOT_S: Final = WINDOW_S / _SLOTS


class BurnRate:
    """The share of answers over the budget, by the share that is allowed: 1 uses up exactly what there is, 100 is all of them.

    The formula is that of burn rates of error budgets: the Site Reliability Workbook, chapter 5, "Alerting on SLOs".

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slots = [[0, 0, 0] for _ in range(_SLOTS)]  # which slot of all time, answered, over

    def add(self, answered: int, over: int) -> None:
        """So many requests were answered, and so many of them took too long."""
        if answered:
            number = int(self._clock() / _SLOT_S)
            slot = self._slots[number % _SLOTS]
            if slot[0] != number:
                slot[:] = number, 0, 0
            slot[1] += answered
            slot[2] += over

    def value(self) -> float:
        """The burn rate of the last five minutes; 0 where nothing was answered."""
        first = int(self._clock() / _SLOT_S) - _SLOTS + 1
        answered = sum(n for number, n, _ in self._slots if number >= first)
        over = sum(n for number, _, n in self._slots if number >= first)
        return over / answered / ALLOWED if answered else 0.0
