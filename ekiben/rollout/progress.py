"""What happens next to one rollout: the change that is due now, if any."""

from __future__ import annotations

from collections.abc import Mapping

from ekiben.registry.reference import CHAMPION
from ekiben.rollout import experiment
from ekiben.rollout.loading import Loading, broken_on, loading_of
from ekiben.rollout.reviewing import Reviewer, is_measured
from ekiben.rollout.standing import Standing
from ekiben.rollout.steps import is_pause_over, stepped
from ekiben.rollout.transitions import CONTROLLER, champion_changed, loaded, paused, promoted, rerouted, withdrawn
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.rollouts import Change


class Progress:
    """Carries plans out, a change at a time.

    It keeps nothing that cannot be read again: any process may go on where another one stopped.

    Args:
        control: The control database.
        reviewer: Measures and judges.
    """

    def __init__(self, control: Control, reviewer: Reviewer) -> None:
        self._control = control
        self._reviewer = reviewer

    def next_change(self, at: Standing, now: float) -> Change | None:
        """The change that is due, or None while there is something to wait for.

        Measurements that decide nothing are kept at once; those that decide are part of the change.

        Args:
            at: Where the rollout stands.
            now: Seconds since the epoch.

        Raises:
            StateError: The control database does not answer.
        """
        rollout = at.rollout
        champion = self._control.aliases.get(rollout.model).get(CHAMPION)
        if rollout.kind == "rollout" and champion != rollout.champion:
            return champion_changed(at, champion, now)
        loading = loading_of(self._control, rollout)
        if loading.problems:
            return _load_failed(at, loading, now)
        if not rollout.step_began:
            return self._waiting(at, loading, now)
        if rollout.kind == "experiment":
            return None
        if broken := broken_on(self._control, rollout):
            return _broke(at, broken, now)
        return self._judged(at, now) or self._onward(at, now)

    def _waiting(self, at: Standing, loading: Loading, now: float) -> Change | None:
        """Begins once everything is loaded everywhere."""
        rollout = at.rollout
        if at.route.rollout != rollout.id:
            return rerouted(at)
        if rollout.status == "Paused" or not loading.is_done:
            return None
        return experiment.begin(rollout, at.route, now) if rollout.kind == "experiment" else loaded(at, now, loading.workers)

    def _judged(self, at: Standing, now: float) -> Change | None:
        """Rolls back or pauses where the measurements say so. While it is paused, only Failed decides."""
        if not is_measured(at):
            return None
        review = self._reviewer.review(at, now)
        verdict, is_paused = review.verdict, at.rollout.status == "Paused"
        if verdict.outcome == "Failed" or (verdict.outcome == "Error" and not is_paused):
            change = withdrawn(
                at,
                now,
                who=CONTROLLER,
                status="RolledBack",
                why=verdict.message,
                deciding=verdict.deciding,
                measurements=review.fresh,
            )
        elif verdict.outcome == "Inconclusive" and not is_paused:
            why = f"{verdict.message}; a person decides: promote, resume or abort"
            change = paused(at.rollout, now, who=CONTROLLER, why=why, measurements=review.fresh)
        else:
            self._reviewer.keep(at, review)
            return None
        return change

    def _onward(self, at: Standing, now: float) -> Change | None:
        """Does what the plan says next, when it is time."""
        if at.rollout.status == "Paused":
            return None
        if at.current is None:
            return promoted(at, now, who=CONTROLLER)
        if at.current.pause is None:
            return stepped(at, now, who=CONTROLLER)
        if not is_pause_over(at.rollout, now):
            return None
        if is_measured(at) and not self._reviewer.passes(at):
            return None
        return stepped(at, now, who=CONTROLLER)


def _load_failed(at: Standing, loading: Loading, now: float) -> Change:
    rollout = at.rollout
    version, problem = next(iter(loading.problems.items()))
    why = f"{rollout.model}:{version} cannot be loaded: {problem}"
    event = Event(
        time=now,
        who=CONTROLLER,
        model=rollout.model,
        rollout=rollout.id,
        kind="load-failed",
        message=why,
        details={"version": version, "problem": problem},
    )
    return withdrawn(at, now, who=CONTROLLER, status="RolledBack", why=why, events=(event,))


def _broke(at: Standing, broken: Mapping[str, str], now: float) -> Change:
    """An open breaker is no measurement that has to be sure of something: it is a version that fails, in front of users."""
    rollout = at.rollout
    worker, numbers = next(iter(broken.items()))
    others = f", and in {len(broken) - 1} more" if len(broken) > 1 else ""
    why = f"breaker: {rollout.model}:{rollout.challenger} is broken in {worker}{others}: {numbers}"
    event = Event(
        time=now,
        who=CONTROLLER,
        model=rollout.model,
        rollout=rollout.id,
        kind="broken",
        message=why,
        details={"reason": "breaker", "version": rollout.challenger, "workers": dict(broken)},
    )
    return withdrawn(at, now, who=CONTROLLER, status="RolledBack", why=why, events=(event,))
