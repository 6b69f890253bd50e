"""Delivering: what is on its way is tried until it has arrived, with longer and longer waits, or is given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from ekiben.errors import StateError
from ekiben.state.deliveries import Deliveries, Delivery
from ekiben.state.events import Event, Events

FAILED: Final = "hook-failed"
"""The kind of event that says a delivery was given up; nobody is told of it."""

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 300.0
_PAUSE_S: Final = 0.5

logger = logging.getLogger("ekiben.webhooks")


class Tried(msgspec.Struct, frozen=True):
    """How one try of a delivery went.

    Attributes:
        problem: What went wrong; empty where it arrived.
        is_final: Whether trying again is of no use.
    """

    problem: str = ""
    is_final: bool = False


class Deliverer:
    """Delivers what is in one queue.

    Deliveries are kept in the control database, so that another process delivers what this one did not. Who gets a message
    may get it again, with the same id: when the process ends between the delivery and the note of it.

    Args:
        queue: The queue.
        deliveries: Where it is kept.
        events: Where it is said that one was given up.
        who: Who says so.
        wall: Seconds since the epoch.
        attempt: Tries one delivery, once.
        name: A delivery's destination, as people may see it.
        tries: After so many that failed, one is given up.
    """

    def __init__(
        self,
        queue: str,
        deliveries: Deliveries,
        events: Events,
        *,
        who: str,
        wall: Callable[[], float],
        attempt: Callable[[Delivery], Tried],
        name: Callable[[Delivery], str],
        tries: int,
    ) -> None:
        self._queue = queue
        self._deliveries = deliveries
        self._events = events
        self._who = who
        self._wall = wall
        self._attempt = attempt
        self._name = name
        self._tries = tries

    def deliver(self) -> int:
        """Tries the deliveries that are due; returns how many.

        Raises:
            StateError: The control database does not answer.
        """
        due = self._deliveries.due(self._wall(), queue=self._queue)
        for delivery in due:
            self._try(delivery)
        return len(due)

    def run(self, stop: threading.Event, may_send: Callable[[], bool]) -> None:
        """Delivers until it is told to.

        Args:
            stop: Says when to stop; one that is being sent is left behind.
            may_send: Whether this process is the one that delivers now.
        """
        while not stop.is_set():
            try:
                if may_send():
                    self.deliver()
            except StateError as e:
                logger.debug("webhooks wait: %s", e)
            except Exception:
                logger.exception("a webhook could not be called")
            stop.wait(_PAUSE_S)

    def _try(self, delivery: Delivery) -> None:
        tried = self._attempt(delivery)
        attempts = delivery.attempts + 1
        if not tried.problem:
            done = msgspec.structs.replace(delivery, attempts=attempts, state="delivered", problem="")
        elif tried.is_final or attempts >= self._tries:
            done = msgspec.structs.replace(delivery, attempts=attempts, state="given-up", problem=tried.problem)
            self._tell(done)
        else:
            due = self._wall() + wait_s(attempts)
            done = msgspec.structs.replace(delivery, attempts=attempts, due=due, problem=tried.problem)
        self._deliveries.update(done)

    def _tell(self, delivery: Delivery) -> None:
        event, tries = delivery.event, f"{delivery.attempts} {'try' if delivery.attempts == 1 else 'tries'}"
        message = f"{self._name(delivery)} did not get {event.kind!r} in {tries}: {delivery.problem}"
        details = {"event": event.id, "attempts": delivery.attempts, "problem": delivery.problem}
        logger.warning(message)
        failed = Event(
            time=self._wall(), who=self._who, model=event.model, rollout=event.rollout, kind=FAILED, message=message, details=details
        )
        self._events.append([failed])


def wait_s(attempts: int) -> float:
    """Seconds to wait after so many tries that failed: one, and then twice as long each time, five minutes at most."""
    return min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 60), _LONGEST_WAIT_S)
