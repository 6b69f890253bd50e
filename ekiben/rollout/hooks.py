"""Webhooks: every transition is told to whoever wants to hear of it, at least once, without ever delaying one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ekiben.model.rollout_spec import HookSpec
from ekiben.state.alerts import ALERT
from ekiben.state.control import Control
from ekiben.state.deliveries import ROLLOUTS, Delivery
from ekiben.state.delivering import FAILED, Deliverer, Tried
from ekiben.state.events import Event
from ekiben.state.webhooks import Send, body_of, message_id, shown, try_post

TRIES: Final = 10
SETTING: Final = "webhook"
"""Stands in the control database for the webhook that the setting names: its URL is often a secret, which a database need not hold."""
_BACKLOG: Final = 100_000


class Hooks:
    """Makes deliveries of events, and delivers them, see `Deliverer`.

    Args:
        control: The control database.
        url: The webhook that hears of everything; empty for none. Those of a rollout's plan come on top.
        secret_file: File with the secret that signs; None signs nothing.
        wall: Seconds since the epoch.
        send: What posts.
    """

    def __init__(self, control: Control, *, url: str, secret_file: Path | None, wall: Callable[[], float], send: Send) -> None:
        self._control = control
        self._url = url
        self._everything = (HookSpec(url=SETTING),) if url else ()
        self._secret_file = "" if secret_file is None else str(secret_file)
        self._wall = wall
        self._send = send
        self._deliverer = Deliverer(
            ROLLOUTS,
            control.deliveries,
            control.events,
            who="controller",
            wall=wall,
            attempt=self._attempt,
            name=lambda delivery: f"the webhook {shown(self._address(delivery))}",
            tries=TRIES,
        )

    def collect(self) -> None:
        """Makes deliveries of the events that are new.

        Raises:
            StateError: The control database does not answer.
        """
        last = self._control.deliveries.last_event()
        events = self._control.events.find(after=last, limit=_BACKLOG)
        if not events:
            return
        now = self._wall()
        self._control.deliveries.add(
            [
                Delivery(event=event, url=hook.url, secret_file=hook.secret_file or self._secret_file, due=now)
                for event in events
                for hook in self._hooks_of(event)
            ]
        )
        self._control.deliveries.set_last_event(events[-1].id)

    def deliver(self) -> int:
        """Tries the deliveries that are due; returns how many.

        Raises:
            StateError: The control database does not answer.
        """
        return self._deliverer.deliver()

    def run(self, stop: threading.Event, may_send: Callable[[], bool]) -> None:
        """Delivers until it is told to.

        Args:
            stop: Says when to stop; one that is being sent is left behind.
            may_send: Whether this process is the one that delivers now.
        """
        self._deliverer.run(stop, may_send)

    def _hooks_of(self, event: Event) -> tuple[HookSpec, ...]:
        # The monitor tells of alerts by itself, to the channels that their rules name.
        # What is of no model tells who used the admin API and made keys; that leaves the database only when it is asked for.
        if event.kind in (FAILED, ALERT) or not event.model:
            return ()
        rollout = self._control.rollouts.get(event.rollout) if event.rollout else None
        planned = rollout.plan.hooks if rollout else ()
        return (*self._everything, *(hook for hook in planned if hook.url != self._url))

    def _address(self, delivery: Delivery) -> str:
        return self._url if delivery.url == SETTING else delivery.url

    def _attempt(self, delivery: Delivery) -> Tried:
        event = delivery.event
        url = self._address(delivery)
        if not url:
            return Tried("EKIBEN_WEBHOOK_URL is not set", is_final=True)
        identifier = message_id(event, url)
        return try_post(self._send, url, body_of(event), identifier=identifier, secret_file=delivery.secret_file, now=self._wall())
