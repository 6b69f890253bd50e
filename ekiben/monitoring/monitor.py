"""The monitor: a process, one a host, that looks after the log and, one of them at a time, checks models and tells of alerts."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from ekiben.errors import StateError
from ekiben.monitoring.alerts import Alerting
from ekiben.monitoring.checking import Checker
from ekiben.monitoring.watched import Watched, WatchedVersions
from ekiben.state.control import Control
from ekiben.state.delivering import Deliverer

LEASE: Final = "monitor"
TTL_S: Final = 15.0
TICK_S: Final = 10.0
CHECKS_KEPT_S: Final = 400 * 86_400.0

_REPORT_S: Final = 60.0
_PRUNE_S: Final = 3600.0
_LOG: Final = "the inference log"

logger = logging.getLogger("ekiben.monitor")


class Retrains(Protocol):
    """What has models trained anew; see `ekiben.monitoring.retrain_triggers`."""

    def run_if_due(self, model: str) -> object:
        """Starts training a model anew if something calls for it; returns at once."""

    def stop(self) -> None:
        """Ends what was started."""


class KeepsLog(Protocol):
    """What looks after the log; `ekiben.monitoring.log_keeper.LogKeeper` is one."""

    def run_once(self) -> object:
        """Compacts, ships and prunes this host's log; what it returns is logged unless it is None."""

    def take_in(self, goes_on: Callable[[], bool]) -> object:
        """Makes files of what hosts without pyarrow shipped, as long as it may go on."""


