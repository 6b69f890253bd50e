"""Puts a route in force in a running server, and waits until all of its workers follow it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ekiben.state.control import Control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Route
from ekiben.state.workers import WorkerState

_POLL_S: Final = 0.1
_FOLLOW_S: Final = 60.0
_ALIVE_S: Final = 3.0


class RouteNotFollowed(Exception):
    """A route is not in force in the server, or does not do there what it must."""


class RouteSwitch:
    """Changes the route of one model; at the end it takes away what is left.

    Args:
        control: The control database that the server looks at.
        model: The model.
        workers: How many of the server's workers must follow.
        clock: Seconds, monotonic.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        control: Control,
        model: str,
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._control = control
        self._model = model
        self._workers = workers
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The next server finds the same database.
        self._control.rollouts.commit(Change(model=self._model, route=None))

    def put(self, route: Route | None) -> None:
        """Puts a route in force, everywhere; None takes it away.

        Raises:
            RouteNotFollowed: A worker cannot follow it, or not all do within a minute.
            StateError: The control database cannot be read or written.
        """
        self._control.rollouts.commit(Change(model=self._model, route=route))
        generation = self._control.generation()
        versions = route.versions() if route is not None else frozenset()
        end = self._clock() + _FOLLOW_S
        while True:
            states = self._control.workers.alive(_ALIVE_S)
            following = [s for s in states if s.follows(generation)]
            self._check(following, versions)
            # Also none that was of the server before and has not been forgotten yet.
            if len(following) == len(states) == self._workers:
                return
            if self._clock() >= end:
                raise RouteNotFollowed(
                    f"{len(following)} of {len(states)} live workers follow the route of {self._model} after {_FOLLOW_S:g} s; "
                    f"it must be all, and {self._workers} of them"
                )
            self._sleep(_POLL_S)

    def _check(self, following: list[WorkerState], versions: frozenset[str]) -> None:
        """Makes sure that what follows the route has loaded what it names.

        Raises:
            RouteNotFollowed: A version could not be loaded.
        """
        for state in following:
            for version in sorted(versions - set(state.versions.get(self._model, ()))):
                name = f"{self._model}:{version}"
                raise RouteNotFollowed(f"{name} is not loaded in {state.id}: {state.problems.get(name, 'it does not say why')}")
