"""The audit trail: who did what over the admin API, also who tried and was refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import msgspec

from ekiben.errors import StateError
from ekiben.guards.key_operations import CREATED, REVOKED, ROTATED
from ekiben.state.events import Event, Events

logger = logging.getLogger("ekiben.audit")

ADMIN: Final = "admin"
"""The kind of event that tells of a request to the admin API."""

KINDS: Final = (ADMIN, CREATED, ROTATED, REVOKED)
MOST_REFUSED: Final = 10
REFUSED_PER_S: Final = 60.0


class AdminAction(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the admin API, and how it ended. Nothing of its body or its headers.

    Attributes:
        who: Principal and address: ``key:ab12cd34@192.0.2.7``.
        method: Its method.
        route: Its row in the API's table, as ``/rollouts/{model}/promote``; empty where there is none.
        parts: The parts of its path that stand for something.
        status: The status that it was answered.
    """

    who: str
    method: str
    route: str
    parts: dict[str, str] = {}
    status: int


class AuditTrail:
    """Keeps what was done, as events of no model.

    Refused requests are kept at a bounded rate, `MOST_REFUSED` in `REFUSED_PER_S` of each worker: strangers cannot fill the
    database. The next that is kept says how many were left out.

    Args:
        events: Where they are kept.
        wall: Seconds since the epoch.
        clock: Monotonic seconds.
    """

    def __init__(self, events: Events, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._events = events
        self._wall = wall
        self._clock = clock
        self._began = float("-inf")
        self._refused = 0
        self._left_out = 0
        self._lock = Lock()

    def done(self, action: AdminAction) -> None:
        """Keeps an action of somebody who was let in. It may block."""
        self._keep(action, {})

    def takes_refused(self) -> bool:
        """Whether one more that was refused is to be kept; counts it either way. It never blocks."""
        with self._lock:
            if self._clock() - self._began >= REFUSED_PER_S:
                self._began, self._refused = self._clock(), 0
            self._refused += 1
            is_taken = self._refused <= MOST_REFUSED
            self._left_out += not is_taken
            return is_taken

    def refused(self, action: AdminAction) -> None:
        """Keeps that somebody was not let in, where `takes_refused` said so. It may block."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        self._keep(action, {"refused": True, **({"left_out_before": left_out} if left_out else {})})

    def _keep(self, action: AdminAction, more: dict[str, Any]) -> None:
        what = f"{action.method} {action.route or 'of no route'}"
        named = " ".join(f"{name}={value}" for name, value in action.parts.items())
        message = f"{what}{f' ({named})' if named else ''} was answered {action.status}"
        details = {"method": action.method, "route": action.route, **action.parts, "status": action.status, **more}
        logger.info("%s: %s", action.who, message)
        try:
            self._events.append([Event(time=self._wall(), who=action.who, model="", kind=ADMIN, message=message, details=details)])
        except StateError as e:
            # What changes anything needs the database too, so that nothing that was done is missing.
            logger.warning("%s: %s, which cannot be kept: %s", action.who, message, e)


def trail(events: Events, *, after: int = 0, limit: int = 100) -> list[Event]:
    """What was done over the admin API and with keys, the oldest first.

    Args:
        events: All events.
        after: Those numbered above this.
        limit: The latest of them, at most.

    Raises:
        StateError: The control database does not answer.
    """
    found = [event for kind in KINDS for event in events.find(kind=kind, after=after, limit=limit)]
    return sorted(found, key=lambda event: event.id)[-limit:] if limit > 0 else []
