"""What people and programs can ask of rollouts: the commands and the admin API speak to this, whoever answers.

`ekiben.rollout.operations.Operations` answers from the control database, `ekiben.cli.remote.RemoteOperations` has a server's
admin API answer.
"""

from __future__ import annotations

from typing import Protocol

from ekiben.model.rollout_spec import PlanSpec
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.state.events import Event
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Route


class RolloutOperations(Protocol):
    """What can be done with the rollouts of all models.

    Whoever asks is known to the object, and stands in the events. Every method raises:

    - `UnknownRollout`: There is no such rollout, or none of the model.
    - `RolloutRefused`: What was asked cannot be; the message says what would be right.
    - `RolloutChanged`: Somebody else changed it meanwhile, or another one of the model is active.
    - `RegistryError`: There is no such model or version in the store.
    - `StateError`: The control database, or the server that was asked, does not answer.
    """

    def start(self, model: str, to: str, *, plan: PlanSpec | None = None) -> StatusView:
        """Starts a rollout of a model to a version: a version, ``latest`` or an alias.

        Without a plan it is the one in ``model.yaml``, or the default plan.
        """

    def status(self, model_or_id: str) -> StatusView:
        """The latest rollout of a model, or the one with the id."""

    def promote(self, model: str, *, full: bool = False) -> StatusView:
        """Goes on to the next step without waiting; ``full`` makes the challenger champion at once."""

    def pause(self, model: str) -> StatusView:
        """Stops where it stands, until it is resumed. A challenger that fails is rolled back nevertheless."""

    def resume(self, model: str) -> StatusView:
        """Goes on where it was paused."""

    def abort(self, model: str, *, reason: str = "") -> StatusView:
        """Ends it: the champion answers everything."""

    def rollback(self, model: str, *, to: str | None = None) -> StatusView | RollbackView:
        """Aborts the rollout that is active; where none is, makes ``to`` or the former champion the champion."""

    def history(self, model: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """The latest ``limit`` events of a model numbered above ``after``, the oldest of them first."""

    def rollouts(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """The latest ``limit`` rollouts of all or of a model, those that are active or are not, the latest first."""

    def plan(self, model: str, *, to: str | None = None) -> PlanSpec:
        """The plan that `start` would take for a version (None: for the latest), with its analysis."""

    def route(self, model: str) -> Route:
        """What deviates from "the champion answers everything"; an empty route where nothing does."""
