"""How busy a worker's event loop is: what can wait, waits or is left out while it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_PERIOD_S: Final = 0.05
_BUSY: Final = 0.85
"""Share of its time that the loop's thread computes, from which on a request finds it busy more often than not."""

_LAG_S: Final = 0.02


class LoadMeter:
    """Measures the event loop that it runs in.

    Args:
        clock: Monotonic seconds.
        cpu: Seconds of CPU of the calling thread.

    Attributes:
        is_high: Whether the loop was busy, or late, over the last twentieth of a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time) -> None:
        self.is_high = False
        self._clock = clock
        self._cpu = cpu

    async def run(self) -> None:
        """Measures until it is cancelled."""
        while True:
            began, spent = self._clock(), self._cpu()
            await asyncio.sleep(_PERIOD_S)
            self.note(self._clock() - began, self._cpu() - spent)

    def note(self, seconds: float, cpu_s: float) -> None:
        """A period that was to last a twentieth of a second lasted so long, and took the thread so much CPU."""
        self.is_high = cpu_s > _BUSY * seconds or seconds - _PERIOD_S > _LAG_S
