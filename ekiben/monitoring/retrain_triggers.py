"""When a model is trained anew by itself: what calls for it, how often it may, and the process that does it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from ekiben.model.monitor_spec import RetrainSpec
from ekiben.model.rollout_spec import Duration, seconds
from ekiben.monitoring.retraining import STARTED, lease_of
from ekiben.monitoring.watched import Watched, WatchedVersions
from ekiben.registry.store import Registry
from ekiben.state.checks import Check
from ekiben.state.control import Control

_ARMS: Final = 5
"""Checks of one version at a time, about: one an arm."""
_SPARE: Final = 20
"""Checks that may have said nothing."""
_RUNS: Final = 50
_STOP_S: Final = 10.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision rests on.

    Attributes:
        now: Seconds since the epoch.
        champion: The version that serves.
        trained: When it was made, seconds since the epoch.
        checks: The latest checks of the model.
        last_run: When triggers last started a run, seconds since the epoch; None where they never did.
        truth_rows: New rows with ground truth since the last run, and since the champion was made.
        busy: Why nothing may start now; empty where something may.
    """

    now: float
    champion: str
    trained: float
    checks: Sequence[Check] = ()
    last_run: float | None = None
    truth_rows: int = 0
    busy: str = ""


class Decision(msgspec.Struct, frozen=True):
    """Whether to train anew, and why, or why not."""

    is_due: bool
    reason: str


class Process(Protocol):
    """A process that trains, as `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def terminate(self) -> None:
        """Asks it to end."""

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, ``timeout`` seconds at most."""


def decide(spec: RetrainSpec, facts: Facts) -> Decision:
    """Whether a model is to be trained anew now.

    Only checks of the champion that were done since the last run count: what called for a run that was rejected must be seen
    again before it calls for the next. Checks of too few rows count neither way.
    """
    if not spec.enabled:
        return Decision(is_due=False, reason="monitor.retrain.enabled is off")
    pause_s = seconds(spec.at_most_every)
    if facts.last_run is not None and facts.now < facts.last_run + pause_s:
        ago = _age(facts.now - facts.last_run)
        return Decision(is_due=False, reason=f"the last run was {ago} ago, and one is allowed every {_text(spec.at_most_every)}")
    found = _drifted(spec, facts) or _fell(spec, facts) or _old(spec, facts) or _taught(spec, facts)
    if found and facts.busy:
        return Decision(is_due=False, reason=f"{found}, but {facts.busy}")
    return Decision(is_due=bool(found), reason=found or "nothing calls for it")


