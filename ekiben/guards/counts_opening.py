"""The counters that the settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ekiben.guards.counts import Counts, MemoryCounts, Place
from ekiben.guards.rates import Rate, Standing
from ekiben.guards.reserving_counts import ReservingCounts
from ekiben.settings import Settings

logger = logging.getLogger("ekiben.limits")


def open_counts(settings: Settings, *, on_change: Callable[[bool], None] = lambda _: None) -> Counts:
    """Counters in Redis, where ``EKIBEN_REDIS_URL`` names one, else in files in ``EKIBEN_HOME``.

    Make it in the worker, once. Nothing is connected to, and no file made, before something is counted.

    Args:
        settings: The settings in force.
        on_change: Hears whether the counters can be reached: when that is first known, and when it changes.

    Raises:
        SettingError: Redis is wanted, and its client is not installed or the URL is of no use.
    """
    if settings.redis_url:
        from ekiben.guards.redis_counts import RedisCounts  # noqa: PLC0415  only who has a Redis needs it

        return RedisCounts.at(settings.redis_url, on_change=on_change)
    return ReservingCounts(HostCounts(settings, on_change), settings.workers)


class HostCounts(Counts):
    """Counters of one host, in files that are opened when something is first counted: most servers limit nothing.

    Where the files cannot be made, the log says so and each worker counts for itself: with N workers up to N times as much passes.

    Args:
        settings: The settings in force.
        on_change: Hears whether the counters are shared.
    """

    def __init__(self, settings: Settings, on_change: Callable[[bool], None]) -> None:
        self._home = settings.home
        self._on_change = on_change
        self._counts: Counts | None = None

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """As `Counts.take` says."""
        return await (self._counts or self._open()).take(rates, names, cost)

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold` says."""
        return await (self._counts or self._open()).hold(name, limit)

    def hold_now(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold_now` says."""
        return self._counts.hold_now(name, limit) if self._counts is not None else None

    def release(self, place: Place) -> None:
        """As `Counts.release` says."""
        if self._counts is not None:
            self._counts.release(place)

    async def close(self) -> None:
        """As `Counts.close` says."""
        if self._counts is not None:
            await self._counts.close()

    def _open(self) -> Counts:
        from ekiben.guards.shared_counts import SharedCounts  # noqa: PLC0415  xxhash is no need of the command line's

        try:
            self._counts = SharedCounts(self._home)
        except OSError as e:
            logger.warning("limits are counted by each worker for itself: the counters in %s cannot be shared: %s", self._home, e)
            self._counts = MemoryCounts()
        self._on_change(isinstance(self._counts, SharedCounts))
        return self._counts
