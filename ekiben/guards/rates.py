"""The two ways of limiting a rate, as arithmetic on one counter's numbers: whoever keeps counters asks these.

**Token bucket**, as the generic cell rate algorithm: one number, the theoretical arrival time, at which the bucket is full again
(ITU-T I.371, 2004, annex A, in its virtual scheduling form). With a rate of `r` units a second and a burst of `b`, no span of
`t` seconds sees more than `b + r·t` units.

**Sliding window**, by two numbers: the counts of this window and of the one before, of which that part still counts that the
window, ending now, covers (the estimate that Cloudflare described in "How we built rate limiting capable of scaling to millions
of domains", 2017). It takes what the former window had as spread evenly. Where it came all at its end, up to twice the number
can pass within one window's time, and where it came all at its begin, some is refused that need not be; traffic that is spread
evenly is counted exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ekiben.model.guard_spec import RateSpec
from ekiben.model.rollout_spec import seconds

EPOCH_S: Final = 1_767_225_600.0
"""2026-01-01 UTC. Times of counters count from here: in seconds since 1970 a double resolves a quarter of a microsecond, here 4 ns."""

Per = Literal["key", "ip", "model"]
State = tuple[float, float, float]
"""What is kept of a counter: two numbers of the algorithm, and when it was last used (seconds since `EPOCH_S`). It begins as zeros."""

FRESH: Final[State] = (0.0, 0.0, 0.0)
_SLACK_S: Final = 1e-6
_SLACK: Final = 1e-9
_MOST: Final = 1e15


class Outcome(msgspec.Struct):
    """What became of a cost at one counter.

    Attributes:
        allowed: Whether it fits.
        state: The counter with the cost taken; as it was where it does not fit.
        left: Units that would still fit now.
        reset_s: Seconds until the counter is as if nothing had been taken.
        wait_s: Seconds after which the cost would fit; 0 where it does.
    """

    allowed: bool
    state: State
    left: float
    reset_s: float
    wait_s: float


class Rate(ABC):
    """One rate.

    Args:
        spec: What it says.
        scope: What it counts for: a model's name, or ``*`` for all models together.
        nth: Which it is of those of the scope that would count in the same counter.

    Attributes:
        per, unreachable: As the spec has them.
        unit: ``requests`` or ``rows``.
        limit: Units in each window.
        window_s: Seconds.
        capacity: Units that may come at once; more than these never fit.
        prefix: Names its counters, before who is counted. The number and the burst are not in it: a counter outlives their change.
        label: Names it in metrics, without its numbers.
    """

    def __init__(self, spec: RateSpec, scope: str, nth: int = 0) -> None:
        self.per: Per = spec.per
        self.unreachable = spec.unreachable
        self.unit = "requests" if spec.requests is not None else "rows"
        self.limit = float(spec.requests if spec.requests is not None else spec.rows or 0)
        self.every = spec.every if isinstance(spec.every, str) else f"{spec.every:g}s"
        self.window_s = seconds(spec.every)
        self.capacity = self.limit
        self.prefix = f"{spec.algorithm}|{scope}|{nth}|{spec.per}|{self.unit}|{self.window_s:g}|".encode()
        self.label = f"{'all:' if scope == '*' else ''}{spec.per}:{self.unit}:{self.every}"

    @abstractmethod
    def outcome(self, state: State, now: float, cost: float) -> Outcome:
        """What becomes of a cost.

        Args:
            state: The counter.
            now: Seconds since `EPOCH_S`.
            cost: Units, `capacity` at most.
        """

    def __str__(self) -> str:
        whose = {"key": "each key", "ip": "each address", "model": "all together"}[self.per]
        return f"{self.limit:g} {self.unit} every {self.every} for {whose}"


class TokenBucket(Rate):
    """Refills evenly, and holds so many."""

    def __init__(self, spec: RateSpec, scope: str, nth: int = 0) -> None:
        super().__init__(spec, scope, nth)
        # A bucket that holds less than one would never let anything pass.
        self.capacity = spec.burst if spec.burst is not None else max(1.0, self.limit)
        self.unit_s = self.window_s / self.limit
        self.full_s = self.capacity * self.unit_s

    def outcome(self, state: State, now: float, cost: float) -> Outcome:
        """As `Rate.outcome` says.

        A time further ahead than a whole bucket is of a clock that has been set back since, or of a larger burst. Up to twice
        that far it is waited for; further, the bucket is taken for full, or a clock that was wrong would refuse all for long.
        """
        arrival = state[0]
        most = now + self.full_s
        if not now < arrival <= most + self.full_s:  # also what is no number
            arrival = now
        new = arrival + cost * self.unit_s
        if new > most + _SLACK_S:
            return Outcome(False, state, max(0.0, most - arrival) / self.unit_s, arrival - now, new - most)  # noqa: FBT003  fields in order
        left = (most - new) / self.unit_s
        return Outcome(True, (new, 0.0, now), left if left > 0 else 0.0, new - now, 0.0)  # noqa: FBT003  as above


class SlidingWindow(Rate):
    """Looks back over one window from any moment, by an estimate."""

    def outcome(self, state: State, now: float, cost: float) -> Outcome:
        """As `Rate.outcome` says."""
        window, limit = self.window_s, self.limit
        current, former, used_at = self._counted(state, now)
        start = used_at - used_at % window
        passed = (now - start) / window if now > start else 0.0
        used = former * (1.0 - passed) + current
        fits = used + cost <= limit * (1 + _SLACK)
        taken = cost if fits else 0.0
        reset_s = self._reset_s(current + taken, former, start - now)
        wait_s = 0.0 if fits else self._wait_s(current, former, passed, cost)
        new = (current + cost, former, used_at) if fits else state
        return Outcome(fits, new, max(0.0, limit - used - taken), reset_s, wait_s)

    def _counted(self, state: State, now: float) -> State:
        """The counts of the window that `now` is in and of the one before, and when, in that window, the counter is used."""
        current, former, used_at = state
        window = self.window_s
        # Further ahead is a clock that has been set back since; by less, or where another process read it later, it goes on.
        if not (0.0 <= current < _MOST and 0.0 <= former < _MOST and 0.0 <= used_at <= now + window):
            return 0.0, 0.0, now
        steps = now // window - used_at // window
        if steps <= 0:
            return current, former, max(now, used_at)
        return 0.0, current if steps == 1 else 0.0, now

    def _reset_s(self, current: float, former: float, begin_s: float) -> float:
        if current:
            return begin_s + 2 * self.window_s
        return begin_s + self.window_s if former else 0.0

    def _wait_s(self, current: float, former: float, passed: float, cost: float) -> float:
        """When the estimate has gone down far enough: within this window if what it has allows, else within the next."""
        room = self.limit - cost
        if current <= room and former:
            share = 1 - (room - current) / former
            return max(0.0, (share - passed) * self.window_s)
        share = max(0.0, 1 - room / current) if current else 0.0
        return (1 - passed + share) * self.window_s


def rates_of(specs: Sequence[RateSpec], scope: str) -> list[Rate]:
    """The rates of a model's limits, or of those for all models (scope ``*``)."""
    found: list[Rate] = []
    seen: dict[tuple[object, ...], int] = {}
    for spec in specs:
        same = (spec.algorithm, spec.per, spec.requests is None, seconds(spec.every))
        nth = seen[same] = seen.get(same, -1) + 1
        found.append((TokenBucket if spec.algorithm == "token_bucket" else SlidingWindow)(spec, scope, nth))
    return found


class Standing(msgspec.Struct):
    """What became of a cost at all the rates that it was to fit.

    Attributes:
        allowed: Whether it fits all, and so was taken from all.
        rate: The rate with the least left of what it holds; where it did not fit, the one to wait for longest. None where none was
            asked.
        left: Units of it that would still fit now.
        reset_s: Seconds until it is as if nothing had been taken.
        wait_s: Seconds after which the cost would fit.
    """

    allowed: bool
    rate: Rate | None = None
    left: float = 0.0
    reset_s: float = 0.0
    wait_s: float = 0.0


def standing_of(rates: Sequence[Rate], outcomes: Sequence[Outcome]) -> Standing:
    """What to tell of the outcomes at some rates, in the same order."""
    refused = None
    tightest, share = 0, math.inf
    for n, outcome in enumerate(outcomes):
        if not outcome.allowed:
            if refused is None or outcome.wait_s > outcomes[refused].wait_s:
                refused = n
        elif (left := outcome.left / rates[n].capacity) < share:
            tightest, share = n, left
    n = tightest if refused is None else refused
    told = outcomes[n]
    return Standing(refused is None, rates[n], told.left, told.reset_s, told.wait_s)