class RetrainTriggers:
    """Looks at a model's checks, and starts a process that trains it anew when they call for it.

    Args:
        control: The control database.
        registry: The versions.
        wall: Seconds since the epoch.
        folder: The models folder, see `WatchedVersions`; what it says of ``monitor.retrain`` is in force.
        start: Starts ``ekiben retrain MODEL --trigger REASON``; None takes `start_process`.
    """

    def __init__(
        self,
        control: Control,
        registry: Registry,
        *,
        wall: Callable[[], float],
        folder: Path | None = None,
        start: Callable[[str, str], Process] | None = None,
    ) -> None:
        self._control = control
        self._watched = WatchedVersions(control, registry, folder)
        self._wall = wall
        self._start = start if start is not None else start_process
        self._running: dict[str, Process] = {}
        self._started: dict[str, float] = {}

    def run_if_due(self, model: str) -> Decision:
        """Starts training a model anew if something calls for it; returns at once.

        Raises:
            RegistryError: The store cannot be read.
            ArtifactError: The champion cannot be read.
            StateError: The control database does not answer.
            OSError: No process can be started.
        """
        versions = self._watched.of(model)
        if not versions:
            return Decision(is_due=False, reason=f"{model} has no champion")
        spec = versions[0].spec.monitor.retrain
        if not spec.enabled:
            # What is off asks the control database for nothing.
            return decide(spec, Facts(now=self._wall(), champion=versions[0].version, trained=0.0))
        decision = decide(spec, self._facts(versions[0], spec))
        if decision.is_due:
            # Remembered here too: a process that dies before it can say that it started is not started again and again.
            self._started[model] = self._wall()
            self._running[model] = self._start(model, decision.reason)
        return decision

    def stop(self) -> None:
        """Ends what was started; a training that is stopped has registered nothing."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
        self._running.clear()

    def _facts(self, champion: Watched, spec: RetrainSpec) -> Facts:
        model = champion.model
        trained = datetime.fromisoformat(champion.artifact.manifest.provenance.created).timestamp()
        runs = [e.time for e in self._control.events.find(model=model, kind=STARTED, limit=_RUNS) if e.details.get("trigger")]
        last_run = max([*runs, *([self._started[model]] if model in self._started else [])], default=None)
        since = max(trained, last_run or 0.0)
        now = self._wall()
        facts = Facts(now=now, champion=champion.version, trained=trained, last_run=last_run)
        if last_run is not None and now < last_run + seconds(spec.at_most_every):
            # Whatever there is to see, nothing may start: reports are long, and this is asked every few seconds.
            return facts
        checks = self._control.checks
        drift = checks.find(model, kind="drift", version=champion.version, since=since, limit=_ARMS * (spec.drift_checks or 0) + _SPARE)
        quality = checks.find(model, kind="quality", version=champion.version, since=since, limit=_ARMS)
        return msgspec.structs.replace(
            facts,
            checks=[*drift, *quality],
            truth_rows=self._control.truths.count(model, since, now) if spec.truth_rows is not None else 0,
            busy=self._busy(model),
        )

    def _busy(self, model: str) -> str:
        process = self._running.get(model)
        if process is not None and process.poll() is None:
            return "it is being trained"
        self._running.pop(model, None)
        holder = self._control.leases.holder(lease_of(model))
        if holder is not None:
            return f"it is being trained by {holder}"
        active = self._control.rollouts.find(model=model, active=True, limit=1)
        return f"{active[0].id} is active" if active else ""


def start_process(model: str, reason: str) -> subprocess.Popen[bytes]:
    """Trains a model anew in a process of its own, which shares nothing with this one but standard error.

    Raises:
        OSError: None can be started.
    """
    command = [sys.executable, "-m", "ekiben", "retrain", model, "--trigger", reason]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  our own command


def _drifted(spec: RetrainSpec, facts: Facts) -> str:
    wanted = spec.drift_checks
    if wanted is None:
        return ""
    latest = _verdicts(facts, "drift")[-wanted:]
    if len(latest) < wanted or not all(latest):
        return ""
    return f"data drifted in {wanted} checks in a row" if wanted > 1 else "data drifted"


def _fell(spec: RetrainSpec, facts: Facts) -> str:
    latest = _verdicts(facts, "quality")[-1:]
    return "the quality is below its threshold" if spec.quality and latest == [True] else ""


def _old(spec: RetrainSpec, facts: Facts) -> str:
    age_s = facts.now - facts.trained
    is_old = spec.max_age is not None and age_s > seconds(spec.max_age)
    return f"the champion is {_age(age_s)} old" if is_old else ""


def _taught(spec: RetrainSpec, facts: Facts) -> str:
    is_enough = spec.truth_rows is not None and facts.truth_rows >= spec.truth_rows
    return f"there are {facts.truth_rows:,} new rows with ground truth" if is_enough else ""


def _verdicts(facts: Facts, kind: str) -> list[bool]:
    """Of each time that the champion was checked and something could be said: whether it was bad; the latest last."""
    by_time: dict[float, bool] = {}
    for check in facts.checks:
        counts = check.kind == kind and check.version == facts.champion and check.time >= (facts.last_run or 0.0)
        if counts and check.outcome != "unknown":
            by_time[check.time] = by_time.get(check.time, False) or check.outcome == "bad"
    return [by_time[time] for time in sorted(by_time)]


def _age(age_s: float) -> str:
    days, hours = age_s / 86_400, age_s / 3600
    return f"{days:.0f} days" if days >= 2 else f"{hours:.0f} hours" if hours >= 2 else f"{age_s / 60:.0f} minutes"  # noqa: PLR2004


def _text(duration: Duration) -> str:
    return duration if isinstance(duration, str) else f"{duration:g} s"
