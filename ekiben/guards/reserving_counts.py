"""Counters of which each worker takes a little ahead, so that most requests need ask nobody.

Where a rate is large, a worker that takes from its counter takes a share of a window's units, and spends these by itself. What all
workers together have taken ahead is `_AHEAD` of what a window holds, at most; what is not spent within a window is let go. So at
any time no more passes than the rate says, but for that share, which may pass a window later than it was counted; and no less, but
for that share. A rate of which the share is less than two units is asked for each request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ekiben.guards.counts import Counts, Place
from ekiben.guards.rates import Rate, Standing

_AHEAD: Final = 0.01
"""Share of a window's units, of all workers together."""

_MOST: Final = 4096
_WORTHWHILE: Final = 2.0


class _Ahead(msgspec.Struct):
    """What a worker has taken of some counters and not spent.

    Attributes:
        units: So many.
        until: Clock until which they are good, seconds.
        standing: What is told of them; one object for all who take of them, which follows what is left.
        full_at: Clock at which it will be as if nothing had been taken.
    """

    units: float
    until: float
    standing: Standing
    full_at: float


class ReservingCounts(Counts):
    """Counters, taken ahead.

    Args:
        counts: The counters that all workers share.
        workers: How many workers there are.
        clock: Monotonic seconds.
    """

    def __init__(self, counts: Counts, workers: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._share = _AHEAD / workers
        self._clock = clock
        self._ahead: dict[tuple[bytes, ...], _Ahead] = {}

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """As `Counts.take` says."""
        if (told := self.take_now(rates, names, cost)) is not None:
            return told
        key, now = _key(names), self._clock()
        units = min([min(rate.limit, rate.capacity) for rate in rates]) * self._share
        if units < _WORTHWHILE * cost:
            return await self._counts.take(rates, names, cost)
        standing = await self._counts.take(rates, names, float(int(units)))
        if not standing.allowed:  # so much is not left; what is asked for may be
            return await self._counts.take(rates, names, cost)
        former = self._ahead.pop(key, None)
        rest = former.units if former is not None and now < former.until else 0.0
        ahead = _Ahead(rest + int(units), now + min([rate.window_s for rate in rates]), standing, now + standing.reset_s)
        standing.left += ahead.units
        self._keep(key, ahead)
        return _taken(ahead, cost, now)

    def take_now(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing | None:  # noqa: ARG002  the names say all
        """As `Counts.take_now` says."""
        ahead = self._ahead.get(_key(names))
        if ahead is None or ahead.units < cost:
            return None
        now = self._clock()
        if now >= ahead.until:
            return None
        return _taken(ahead, cost, now)

    def hold_now(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold_now` says."""
        return self._counts.hold_now(name, limit)

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold` says."""
        return await self._counts.hold(name, limit)

    def release(self, place: Place) -> None:
        """As `Counts.release` says."""
        self._counts.release(place)

    async def close(self) -> None:
        """As `Counts.close` says."""
        self._ahead.clear()
        await self._counts.close()

    def _keep(self, key: tuple[bytes, ...], ahead: _Ahead) -> None:
        if len(self._ahead) >= _MOST:
            del self._ahead[next(iter(self._ahead))]
        self._ahead[key] = ahead


def _key(names: Sequence[bytes]) -> tuple[bytes, ...]:
    return names if isinstance(names, tuple) else tuple(names)


def _taken(ahead: _Ahead, cost: float, now: float) -> Standing:
    ahead.units -= cost
    standing = ahead.standing
    standing.left -= cost
    standing.reset_s = max(0.0, ahead.full_at - now)
    return standing
