"""Rollouts and experiments: how far each is. One change of one of them is one transaction, see `Rollouts.commit`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Literal

import msgspec

from ekiben.errors import RolloutChanged
from ekiben.model.rollout_spec import PlanSpec
from ekiben.state.aliases import Aliases
from ekiben.state.events import Event, MemoryEvents
from ekiben.state.measurements import Measurement, MemoryMeasurements
from ekiben.state.routes import Arm, MemoryRoutes, Route

Status = Literal["Progressing", "Paused", "Completed", "RolledBack", "Aborted"]
ACTIVE: tuple[Status, ...] = ("Progressing", "Paused")


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout, or an experiment.

    Attributes:
        id: ``{model}-{number}``.
        model: The model.
        kind: A rollout goes through the steps of its plan to its end; an experiment has arms that stand side by side.
        champion: The version that was champion when it began.
        challenger: The version on trial; empty for an experiment.
        arms: An experiment's arms, by name.
        plan: What it does and how it is judged.
        status: Where it stands. RolledBack is what an analysis did, Aborted what a person did.
        message: Why it stands there.
        step: Index of the step it is in; of one that has done all, the number of steps.
        step_began: When that step began, seconds since the epoch; 0 while it waits for the challenger to be loaded everywhere.
        stage: Index of the last ``setWeight`` or ``shadow`` that was done, -1 before the first.
        stage_began: When it was done: what is measured is what happened since.
        paused_at: When it was paused, seconds since the epoch; 0 when it is not. The time of a pause does not count.
        created, ended: Seconds since the epoch; ``ended`` is 0 while it is active.
        created_by: Who started it.
        revision: Grows with every change; 0 for one that is not kept yet.
    """

    id: str
    model: str
    champion: str
    challenger: str = ""
    kind: Literal["rollout", "experiment"] = "rollout"
    arms: tuple[Arm, ...] = ()
    plan: PlanSpec
    status: Status = "Progressing"
    message: str = ""
    step: int = 0
    step_began: float = 0.0
    stage: int = -1
    stage_began: float = 0.0
    paused_at: float = 0.0
    created: float
    ended: float = 0.0
    created_by: str
    revision: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it still has something to do."""
        return self.status in ACTIVE


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a step went.

    Attributes:
        rollout: Id of the rollout.
        step: Its index.
        what: The step, as people read it: ``setWeight: 5``.
        began, ended: Seconds since the epoch; ``ended`` is 0 while it lasts.
        outcome: How it ended: ``done``, ``skipped``, ``rolled-back``, ``aborted``; empty while it lasts.
    """

    rollout: str
    step: int
    what: str
    began: float
    ended: float = 0.0
    outcome: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happens at once or not at all.

    Attributes:
        model: The model it is about.
        rollout: The rollout as it is to be, with the revision that was read; None where only routes and aliases change.
        steps: Records of steps, in place of earlier ones of the same steps.
        events: What is to be remembered.
        measurements: What decided.
        route: The model's route from now on; None takes it away, UNSET leaves it.
        aliases: Alias → version from now on; None takes it away.
    """

    model: str
    rollout: Rollout | None = None
    steps: tuple[StepRecord, ...] = ()
    events: tuple[Event, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    route: Route | msgspec.UnsetType | None = msgspec.UNSET
    aliases: dict[str, str | None] = {}


class Rollouts(ABC):
    """All rollouts and experiments. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def get(self, rollout: str) -> Rollout | None:
        """One by its id."""

    @abstractmethod
    def find(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """The latest ``limit`` of all or of a model, those that are active or are not, the latest first."""

    @abstractmethod
    def steps(self, rollout: str) -> list[StepRecord]:
        """The steps it has begun, in order."""

    @abstractmethod
    def commit(self, change: Change) -> Change:
        """Does all of a change or nothing.

        Returns:
            The change as it is kept: the rollout with its new revision, the events with their numbers.

        Raises:
            RolloutChanged: Somebody else changed the rollout since it was read, or another one of the model is active.
        """


class MemoryRollouts(Rollouts):
    """Rollouts that live as long as the object, with what changes together with them.

    Args:
        aliases, routes, events, measurements: What a change changes too.
    """

    def __init__(self, aliases: Aliases, routes: MemoryRoutes, events: MemoryEvents, measurements: MemoryMeasurements) -> None:
        self._aliases = aliases
        self._routes = routes
        self._events = events
        self._measurements = measurements
        self._rollouts: dict[str, Rollout] = {}
        self._steps: dict[tuple[str, int], StepRecord] = {}
        self._lock = Lock()

    def get(self, rollout: str) -> Rollout | None:
        """See `Rollouts`."""
        return self._rollouts.get(rollout)

    def find(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """See `Rollouts`."""
        with self._lock:
            found = [r for r in reversed(self._rollouts.values()) if model in (None, r.model) and active in (None, r.is_active)]
        return found[:limit]

    def steps(self, rollout: str) -> list[StepRecord]:
        """See `Rollouts`."""
        with self._lock:
            return [s for (_, _), s in sorted(self._steps.items()) if s.rollout == rollout]

    def commit(self, change: Change) -> Change:
        """See `Rollouts`."""
        with self._lock:
            rollout = change.rollout
            if rollout is not None:
                check_revision(rollout, self._rollouts.get(rollout.id), list(self._rollouts.values()))
                rollout = msgspec.structs.replace(rollout, revision=rollout.revision + 1)
                self._rollouts[rollout.id] = rollout
            self._steps |= {(s.rollout, s.step): s for s in change.steps}
            self._measurements.append(change.measurements)
            for alias, version in change.aliases.items():
                if version is None:
                    self._aliases.remove(change.model, alias)
                else:
                    self._aliases.set(change.model, alias, version)
            if change.route is not msgspec.UNSET:
                self._routes.put(change.model, change.route)
            events = tuple(self._events.append(change.events))
        return msgspec.structs.replace(change, rollout=rollout, events=events)


def check_revision(wanted: Rollout, there: Rollout | None, others: Sequence[Rollout]) -> None:
    """Whether a rollout may become what is wanted.

    Args:
        wanted: With the revision that was read.
        there: What is kept under its id.
        others: Those of its model, at least the active ones.

    Raises:
        RolloutChanged: It changed meanwhile, or another one of its model is active.
    """
    revision = 0 if there is None else there.revision
    if revision != wanted.revision:
        raise RolloutChanged(
            f"{wanted.id} was changed by somebody else meanwhile; look at it again with `ekiben rollout status {wanted.model}`"
        )
    active = [r.id for r in others if r.model == wanted.model and r.is_active and r.id != wanted.id]
    if wanted.is_active and active:
        raise RolloutChanged(f"{active[0]} is active; end it first: `ekiben rollout abort {wanted.model}`")
