"""The circuit breaker of one version in one worker.

    closed ──(too many of the last requests failed)──▶ open ──(`open_for` is over)──▶ half-open
      ▲                                                 ▲                                │
      └──────────────(`probes` requests are answered)───┼────────────────────────────────┤
                                                        └──(the first one that fails)────┘

Each worker has its own: what they see of a broken version is alike, as the connections are spread over them, and a count that they
shared would cost every request a message. So with N workers up to N times `min_requests` fail before all are open.

What ends is told batch by batch. While it is closed a request pays for one look at an attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ekiben.errors import CircuitOpen
from ekiben.model.guard_spec import BreakerSpec
from ekiben.model.rollout_spec import seconds

CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2
STATES: Final = ("closed", "half-open", "open")
"""Their names; a larger state is a worse one, so that the largest of all workers' says how bad it is."""

_SLOTS: Final = 10
_SHORTEST_S: Final = 0.05
_TOLD_S: Final = 2.0
"""So much longer than it is open it is told that it was, for those who look once a second."""

Outcome = tuple[float, bool | None]
"""When a request was queued, and whether it was answered; None where its end says nothing of the model."""


class Change(msgspec.Struct, frozen=True):
    """A breaker went from one state to another.

    Attributes:
        before, after: The states.
        answered, failed: Requests of the window, at that moment; of a breaker that was half-open, probes.
        window_s: The window, seconds.
        open_for_s: How long it stays open, seconds.
    """

    before: int
    after: int
    answered: int
    failed: int
    window_s: float
    open_for_s: float

    @property
    def numbers(self) -> str:
        """What decided, for people."""
        if self.before == HALF_OPEN:
            return f"{self.failed} of {self.answered + self.failed} requests that tried it failed"
        return f"{self.failed} of {self.answered + self.failed} requests failed within {self.window_s:g} s"


class Breaker:
    """Counts how requests end, and refuses them while the version is broken.

    Used from the event loop alone.

    Args:
        spec: When it opens, and for how long.
        clock: Monotonic seconds.
        on_change: Told of each change of its state.

    Attributes:
        is_closed: Whether requests pass without being asked for; always where the spec has it disabled.
        state: `CLOSED`, `HALF_OPEN` or `OPEN`.
        last: The change that opened it last; None where it never did, or closed since.
    """

    def __init__(self, spec: BreakerSpec, clock: Callable[[], float], on_change: Callable[[Change], None] = lambda _: None) -> None:
        self.is_closed = True
        self.state = CLOSED
        self.last: Change | None = None
        self._spec = spec
        self._clock = clock
        self._on_change = on_change
        self._window_s = seconds(spec.window)
        self._open_for_s = seconds(spec.open_for)
        self._slots_per_s = _SLOTS / self._window_s
        self._slot = 0
        self._answered = [0] * _SLOTS
        self._failed = [0] * _SLOTS
        self._since = 0.0
        self._tickets = 0
        self._probed = 0
        self._probing_until = 0.0

    def problem(self) -> str:
        """Why the version is broken; empty where it is not, and where nobody has tried it since it might be again.

        A version that nobody asks any more would otherwise be broken for ever.
        """
        if self.last is None or self._clock() - self._since > self._open_for_s + _TOLD_S:
            return ""
        return self.last.numbers

    # ── before a request ─────────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, deadline: float) -> None:
        """Lets a request try the version, or refuses it; asked only where it is not closed.

        Args:
            deadline: Clock by which the request ends at the latest. A probe that ends without a word (its client hung up) is
                taken for lost then, and another one may try.

        Raises:
            CircuitOpen: The version is broken, or others are trying it just now.
        """
        now = self._clock()
        if self.state == OPEN:
            left = self._since + self._open_for_s - now
            if left > 0:
                raise self._refusal(left)
            self._go(HALF_OPEN, now)
        elif not self._tickets and now >= self._probing_until:
            self._tickets = self._spec.probes - self._probed
        if not self._tickets:
            raise self._refusal(min(self._probing_until - now, self._open_for_s))
        self._tickets -= 1
        self._probing_until = max(self._probing_until, deadline)

    def returned(self) -> None:
        """A request that was let through ended before the version saw it: another one may try in its place."""
        if self.state == HALF_OPEN:
            self._tickets = min(self._tickets + 1, self._spec.probes - self._probed)

    def _refusal(self, left: float) -> CircuitOpen:
        why = self.last.numbers if self.last is not None else "it failed"
        return CircuitOpen(f"this version is not asked for a while: {why}; ask again in {max(left, 0):.1f} s", max(left, _SHORTEST_S))

    # ── after a batch ────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, n: int, now: float) -> None:
        """So many requests were answered; the short way for a batch that was answered whole, while it is closed."""
        slot = int(now * self._slots_per_s)
        if slot != self._slot:
            self._advance(slot)
        self._answered[slot % _SLOTS] += n

    def ended(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Requests ended.

        Args:
            outcomes: How, a request each.
            now: The clock.
        """
        if self.state == CLOSED:
            results = [result for _, result in outcomes]
            self.answered(results.count(True), now)
            if failed := results.count(False):
                self._failed[self._slot % _SLOTS] += failed
                self._judge(now)
            return
        for queued, result in outcomes:
            # What was queued before says how it was, and not how it is.
            if self.state == HALF_OPEN and queued >= self._since:
                self._tried(now, result=result)

    def _judge(self, now: float) -> None:
        answered, failed = sum(self._answered), sum(self._failed)
        ended = answered + failed
        spec = self._spec
        if spec.enabled and ended >= spec.min_requests and failed >= spec.error_rate * ended:
            self._go(OPEN, now, answered=answered, failed=failed)

    def _tried(self, now: float, *, result: bool | None) -> None:
        if result is None:
            self.returned()
        elif not result:
            self._go(OPEN, now, answered=self._probed, failed=1)
        else:
            self._probed += 1
            if self._probed >= self._spec.probes:
                self._go(CLOSED, now, answered=self._probed)

    def _go(self, state: int, now: float, *, answered: int = 0, failed: int = 0) -> None:
        change = Change(self.state, state, answered, failed, self._window_s, self._open_for_s)
        self.state, self.is_closed, self._since = state, state == CLOSED, now
        self._answered, self._failed = [0] * _SLOTS, [0] * _SLOTS
        self._tickets = self._spec.probes if state == HALF_OPEN else 0
        self._probed = 0
        self._probing_until = now
        if state == OPEN:
            self.last = change
        elif state == CLOSED:
            self.last = None
        self._on_change(change)

    def _advance(self, slot: int) -> None:
        """Forgets the slots that are out of the window."""
        for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._answered[passed % _SLOTS] = self._failed[passed % _SLOTS] = 0
        self._slot = slot
