"""What is told of one version's breaker: a line of the log and metrics at once, events when the recorder writes next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ekiben.guards.breaker import CLOSED, HALF_OPEN, OPEN, STATES, Change
from ekiben.monitoring.guard_metrics import VersionGuardMetrics
from ekiben.state.events import Event

logger = logging.getLogger("ekiben.breaker")

OPENED: Final = "breaker-opened"
CLOSED_AGAIN: Final = "breaker-closed"


class BreakerNews:
    """Hears of the changes of one breaker.

    Args:
        model, version: Whose it is.
        metrics: Where its state is shown.
        wall: Seconds since the epoch.
    """

    def __init__(self, model: str, version: str, metrics: VersionGuardMetrics, wall: Callable[[], float]) -> None:
        self._model = model
        self._version = version
        self._metrics = metrics
        self._wall = wall
        self._events: list[Event] = []

    def __call__(self, change: Change) -> None:
        """The breaker changed its state."""
        self._metrics.breaker(change.after, STATES[change.after])
        tag = f"{self._model}:{self._version}"
        if change.before == CLOSED and change.after == OPEN:
            logger.error("%s is broken and not asked for %g s: %s", tag, change.open_for_s, change.numbers)
            self._keep(OPENED, f"{tag} counts as broken in one worker: {change.numbers}", change)
        elif change.before == HALF_OPEN and change.after == OPEN:
            # Every few seconds as long as it is broken: no event each.
            logger.warning("%s is broken still: %s", tag, change.numbers)
        elif change.after == CLOSED:
            logger.warning("%s answers again", tag)
            self._keep(CLOSED_AGAIN, f"{tag} answers again in one worker, after {change.answered} requests that tried it", change)

    def take(self, who: str) -> list[Event]:
        """The events since this was asked last; ``who`` is the worker."""
        events, self._events = self._events, []
        return [Event(time=e.time, who=who, model=e.model, kind=e.kind, message=e.message, details=e.details) for e in events]

    def _keep(self, kind: str, message: str, change: Change) -> None:
        details = {
            "version": self._version,
            "answered": change.answered,
            "failed": change.failed,
            "window_s": change.window_s,
            "open_for_s": change.open_for_s,
        }
        self._events.append(Event(time=self._wall(), who="", model=self._model, kind=kind, message=message, details=details))
