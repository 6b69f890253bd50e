"""What the controller tidies up: versions kept long enough, and records that nobody asks for any more."""

from __future__ import annotations

from typing import Final

from ekiben.rollout.transitions import CONTROLLER, kept_over
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout

_WINDOWS_S: Final = 24 * 3600.0
_EXPOSURES_S: Final = 7 * 24 * 3600.0
_TRUTHS_S: Final = 120 * 24 * 3600.0
_DEAD_WORKER_S: Final = 3600.0
_ALL_WORKERS_S: Final = 10 * 365 * 24 * 3600.0
_EVERY_S: Final = 60.0


class Housekeeping:
    """Lets go of what is over.

    Args:
        control: The control database.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._pruned_at = float("-inf")

    def let_go(self, now: float) -> None:
        """Takes versions that were kept long enough out of the routes, so that workers unload them.

        Raises:
            RolloutChanged: A rollout changed meanwhile; the next time does it.
            StateError: The control database does not answer.
        """
        for model, route in self._control.routes.all().items():
            over = [kept for kept in route.kept if kept.until <= now]
            if not over:
                continue
            # Where a rollout is active its revision guards the route; one that starts just now gets its route back, see `Progress`.
            active = self._control.rollouts.find(model=model, active=True, limit=1)
            if active and self._control.routes.get(model) != route:
                continue
            events = tuple(
                Event(
                    time=now,
                    who=CONTROLLER,
                    model=model,
                    kind="unloaded",
                    message=f"{model}:{kept.version} was kept loaded long enough after its successor's promotion",
                    details={"version": kept.version},
                )
                for kept in over
            )
            rollout = active[0] if active else None
            self._control.rollouts.commit(Change(model=model, rollout=rollout, events=events, route=kept_over(route, now)))

    def prune(self, now: float) -> None:
        """Deletes old records, at most once a minute: windows after a day, exposures after a week, workers long dead.

        Truths are kept as long as a model is trained anew on them, for 120 days.

        What is younger than an active rollout or experiment stays.

        Raises:
            StateError: The control database does not answer.
        """
        if now - self._pruned_at < _EVERY_S:
            return
        self._pruned_at = now
        oldest = self._oldest(self._control.rollouts.find(active=True, limit=10_000), now)
        self._control.windows.prune(min(now - _WINDOWS_S, oldest))
        self._control.truths.prune(min(now - _EXPOSURES_S, oldest), min(now - _TRUTHS_S, oldest))
        living = {worker.id for worker in self._control.workers.alive(_DEAD_WORKER_S)}
        for worker in self._control.workers.alive(_ALL_WORKERS_S):
            if worker.id not in living:
                self._control.workers.forget(worker.id)

    @staticmethod
    def _oldest(active: list[Rollout], now: float) -> float:
        return min((rollout.created for rollout in active), default=now)
