"""Whether the control database answers: said once when it goes and once when it is back, in the log, a metric and ``/readyz``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from ekiben.errors import StateError
from ekiben.monitoring.metrics import Metrics

logger = logging.getLogger("ekiben.control")

Way = Literal["read", "write"]


class ControlLink:
    """What a worker knows of its way to the control database.

    Reading and writing are looked at apart: a disk may be full, or read-only, and the routes be read all the same.

    Args:
        metrics: This process's collectors.
        wall: Seconds since the epoch.
    """

    def __init__(self, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._gauge = metrics.control_up
        self._wall = wall
        self._away_since = 0.0
        self._problems: dict[Way, str] = {}

    def answered(self, way: Way) -> None:
        """It was read, or written."""
        if self._problems.pop(way, None) is not None and not self._problems:
            logger.warning("the control database is back after %.0f s", self._wall() - self._away_since)
            self._away_since = 0.0
        self._gauge.set(0 if self._problems else 1)

    def failed(self, way: Way, error: StateError) -> None:
        """It could not be read, or written."""
        if not self._problems:
            self._away_since = self._wall()
            logger.warning("the control database is away; serving goes on with the last known routes: %s", error)
        self._problems[way] = str(error)
        self._gauge.set(0)

    @property
    def detail(self) -> str:
        """What ``/readyz`` says of it; empty while it answers."""
        if not self._problems:
            return ""
        since = datetime.fromtimestamp(self._away_since, UTC).isoformat(timespec="seconds")
        return f"away since {since}, serving goes on with the last known routes: {next(iter(self._problems.values()))}"
