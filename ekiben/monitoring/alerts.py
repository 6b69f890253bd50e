"""Alerts: rules that hold for long enough fire, are told once, once a day while they last, and once when they are over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ekiben.model.monitor_spec import AlertSpec
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.alert_rules import LOOK_S, Facts, Verdict, judge, names_of
from ekiben.state.alerts import ALERT, Alert
from ekiben.state.checks import Check, Kind
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.windows import SHADOW, Window

MONITOR: Final = "monitor"
"""Who says so, in events."""

REPEAT_S: Final = 86_400.0
"""An alert that goes on firing is told again after so long."""

CHECKED_WITHIN_S: Final = 30 * 86_400.0
"""An older check says nothing of now."""


class Alerting:
    """Judges the rules of models, keeps how they stand, and has people told.

    What is told is in the control database before anything is sent, together with how the rule stands: no message is lost, and of
    several processes that judge at once one tells.

    Args:
        control: The control database.
        count: Counts a model's rows that were answered in [since, until).
    """

    def __init__(self, control: Control, count: Callable[[str, float, float], int]) -> None:
        self._control = control
        self._count = count

    def judge(self, model: str, version: str, spec: ModelSpec, now: float) -> None:
        """Judges all rules of a model.

        Args:
            model: The model.
            version: Its champion.
            spec: Its spec, with the rules.
            now: Seconds since the epoch.

        Raises:
            StateError: The control database does not answer.
        """
        rules = dict(zip(names_of(spec.monitor.alerts), spec.monitor.alerts, strict=True))
        former = {alert.name: alert for alert in self._control.alerts.find(model)}
        if rules:
            facts = self._facts(model, version, spec, now)
            for name, rule in rules.items():
                self._judge(former.get(name, Alert(model=model, name=name)), rule, judge(rule, facts), now)
        self._drop([alert for name, alert in former.items() if name not in rules], now)

    def forget(self, models: set[str], now: float) -> None:
        """Ends the alerts of models that are there no more.

        Args:
            models: Those that are there.
            now: Seconds since the epoch.

        Raises:
            StateError: The control database does not answer.
        """
        self._drop([alert for alert in self._control.alerts.find() if alert.model not in models], now)

    def _facts(self, model: str, version: str, spec: ModelSpec, now: float) -> Facts:
        checks = self._control.checks.latest(model, since=now - CHECKED_WITHIN_S)
        windows = self._control.windows.sum(model, now - LOOK_S, now)
        return Facts(
            spec=spec,
            version=version,
            now=now,
            drift=_of(checks, version, "drift"),
            quality=_of(checks, version, "quality"),
            requests=sum((window for (_, arm), window in windows.items() if arm != SHADOW), Window()),
            newest_truth=self._control.truths.newest(model),
            count=lambda since, until: self._count(model, since, until),
        )

    def _judge(self, former: Alert, rule: AlertSpec, verdict: Verdict, now: float) -> None:
        alert, news = after(former, rule, verdict, now)
        if alert != former:
            self._control.alerts.keep(alert, event=_event(alert, news, verdict, former, now) if news else None)

    def _drop(self, alerts: list[Alert], now: float) -> None:
        for alert in alerts:
            if alert.state == "firing":
                verdict = Verdict(holds=False, time=now, message="the rule, or the model, is no longer there", version=alert.version)
                over = msgspec.structs.replace(alert, state="resolved", since=now, told=now, message=verdict.message)
                self._control.alerts.keep(over, event=_event(over, "resolved", verdict, alert, now))
            self._control.alerts.forget(alert.model, alert.name)


def after(former: Alert, rule: AlertSpec, verdict: Verdict, now: float) -> tuple[Alert, str]:
    """How a rule stands after it was judged.

    Args:
        former: How it stood.
        rule: The rule.
        verdict: Whether it holds.
        now: Seconds since the epoch.

    Returns:
        How it stands, the same object where nothing changed; and what is told of it: ``firing``, ``repeated``, ``resolved`` or nothing.
    """
    as_ruled = msgspec.structs.replace(former, severity=rule.severity, to=rule.to)
    is_news = verdict.holds is not None and verdict.time > former.judged
    alert = _counted(as_ruled, rule, verdict, now) if is_news else as_ruled
    if alert.state == "firing" and former.state != "firing":
        return msgspec.structs.replace(alert, told=now), "firing"
    if alert.state == "firing" and now - alert.told >= REPEAT_S:
        return msgspec.structs.replace(alert, told=now), "repeated"
    if alert.state == "resolved" and former.state == "firing":
        return msgspec.structs.replace(alert, told=now), "resolved"
    is_quiet = alert.state == former.state == "resolved" and former.revision > 0
    return (former if is_quiet else alert), ""


def _counted(alert: Alert, rule: AlertSpec, verdict: Verdict, now: float) -> Alert:
    """An alert after a look that counts."""
    is_another = alert.state != "firing" and alert.version != verdict.version
    held = (0 if is_another else alert.held) + 1 if verdict.holds else 0
    state: str = "resolved"
    if verdict.holds:
        state = "firing" if alert.state == "firing" or held >= rule.checks else "pending"
    return msgspec.structs.replace(
        alert,
        state=state,
        since=alert.since if state == alert.state else now,
        message=verdict.message,
        value=verdict.value,
        version=verdict.version,
        held=held,
        judged=verdict.time,
    )


def _of(checks: list[Check], version: str, kind: Kind) -> Check | None:
    return next((check for check in checks if (check.version, check.kind, check.arm) == (version, kind, "")), None)


def _event(alert: Alert, news: str, verdict: Verdict, former: Alert, now: float) -> Event:
    """What people are told."""
    began = alert.since if news == "firing" else former.since
    subject = f"{alert.model}:{alert.version}" if alert.version else alert.model
    said = {"firing": "fires", "repeated": "still fires", "resolved": "is over"}[news]
    details = {
        "alert": alert.name,
        "state": alert.state,
        "repeated": news == "repeated",
        "severity": alert.severity,
        "version": alert.version,
        "value": verdict.value,
        "threshold": verdict.threshold,
        "began": began,
        "checks": alert.held,
    }
    return Event(
        time=now, who=MONITOR, model=alert.model, kind=ALERT, message=f"{subject}: {alert.name} {said}: {verdict.message}", details=details
    )
