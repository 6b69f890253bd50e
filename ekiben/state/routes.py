"""Routes: which versions of a model answer which requests, as the control database keeps it.

The champion is an alias; a route says what deviates from it. `ekiben.rollout.router` makes a routing table of both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock
from typing import Final, Literal

import msgspec

SLOTS: Final = 10_000
"""Every routing key falls into one of so many slots; a weight is a number of them."""


class Arm(msgspec.Struct, frozen=True):
    """A version on trial.

    Attributes:
        name: ``challenger``, or what an experiment calls it.
        version: The version.
    """

    name: str
    version: str


class SlotRange(msgspec.Struct, frozen=True):
    """Slots from start to stop (exclusive) belong to an arm; those in no range are the champion's."""

    start: int
    stop: int
    arm: str


class Shadow(msgspec.Struct, frozen=True):
    """A version that gets the champion's rows and whose answers go nowhere.

    Attributes:
        version: The version.
        rate: Share of the champion's rows that it gets, above 0 to 1.
    """

    version: str
    rate: float = 1.0


class HeaderCondition(msgspec.Struct, frozen=True):
    """A condition on a header, by its lower-case name."""

    header: str
    kind: Literal["exact", "prefix", "regex"]
    value: str


class HeaderRule(msgspec.Struct, frozen=True):
    """Requests that meet all conditions go to an arm, before any weight is looked at."""

    name: str
    arm: str
    conditions: tuple[HeaderCondition, ...]


class Kept(msgspec.Struct, frozen=True):
    """A version that stays loaded though nothing is sent to it, until so many seconds since the epoch."""

    version: str
    until: float


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What deviates from "the champion answers everything", of one model.

    Attributes:
        rollout: Id of the rollout or experiment that it belongs to; empty where none runs.
        salt: What routing keys are hashed with, so that each rollout draws its users anew.
        arms: The versions on trial, by name.
        slots: Who has which slots; sorted, none twice.
        shadows: The shadows.
        rules: The header rules, the first that fits decides.
        kept: Versions that stay loaded.
        fallback: Whether the champion answers where an arm fails; an experiment's arms stand alone.
    """

    rollout: str = ""
    salt: str = ""
    arms: tuple[Arm, ...] = ()
    slots: tuple[SlotRange, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    rules: tuple[HeaderRule, ...] = ()
    kept: tuple[Kept, ...] = ()
    fallback: bool = True

    def weight(self, arm: str) -> float:
        """An arm's percentage of the traffic."""
        return sum(r.stop - r.start for r in self.slots if r.arm == arm) * 100 / SLOTS

    def versions(self) -> frozenset[str]:
        """Every version that it wants loaded."""
        return frozenset([*(a.version for a in self.arms), *(s.version for s in self.shadows), *(k.version for k in self.kept)])


class Routes(ABC):
    """The routes of all models; those without one are left out.

    All methods raise `StateError` when what holds them cannot be read or written. A route changes with the rollout that
    it belongs to, see `Rollouts.commit`.
    """

    @abstractmethod
    def all(self) -> dict[str, Route]:
        """Model → its route."""

    @abstractmethod
    def get(self, model: str) -> Route | None:
        """The route of one model."""

    @abstractmethod
    def generation(self) -> int:
        """A number that grows with every change, 0 before the first. Cheap: every worker asks twice a second."""


class MemoryRoutes(Routes):
    """Routes that live as long as the object."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._generation = 0
        self._lock = Lock()

    def all(self) -> dict[str, Route]:
        """See `Routes`."""
        with self._lock:
            return dict(sorted(self._routes.items()))

    def get(self, model: str) -> Route | None:
        """See `Routes`."""
        return self._routes.get(model)

    def put(self, model: str, route: Route | None) -> None:
        """What `MemoryRollouts` changes a route with; None takes it away."""
        with self._lock:
            if route is None:
                self._routes.pop(model, None)
            else:
                self._routes[model] = route
            self._generation += 1

    def generation(self) -> int:
        """See `Routes`."""
        return self._generation
