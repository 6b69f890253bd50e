"""A lease that is kept as long as something takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from ekiben.errors import StateError
from ekiben.state.leases import Leases

TTL_S: Final = 60.0


@contextmanager
def held_lease(leases: Leases, name: str, holder: str, *, ttl_s: float = TTL_S) -> Iterator[bool]:
    """Takes a lease, renews it in a thread, and gives it back at the end.

    Whoever is killed loses it after ``ttl_s`` seconds. A control database that is away meanwhile ends nothing: it is asked again.

    Args:
        leases: The leases.
        name: Which.
        holder: Who.
        ttl_s: How long it lasts without being renewed, seconds.

    Yields:
        Whether one has it.

    Raises:
        StateError: The control database cannot be read at the start.
    """
    if not leases.acquire(name, holder, ttl_s):
        yield False
        return
    done = Event()

    def renew() -> None:
        while not done.wait(ttl_s / 3):
            with contextlib.suppress(StateError):
                leases.acquire(name, holder, ttl_s)

    thread = Thread(target=renew, name=f"lease-{name}", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StateError):
            leases.release(name, holder)
