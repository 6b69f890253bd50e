"""Webhooks: every transition is told to whoever wants to hear of it, at least once, without ever delaying one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ekiben.errors import StateError
from ekiben.model.rollout_spec import HookSpec
from ekiben.rollout.signing import body_of, headers_of, message_id, secret_of
from ekiben.state.control import Control
from ekiben.state.deliveries import Delivery
from ekiben.state.events import Event

FAILED: Final = "hook-failed"
"""The kind of event that says a webhook was given up; no webhook hears of it."""

TRIES: Final = 10
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 300.0
_GONE: Final = 410
_PAUSE_S: Final = 0.5
_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 100_000

Send = Callable[[str, bytes, dict[str, str]], int]
"""Posts a body with headers to a URL and returns the status code; raises `OSError` where nothing answers."""

logger = logging.getLogger("ekiben.webhooks")


class Hooks:
    """Makes deliveries of events, and delivers them.

    Deliveries are kept in the control database, so that another process delivers what this one did not. Who gets a message
    may get it again, with the same ``webhook-id``: when the process ends between the delivery and the note of it.

    Args:
        control: The control database.
        url: The webhook that hears of everything; empty for none. Those of a rollout's plan come on top.
        secret_file: File with the secret that signs; None signs nothing.
        wall: Seconds since the epoch.
        send: What posts.
    """

    def __init__(self, control: Control, *, url: str, secret_file: Path | None, wall: Callable[[], float], send: Send) -> None:
        self._control = control
        self._everything = (HookSpec(url=url),) if url else ()
        self._secret_file = "" if secret_file is None else str(secret_file)
        self._wall = wall
        self._send = send

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
        due = self._control.deliveries.due(self._wall())
        for delivery in due:
            self._try(delivery)
        return len(due)

    def run(self, stop: threading.Event, may_send: Callable[[], bool]) -> None:
        """Delivers until told to stop, in a thread of its own.

        Args:
            stop: Set when it is to stop; one that is being sent is left behind.
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

    def _hooks_of(self, event: Event) -> tuple[HookSpec, ...]:
        if event.kind == FAILED:
            return ()
        rollout = self._control.rollouts.get(event.rollout) if event.rollout else None
        return (*self._everything, *(rollout.plan.hooks if rollout else ()))

    def _try(self, delivery: Delivery) -> None:
        problem, is_final = self._posted(delivery)
        attempts = delivery.attempts + 1
        if not problem:
            done = msgspec.structs.replace(delivery, attempts=attempts, state="delivered", problem="")
        elif is_final or attempts >= TRIES:
            done = msgspec.structs.replace(delivery, attempts=attempts, state="given-up", problem=problem)
            self._tell(done)
        else:
            due = self._wall() + wait_s(attempts)
            done = msgspec.structs.replace(delivery, attempts=attempts, due=due, problem=problem)
        self._control.deliveries.update(done)

    def _posted(self, delivery: Delivery) -> tuple[str, bool]:
        """Tries once; returns what went wrong, or nothing, and whether trying again is of no use."""
        event, body = delivery.event, body_of(delivery.event)
        try:
            secret = secret_of(Path(delivery.secret_file).read_bytes()) if delivery.secret_file else None
        except (OSError, ValueError) as e:
            return f"the secret that signs it cannot be read: {e}", False
        headers = headers_of(message_id(event, delivery.url), int(self._wall()), body, secret)
        try:
            status = self._send(delivery.url, body, headers)
        except OSError as e:
            return f"nothing answers: {e}", False
        return ("", False) if 200 <= status < 300 else (f"it answered {status}", status == _GONE)  # noqa: PLR2004  success

    def _tell(self, delivery: Delivery) -> None:
        event = delivery.event
        message = f"the webhook {shown(delivery.url)} did not get {event.kind!r} in {delivery.attempts} tries: {delivery.problem}"
        details = {"event": event.id, "attempts": delivery.attempts, "problem": delivery.problem}
        logger.warning(message)
        self._control.events.append(
            [
                Event(
                    time=self._wall(),
                    who="controller",
                    model=event.model,
                    rollout=event.rollout,
                    kind=FAILED,
                    message=message,
                    details=details,
                )
            ]
        )


def wait_s(attempts: int) -> float:
    """Seconds to wait after so many tries that failed: one, and then twice as long each time, five minutes at most."""
    return min(_FIRST_WAIT_S * 2.0 ** (attempts - 1), _LONGEST_WAIT_S)


def shown(url: str) -> str:
    """A webhook's URL as people may see it: many hold a secret in path, query or user."""
    from urllib.parse import urlsplit  # noqa: PLC0415  only where one failed

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}/…"


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Posts over HTTP; redirects are not followed, as they would take the signed message elsewhere.

    Raises:
        OSError: Nothing answers, or not in time.
    """
    import httpx  # noqa: PLC0415  a server without webhooks needs none

    try:
        return httpx.post(url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise OSError(f"{type(e).__name__}: {e}") from None
