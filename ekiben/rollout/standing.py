"""Where a rollout stands: what every transition starts from, read so that a change made meanwhile is noticed."""

from __future__ import annotations

import msgspec

from ekiben.model.rollout_spec import StepSpec
from ekiben.state.control import Control
from ekiben.state.rollouts import Rollout, StepRecord
from ekiben.state.routes import Route


class Standing(msgspec.Struct, frozen=True):
    """A rollout with what changes together with it.

    Attributes:
        rollout: The rollout or experiment.
        route: The model's route; empty where it has none.
        records: The steps it has begun, in order.
    """

    rollout: Rollout
    route: Route = Route()
    records: tuple[StepRecord, ...] = ()

    @property
    def current(self) -> StepSpec | None:
        """The step it is in; None before the first and after the last."""
        steps = self.rollout.plan.steps
        return steps[self.rollout.step] if self.rollout.step_began and self.rollout.step < len(steps) else None

    @property
    def record(self) -> StepRecord | None:
        """The record of the step it is in; None where it is in none."""
        return next((r for r in self.records if r.step == self.rollout.step and not r.ended), None)


def standing_of(control: Control, rollout: Rollout) -> Standing:
    """Reads what belongs to a rollout.

    The rollout was read before the rest: where somebody changes it in between, its revision is older than what is kept, and
    `Rollouts.commit` refuses what is made of this.

    Raises:
        StateError: The control database cannot be read.
    """
    return Standing(rollout, control.routes.get(rollout.model) or Route(), tuple(control.rollouts.steps(rollout.id)))