class Monitor:
    """Looks after what was logged.

    Whatever host it is on, it compacts and ships that host's log. While it holds the lease, it takes in what hosts without pyarrow
    shipped, checks all models, judges their alerts and sends what is to be told. Everything it keeps is kept whole or not at all: one
    that is killed leaves nothing half done, and another one goes on.

    Args:
        control: The control database.
        watched: What is watched.
        checker: Checks versions.
        alerting: Judges alerts.
        deliverer: Sends what is to be told.
        keeper: Looks after the log.
        holder: Who this is, as the lease has it: ``host:pid``.
        wall: Seconds since the epoch.
        clock: Seconds, for intervals.
        retrain: Has models trained anew where that is due; None has none.
    """

    def __init__(
        self,
        control: Control,
        *,
        watched: WatchedVersions,
        checker: Checker,
        alerting: Alerting,
        deliverer: Deliverer,
        keeper: KeepsLog,
        holder: str,
        wall: Callable[[], float],
        clock: Callable[[], float],
        retrain: Retrains | None = None,
    ) -> None:
        self._control = control
        self._watched = watched
        self._checker = checker
        self._alerting = alerting
        self._deliverer = deliverer
        self._keeper = keeper
        self._holder = holder
        self._wall = wall
        self._clock = clock
        self._retrain = retrain
        self._is_holding = False
        self._renewed_at = float("-inf")
        self._said: bool | None = None
        self._is_away = False
        self._reported: dict[tuple[str, str], float] = {}
        self._pruned_at = float("-inf")

    @property
    def is_holding(self) -> bool:
        """Whether it had the lease when it last asked."""
        return self._is_holding

    def run(self, stop: threading.Event) -> None:
        """Works until it is told to stop; then another one may go on at once."""
        sender = threading.Thread(target=self._deliverer.run, args=(stop, self._may_send), name="ekiben-alerts", daemon=True)
        sender.start()
        try:
            while not stop.is_set():
                self.tick(stop)
                stop.wait(TICK_S)
        finally:
            self.release()
            if self._retrain is not None:
                self._retrain.stop()
            sender.join(timeout=1.0)

    def tick(self, stop: threading.Event | None = None) -> None:
        """Does everything that is due now. Nothing that goes wrong is raised: it is logged, with the model, and tried again.

        Args:
            stop: Where it is set meanwhile, what is left is left.
        """
        self._guarded(_LOG, self._look_after_log)
        try:
            self._work(stop or threading.Event())
        except StateError as e:
            self._is_holding = False
            if not self._is_away:
                logger.warning("the control database does not answer, checks and alerts wait for it: %s", e)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("the control database answers again")
            self._is_away = False

    def send(self) -> None:
        """Sends what is to be told now, if it has the lease.

        Raises:
            StateError: The control database does not answer.
        """
        while self._is_holding and self._deliverer.deliver():
            pass

    def release(self) -> None:
        """Gives the lease back, if it has it."""
        self._is_holding = False
        with contextlib.suppress(StateError):
            self._control.leases.release(LEASE, self._holder)

    def _may_send(self) -> bool:
        """Whether it has the lease; in the thread that sends, which renews it so that a check which takes long does not lose it.

        Raises:
            StateError: The control database does not answer.
        """
        return self._is_holding and (self._clock() - self._renewed_at < TTL_S / 3 or self._has_lease())

    def _work(self, stop: threading.Event) -> None:
        if self._checker.missing:
            # Without the lease, so that another machine's monitor that can check may have it.
            if self._said is None:
                self._said = False
                logger.warning("%s", _what_it_leaves(self._checker.missing))
            return
        if not self._has_lease():
            return
        self._guarded(_LOG, lambda: self._keeper.take_in(lambda: not stop.is_set() and self._has_lease()))
        models = self._watched.models()
        for model in models:
            if stop.is_set() or not self._has_lease():
                return
            self._guarded(model, partial(self._look_at, model))
        self._guarded("alerts", lambda: self._alerting.forget(set(models), self._wall()))
        if self._clock() - self._pruned_at >= _PRUNE_S:
            self._pruned_at = self._clock()
            self._guarded("checks", lambda: self._control.checks.prune(self._wall() - CHECKS_KEPT_S))

    def _look_at(self, model: str) -> None:
        """Checks one model if that is due, judges its alerts, and has it trained anew where that is due."""
        versions = self._watched.of(model)
        if not versions:
            return
        champion = versions[0]
        # What cannot be checked must not keep from being judged what needs no check, say the error rate.
        self._guarded(model, partial(self._check, versions))
        self._guarded(model, lambda: self._alerting.judge(model, champion.version, champion.spec, self._wall()))
        if self._retrain is not None:
            self._retrain.run_if_due(model)

    def _check(self, versions: list[Watched]) -> None:
        for check in self._checker.check_if_due(versions, self._wall()):
            logger.info("%s:%s: %s: %s", check.model, check.version, check.kind, check.summary, extra={"check": check})

    def _look_after_log(self) -> None:
        done = self._keeper.run_once()
        if done is not None:
            logger.debug("%s: %s", _LOG, done)

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        """Does work whose failure must not stop the rest.

        Raises:
            StateError: The control database does not answer, and so would not for the rest either.
        """
        try:
            work()
        except StateError:
            if what != _LOG:
                raise
        except Exception as e:  # noqa: BLE001  whatever it is, the other models go on
            self._report(what, e)

    def _report(self, what: str, error: Exception) -> None:
        """Logs what went wrong, the same thing once a minute."""
        problem, now = f"{type(error).__name__}: {error}", self._clock()
        if now - self._reported.get((what, problem), float("-inf")) < _REPORT_S:
            return
        self._reported = {key: at for key, at in self._reported.items() if now - at < _REPORT_S} | {(what, problem): now}
        logger.error("%s: %s; it is tried again", what, problem, exc_info=error)

    def _has_lease(self) -> bool:
        """Whether it holds the lease, renewed.

        Raises:
            StateError: The control database does not answer.
        """
        asked_at = self._clock()
        has = self._control.leases.acquire(LEASE, self._holder, TTL_S)
        if has != self._said:
            logger.info("%s checks models and tells of alerts" if has else "%s waits: another process checks models", self._holder)
            self._said = has
        self._is_holding, self._renewed_at = has, asked_at
        return has


def _what_it_leaves(missing: Sequence[str]) -> str:
    """What a monitor does not do without some libraries, and who does."""
    does = "ships and prunes this host's log as it is" if "pyarrow" in missing else "looks after this host's log"
    return (
        f"without {' and '.join(missing)} this monitor {does} and leaves {'Parquet files, ' if 'pyarrow' in missing else ''}checks, alerts "
        "and retraining to one over the same control database and EKIBEN_LOG_URI, where 'ekiben[monitor]' is installed"
    )
