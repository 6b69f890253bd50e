"""What people can ask of rollouts, answered from the control database: the commands and the admin API call this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from ekiben.errors import RolloutChanged, RolloutRefused, UnknownRollout
from ekiben.model.rollout_spec import PlanSpec
from ekiben.registry.reference import CHAMPION, LATEST
from ekiben.registry.store import Registry
from ekiben.rollout.admission import Admission
from ekiben.rollout.reviewing import is_stuck
from ekiben.rollout.standing import Standing, standing_of
from ekiben.rollout.status import status_of
from ekiben.rollout.steps import stepped
from ekiben.rollout.transitions import PREVIOUS, gone_back, paused, promoted, resumed, started, withdrawn
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout
from ekiben.state.routes import Route

_TRIES: Final = 5
T = TypeVar("T")


class Operations:
    """Starts, steers and shows rollouts, see `RolloutOperations`.

    Each operation is one change in the control database, or none. Nothing is carried out here: the controller does that.

    Args:
        control: The control database.
        registry: The versions.
        who: Who asks, for the events: ``user@host``.
        wall: Seconds since the epoch.
        plan_folder: The models folder, whose ``<model>/model.yaml`` may hold the plan; None looks into no folder.
    """

    def __init__(
        self, control: Control, registry: Registry, *, who: str, wall: Callable[[], float], plan_folder: Path | None = None
    ) -> None:
        self._control = control
        self._registry = registry
        self._who = who
        self._wall = wall
        self._admission = Admission(registry, plan_folder)

    # what changes something ──────────────────────────────────────────────────────────────────────────────────────────

    def start(self, model: str, to: str, *, plan: PlanSpec | None = None) -> StatusView:
        """Starts a rollout.

        Args:
            model: The model.
            to: The challenger: a version, ``latest``, an alias, or one of these behind ``model:``.
            plan: The plan; None takes that of ``model.yaml``, else the one the version was made with, else the default plan.

        Raises:
            RolloutRefused: There is no such version, it is the champion, it does not fit, or the plan is wrong.
            RolloutChanged: Another rollout or experiment of the model is active.
            StateError: The control database does not answer.
        """
        champion, challenger = self._admission.pair(model, to)
        rollout = Rollout(
            id=next_id(self._control, model),
            model=model,
            champion=champion.version,
            challenger=challenger.version,
            plan=self._admission.plan(challenger, plan),
            created=self._wall(),
            created_by=self._who,
        )
        self._commit(started(rollout, self._control.routes.get(model)))
        return self.status(rollout.id)

    def promote(self, model: str, *, full: bool = False) -> StatusView:
        """Goes on to the next step without waiting; ``full`` makes the challenger champion at once.

        Raises:
            UnknownRollout, RolloutRefused, RolloutChanged, StateError: See `RolloutOperations`.
        """
        at = self._steered(model, "promote")
        rollout, now = at.rollout, self._wall()
        if not rollout.step_began:
            raise RolloutRefused(
                f"{rollout.id} waits until {model}:{rollout.challenger} is loaded on all workers; there is no step to leave yet. "
                f"`ekiben rollout status {model}` says what it waits for"
            )
        step = at.current
        if full or step is None:
            self._commit(promoted(at, now, who=self._who))
        else:
            is_cut = step.pause is not None and step.pause.duration is not None
            self._commit(stepped(at, now, who=self._who, outcome="skipped" if is_cut else "done"))
        return self.status(rollout.id)

    def pause(self, model: str) -> StatusView:
        """Stops where it stands, until it is resumed; a challenger that fails is rolled back nevertheless.

        Raises:
            UnknownRollout, RolloutRefused, RolloutChanged, StateError: See `RolloutOperations`.
        """
        rollout = self._steered(model, "pause").rollout
        if rollout.status == "Paused":
            raise RolloutRefused(f"{rollout.id} is paused already; `ekiben rollout resume {model}` goes on")
        self._commit(paused(rollout, self._wall(), who=self._who, why=f"paused by {self._who}"))
        return self.status(rollout.id)

    def resume(self, model: str) -> StatusView:
        """Goes on where it was paused; where the analysis paused it, the stage is judged anew.

        Raises:
            UnknownRollout, RolloutRefused, RolloutChanged, StateError: See `RolloutOperations`.
        """
        rollout = self._steered(model, "resume").rollout
        if rollout.status != "Paused":
            raise RolloutRefused(f"{rollout.id} is not paused; `ekiben rollout promote {model}` ends the pause of a step")
        is_judged_anew = is_stuck(rollout, self._control.measurements.find(rollout.id, step=rollout.stage))
        self._commit(resumed(rollout, self._wall(), who=self._who, is_judged_anew=is_judged_anew))
        return self.status(rollout.id)

    def abort(self, model: str, *, reason: str = "") -> StatusView:
        """Ends a rollout or experiment: the champion answers everything.

        Raises:
            UnknownRollout, RolloutChanged, StateError: See `RolloutOperations`.
        """
        return _insisting(lambda: self._abort(model, reason))

    def _abort(self, model: str, reason: str) -> StatusView:
        at = self._active(model)
        change = withdrawn(at, self._wall(), who=self._who, status="Aborted", why=reason or f"aborted by {self._who}")
        self._commit(change)
        return self.status(at.rollout.id)

    def rollback(self, model: str, *, to: str | None = None) -> StatusView | RollbackView:
        """Goes back: aborts what is active, else makes the former champion, or ``to``, the champion.

        With ``to`` and something active, both happen in one change.

        Raises:
            RolloutRefused: There is nothing to go back to.
            RolloutChanged, StateError: See `RolloutOperations`.
        """
        return _insisting(lambda: self._rollback(model, to))

    def _rollback(self, model: str, to: str | None) -> StatusView | RollbackView:
        active = self._control.rollouts.find(model=model, active=True, limit=1)
        if not active:
            return self._go_back(model, to)
        at = standing_of(self._control, active[0])
        change = withdrawn(at, self._wall(), who=self._who, status="Aborted", why=f"rolled back by {self._who}")
        target = self._admission.version(model, to).version if to is not None else at.rollout.champion
        if target != at.rollout.champion:
            on_trial = {at.rollout.challenger, *(arm.version for arm in at.rollout.arms)}
            if target in on_trial:
                raise RolloutRefused(f"{model}:{target} is what is on trial; `ekiben rollback {model}` goes back to {at.rollout.champion}")
            change = msgspec.structs.replace(change, aliases={**change.aliases, CHAMPION: target})
        self._commit(change)
        return self.status(at.rollout.id)

    # what shows something ────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, model_or_id: str) -> StatusView:
        """The active rollout of a model, else its latest; or the one with the id.

        Raises:
            UnknownRollout, StateError: See `RolloutOperations`.
        """
        found = self._control.rollouts.get(model_or_id)
        if found is None:
            active = self._control.rollouts.find(model=model_or_id, active=True, limit=1)
            latest = active or self._control.rollouts.find(model=model_or_id, limit=1)
            if not latest:
                raise UnknownRollout(
                    f"there is no rollout {model_or_id!r}, and none of a model of that name; `ekiben rollout list` shows all, "
                    "`ekiben rollout start NAME --to VERSION` starts one"
                )
            found = latest[0]
        return status_of(self._control, found, self._wall())

    def history(self, model: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """The latest ``limit`` events of a model numbered above ``after``, the oldest of them first.

        Raises:
            StateError: The control database does not answer.
        """
        return self._control.events.find(model=model, after=after, limit=limit)

    def rollouts(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """The latest ``limit`` rollouts of all or of a model, those that are active or are not, the latest first.

        Raises:
            StateError: The control database does not answer.
        """
        return self._control.rollouts.find(model=model, active=active, limit=limit)

    def plan(self, model: str, *, to: str | None = None) -> PlanSpec:
        """The plan that `start` would take for a version (None: for the latest).

        Raises:
            RolloutRefused, StateError: See `start`.
        """
        return self._admission.plan(self._admission.version(model, LATEST if to is None else to), None)

    def route(self, model: str) -> Route:
        """What deviates from "the champion answers everything"; an empty route where nothing does.

        Raises:
            StateError: The control database does not answer.
        """
        return self._control.routes.get(model) or Route()

    # parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _go_back(self, model: str, to: str | None) -> RollbackView:
        """Makes the former champion, or ``to``, the champion; no rollout is active."""
        aliases = self._registry.aliases.get(model)
        champion = self._admission.version(model, None).version
        if to is None and PREVIOUS not in aliases:
            raise RolloutRefused(
                f"{model} has no former champion to go back to; say which version: `ekiben rollback {model} --to VERSION` "
                f"(`ekiben models list {model}` shows them)"
            )
        target = self._admission.version(model, f"{model}@{PREVIOUS}" if to is None else to).version
        if target == champion:
            raise RolloutRefused(f"{model}:{target} is the champion already; `ekiben rollback {model} --to VERSION` names another version")
        change = gone_back(
            model,
            champion=champion,
            to=target,
            previous=aliases.get(PREVIOUS),
            route=self._control.routes.get(model),
            now=self._wall(),
            who=self._who,
        )
        self._commit(change)
        return RollbackView(model=model, champion=target, was=champion, message=change.events[0].message)

    def _active(self, model: str) -> Standing:
        """What is active of a model.

        Raises:
            UnknownRollout: Nothing is.
        """
        active = self._control.rollouts.find(model=model, active=True, limit=1)
        if not active:
            raise UnknownRollout(f"{model} has no active rollout; `ekiben rollout start {model} --to VERSION` starts one")
        return standing_of(self._control, active[0])

    def _steered(self, model: str, command: str) -> Standing:
        """The active rollout of a model, which has steps.

        Raises:
            UnknownRollout: There is none.
            RolloutRefused: It is an experiment.
        """
        at = self._active(model)
        if at.rollout.kind == "experiment":
            raise RolloutRefused(
                f"{at.rollout.id} is an experiment, which has no steps to {command}; `ekiben experiment stop {model}` ends it"
            )
        return at

    def _commit(self, change: Change) -> None:
        """Makes a change. In a Bento, the aliases it was built with go into the database with the first one.

        Raises:
            RolloutChanged, StateError: See `Rollouts.commit`.
        """
        if change.aliases:
            known = self._control.aliases.get(change.model)
            packed = {alias: version for alias, version in self._registry.aliases.get(change.model).items() if alias not in known}
            change = msgspec.structs.replace(change, aliases={**packed, **change.aliases})
        self._control.rollouts.commit(change)


def _insisting(once: Callable[[], T]) -> T:
    """Does what ends a rollout, whatever step the controller goes on to at the same moment: it is meant at any step.

    Raises:
        RolloutChanged: Others were quicker again and again.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(RolloutChanged):
            return once()
    return once()


def next_id(control: Control, model: str) -> str:
    """The id of a model's next rollout or experiment. Of two who ask at once, the second is refused when it is kept.

    Raises:
        StateError: The control database cannot be read.
    """
    latest = control.rollouts.find(model=model, limit=1)
    return f"{model}-{int(latest[0].id.rpartition('-')[2]) + 1 if latest else 1}"
