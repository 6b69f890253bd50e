"""Deliveries: events on their way to webhooks and other channels, kept until they have arrived or are given up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Final, Literal

import msgspec

from ekiben.state.events import Event

ROLLOUTS: Final = "rollouts"
"""The queue of what the controller delivers."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook.

    Attributes:
        event: The event.
        url: The webhook; of the queue of alerts the name of a channel, whose address is in the settings.
        secret_file: Where the secret that signs it is.
        attempts: How often it was tried.
        due: When it is tried next, seconds since the epoch.
        state: Whether it has arrived.
        problem: Why the last try failed.
        queue: Who delivers it: ``rollouts`` the controller, ``alerts`` the monitor.
    """

    event: Event
    url: str
    secret_file: str = ""
    attempts: int = 0
    due: float = 0.0
    state: Literal["waiting", "delivered", "given-up"] = "waiting"
    problem: str = ""
    queue: str = ROLLOUTS


class Deliveries(ABC):
    """All deliveries. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Keeps new deliveries; one of the same event and URL that is there already stays as it is."""

    @abstractmethod
    def due(self, now: float, limit: int = 20, *, queue: str = ROLLOUTS) -> list[Delivery]:
        """Deliveries of a queue that wait and are due, the oldest event first."""

    @abstractmethod
    def update(self, delivery: Delivery) -> None:
        """Keeps how a delivery went."""

    @abstractmethod
    def last_event(self) -> int:
        """Number of the latest event that deliveries were made of; 0 before the first."""

    @abstractmethod
    def set_last_event(self, event: int) -> None:
        """Deliveries were made of all events up to this one."""


class MemoryDeliveries(Deliveries):
    """Deliveries that live as long as the object."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], Delivery] = {}
        self._last = 0
        self._lock = Lock()

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """See `Deliveries`."""
        with self._lock:
            for delivery in deliveries:
                self._kept.setdefault((delivery.event.id, delivery.url), delivery)

    def due(self, now: float, limit: int = 20, *, queue: str = ROLLOUTS) -> list[Delivery]:
        """See `Deliveries`."""
        with self._lock:
            waiting = [d for _, d in sorted(self._kept.items()) if d.state == "waiting" and d.queue == queue and d.due <= now]
        return waiting[:limit]

    def update(self, delivery: Delivery) -> None:
        """See `Deliveries`."""
        with self._lock:
            self._kept[delivery.event.id, delivery.url] = delivery

    def last_event(self) -> int:
        """See `Deliveries`."""
        return self._last

    def set_last_event(self, event: int) -> None:
        """See `Deliveries`."""
        self._last = event
