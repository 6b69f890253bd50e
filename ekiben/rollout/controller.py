"""The controller: carries out all active rollouts, one process at a time, and another one when that ends."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from ekiben.errors import RolloutChanged, StateError
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.registry.store import Registry
from ekiben.rollout.hooks import Hooks
from ekiben.rollout.housekeeping import Housekeeping
from ekiben.rollout.progress import Progress
from ekiben.rollout.reviewing import Reviewer
from ekiben.rollout.standing import standing_of
from ekiben.rollout.status import LEASE
from ekiben.rollout.transitions import CONTROLLER
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout

TTL_S: Final = 5.0
_RENEW_S: Final = 1.0
_TICK_S: Final = 0.5
_REPORT_S: Final = 60.0
_ALL: Final = 10_000

logger = logging.getLogger("ekiben.controller")


class Controller:
    """Carries out rollouts while it holds the lease, and waits for the lease while another one does.

    Every change is guarded by the rollout's revision. So a controller that loses its lease while it works, or is killed, leaves
    nothing half done and nothing done twice.

    Args:
        control: The control database.
        registry: The versions; what they are is read there.
        holder: Who this is, as the lease has it: ``host:pid``.
        wall: Seconds since the epoch.
        clock: Seconds, for intervals.
        query: Asks Prometheus, see `ekiben.rollout.analysis.measure`.
        hooks: Webhooks; None has none called.
    """

    def __init__(
        self,
        control: Control,
        registry: Registry,
        *,
        holder: str,
        wall: Callable[[], float],
        clock: Callable[[], float],
        query: Callable[[PrometheusSpec], float | None],
        hooks: Hooks | None = None,
    ) -> None:
        self._control = control
        self._holder = holder
        self._wall = wall
        self._clock = clock
        self._hooks = hooks
        self._reviewer = Reviewer(control, registry, query)
        self._progress = Progress(control, self._reviewer)
        self._housekeeping = Housekeeping(control)
        self._renewed_at = float("-inf")
        self._is_holding = False
        self._said: bool | None = None
        self._reported: dict[tuple[str, str], float] = {}

    @property
    def is_holding(self) -> bool:
        """Whether it had the lease when it last asked."""
        return self._is_holding

    def run(self, stop: threading.Event) -> None:
        """Works until it is told to stop; then another one may go on at once."""
        sender = None
        if self._hooks is not None:
            sender = threading.Thread(target=self._hooks.run, args=(stop, lambda: self._is_holding), name="ekiben-webhooks", daemon=True)
            sender.start()
        try:
            while not stop.is_set():
                self._try_tick()
                stop.wait(_TICK_S)
        finally:
            self._is_holding = False
            with contextlib.suppress(StateError):
                self._control.leases.release(LEASE, self._holder)
            if sender is not None:
                sender.join(timeout=1.0)

    def tick(self) -> bool:
        """Does everything that is due now, if it has the lease; returns whether it has.

        Raises:
            StateError: The control database does not answer; what is left is done the next time.
        """
        if not self._has_lease():
            return False
        active = self._control.rollouts.find(active=True, limit=_ALL)
        self._reviewer.forget(other_than={rollout.id for rollout in active})
        for rollout in active:
            if not self._has_lease():
                return False
            self._guarded(rollout.model, rollout.id, partial(self._carry_on, rollout))
        self._guarded("", "", lambda: self._housekeeping.let_go(self._wall()))
        self._guarded("", "", lambda: self._housekeeping.prune(self._wall()))
        if self._hooks is not None:
            self._guarded("", "", self._hooks.collect)
        return True

    def _carry_on(self, rollout: Rollout) -> None:
        """Makes all changes of one rollout that are due; each leads to the next step, or ends it."""
        for _ in range(len(rollout.plan.steps) + 3):
            change = self._progress.next_change(standing_of(self._control, rollout), self._wall())
            if change is None:
                return
            kept = self._control.rollouts.commit(change)
            _log(kept)
            if kept.rollout is None or not kept.rollout.is_active:
                return
            rollout = kept.rollout

    def _guarded(self, model: str, rollout: str, work: Callable[[], None]) -> None:
        """Does work whose failure must not stop the rest.

        Raises:
            StateError: The control database does not answer, and so would not for the rest either.
        """
        try:
            work()
        except StateError:
            raise
        except RolloutChanged as e:
            logger.debug("%s; looking again", e)
        except Exception as e:  # noqa: BLE001  whatever it is, the other rollouts go on
            self._report(model, rollout, e)

    def _report(self, model: str, rollout: str, error: Exception) -> None:
        """Tells what went wrong, the same thing once a minute."""
        what, now = f"{type(error).__name__}: {error}", self._clock()
        if now - self._reported.get((rollout, what), float("-inf")) < _REPORT_S:
            return
        self._reported = {key: at for key, at in self._reported.items() if now - at < _REPORT_S} | {(rollout, what): now}
        logger.error("%s cannot go on: %s", rollout or "housekeeping", what, exc_info=error)
        if rollout:
            message = f"{rollout} cannot go on: {what}; it is tried again"
            self._control.events.append(
                [Event(time=self._wall(), who=CONTROLLER, model=model, rollout=rollout, kind="controller-error", message=message)]
            )

    def _try_tick(self) -> None:
        """A tick after which the next one is tried, whatever happens."""
        try:
            self.tick()
        except StateError as e:
            self._say_once("", str(e), "the control database does not answer, rollouts stand still meanwhile: %s")
        except Exception as e:  # noqa: BLE001  a controller that ends would be worse
            self._say_once("", f"{type(e).__name__}: {e}", "the controller failed and goes on: %s")

    def _say_once(self, rollout: str, what: str, text: str) -> None:
        now = self._clock()
        if now - self._reported.get((rollout, what), float("-inf")) >= _REPORT_S:
            self._reported[rollout, what] = now
            logger.warning(text, what)

    def _has_lease(self) -> bool:
        """Whether it holds the lease, renewed where that is due.

        Raises:
            StateError: The control database does not answer.
        """
        asked_at = self._clock()
        if self._is_holding and asked_at - self._renewed_at < _RENEW_S:
            return True
        try:
            has = self._control.leases.acquire(LEASE, self._holder, TTL_S)
        except StateError:
            self._is_holding = self._is_holding and asked_at - self._renewed_at < TTL_S
            raise
        if has and not (self._is_holding and asked_at - self._renewed_at < TTL_S):
            # Another one may have worked meanwhile: what was read before is old.
            self._reviewer.forget()
        if has != self._said:
            logger.info("%s carries out rollouts" if has else "%s waits: another process carries out rollouts", self._holder)
            self._said = has
        self._is_holding, self._renewed_at = has, asked_at
        return has


def _log(change: Change) -> None:
    for event in change.events:
        logger.info("%s: %s", event.rollout, event.message, extra={"event": event})
