"""Where counters are kept: what every such place promises, and the one in a process's own memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from ekiben.guards.rates import EPOCH_S, FRESH, Rate, Standing, State, standing_of

COUNTERS: Final = 65_536
"""How many counters are kept; beyond that the one that was idle longest goes."""


class Place(msgspec.Struct):
    """One of so many that may be under way at once; whoever has it gives it back.

    Attributes:
        name: Names the counter.
        index: Where it is noted, for the keeper of the counts.
        is_held: Whether it has not been given back.
    """

    name: bytes
    index: int = -1
    is_held: bool = True


class Counts(Protocol):
    """Keeps the counters of limits. Used from one thread, that of the event loop."""

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """Takes a cost from one counter of each rate, from all or from none.

        Args:
            rates: One or more.
            names: The counter for each.
            cost: Units, of each rate's capacity at most.

        Raises:
            NotReady: The counters cannot be reached, and a rate says to refuse then.
        """

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """Takes one of so many places; None where all are held."""

    def take_now(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing | None:  # noqa: ARG002  for those who can
        """As `take`, where that can be said without asking anybody; None where `take` must be asked."""
        return None

    def hold_now(self, name: bytes, limit: int) -> Place | None:  # noqa: ARG002  as above
        """As `hold`, where that can be said without asking anybody; None where `hold` must be asked."""
        return None

    def release(self, place: Place) -> None:
        """Gives a place back; a second time does nothing. Never raises."""

    async def close(self) -> None:
        """Lets go of everything, the places too."""


class MemoryCounts(Counts):
    """Counters in this process's memory: those of one worker, and of tests.

    Args:
        wall: Seconds since the epoch.
        most: How many counters are kept.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time, most: int = COUNTERS) -> None:
        self._wall = wall
        self._most = most
        self._states: dict[bytes, State] = {}
        self._held: dict[bytes, int] = {}

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """As `Counts.take` says."""
        now = self._wall() - EPOCH_S
        states = self._states
        outcomes = [rate.outcome(states.get(name, FRESH), now, cost) for rate, name in zip(rates, names, strict=True)]
        standing = standing_of(rates, outcomes)
        if standing.allowed:
            for name, outcome in zip(names, outcomes, strict=True):
                states.pop(name, None)  # so that the order of the dict is that of their last use
                states[name] = outcome.state
            while len(states) > self._most:
                del states[next(iter(states))]
        return standing

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold` says."""
        held = self._held.get(name, 0)
        if held >= limit:
            return None
        self._held[name] = held + 1
        return Place(name)

    def release(self, place: Place) -> None:
        """As `Counts.release` says."""
        if not place.is_held:
            return
        place.is_held = False
        held = self._held.pop(place.name, 0) - 1
        if held > 0:
            self._held[place.name] = held

    async def close(self) -> None:
        """As `Counts.close` says."""
        self._held.clear()
