"""Alerts: how each rule of a model stands, so that somebody is told once when something begins and once when it is over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Final, Literal

import msgspec

from ekiben.state.deliveries import Deliveries, Delivery
from ekiben.state.events import Event, Events

ALERT: Final = "alert"
"""The kind of event that says an alert fires, still fires, or is over."""

QUEUE: Final = "alerts"
"""Deliveries of this queue are messages about alerts; their URL is a channel's name."""

AlertState = Literal["pending", "firing", "resolved"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """How one rule stands.

    Attributes:
        model: The model.
        name: The rule: what it looks at, with a number behind it where a model has several of the kind.
        state: ``pending`` while it has not held for long enough, ``firing``, or ``resolved``.
        since: Since when it is in that state, seconds since the epoch.
        severity: As the rule says.
        to: The channels that hear of it.
        message: What was found last, a sentence.
        value: The figure that was found last; None where there is none.
        version: The version it was found of; empty for the model as a whole.
        held: In how many looks in a row it held.
        judged: The last look that was counted, seconds since the epoch.
        told: When the last message was made, seconds since the epoch; 0 before the first.
        revision: Grows with every change; 0 until it is kept.
    """

    model: str
    name: str
    state: AlertState = "resolved"
    since: float = 0.0
    severity: str = "warning"
    to: tuple[str, ...] = ()
    message: str = ""
    value: float | None = None
    version: str = ""
    held: int = 0
    judged: float = 0.0
    told: float = 0.0
    revision: int = 0


class Alerts(ABC):
    """How all rules stand. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def find(self, model: str | None = None) -> list[Alert]:
        """The alerts of a model, or of all, by model and name."""

    @abstractmethod
    def keep(self, alert: Alert, *, event: Event | None = None) -> bool:
        """Keeps how a rule stands now, and with it, all or none, an event and a delivery of it to each of the alert's channels.

        Args:
            alert: What is to be kept, with the revision of what was read.
            event: What people are told; None where nobody is.

        Returns:
            Whether it was kept: not where somebody else changed the alert meanwhile.
        """

    @abstractmethod
    def forget(self, model: str, name: str) -> None:
        """Deletes an alert, if there is one."""


def deliveries_of(alert: Alert, event: Event) -> list[Delivery]:
    """An alert's event on its way to each of the alert's channels."""
    return [Delivery(event=event, url=channel, queue=QUEUE, due=event.time) for channel in dict.fromkeys(alert.to)]


class MemoryAlerts(Alerts):
    """Alerts that live as long as the object.

    Args:
        events: Where their events are kept.
        deliveries: Where what is on its way is kept.
    """

    def __init__(self, events: Events, deliveries: Deliveries) -> None:
        self._events = events
        self._deliveries = deliveries
        self._kept: dict[tuple[str, str], Alert] = {}
        self._lock = Lock()

    def find(self, model: str | None = None) -> list[Alert]:
        """See `Alerts`."""
        with self._lock:
            return [alert for _, alert in sorted(self._kept.items()) if model in (None, alert.model)]

    def keep(self, alert: Alert, *, event: Event | None = None) -> bool:
        """See `Alerts`."""
        with self._lock:
            former = self._kept.get((alert.model, alert.name))
            if (former.revision if former is not None else 0) != alert.revision:
                return False
            self._kept[alert.model, alert.name] = msgspec.structs.replace(alert, revision=alert.revision + 1)
            kept: Sequence[Event] = self._events.append([event]) if event is not None else []
            self._deliveries.add([delivery for of in kept for delivery in deliveries_of(alert, of)])
            return True

    def forget(self, model: str, name: str) -> None:
        """See `Alerts`."""
        with self._lock:
            self._kept.pop((model, name), None)
