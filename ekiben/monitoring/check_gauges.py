"""The latest checks and alerts as gauges, so that Prometheus sees what the monitor found; `ekiben.monitoring.metrics` lists them.

What a version showed that is watched no more becomes NaN, which no rule takes for anything; of an alert that is gone, 0.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from ekiben.errors import StateError
from ekiben.monitoring.alerts import CHECKED_WITHIN_S
from ekiben.monitoring.check_figures import figures_of
from ekiben.state.checks import Check
from ekiben.state.control import Control

EVERY_S: Final = 10.0
_ALL_ARMS: Final = "all"

Labels = tuple[str, ...]
logger = logging.getLogger("ekiben.monitor")


class CheckGauges:
    """Shows what the control database has of some models' checks and alerts.

    Args:
        registry: Where the gauges belong.
        control: The control database.
        champion: Model → the version that answers by default; None where there is none.
        models: The models that are served.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        control: Control,
        *,
        champion: Callable[[str], str | None],
        models: Sequence[str],
        wall: Callable[[], float],
    ) -> None:
        self._control = control
        self._champion = champion
        self._models = tuple(models)
        self._wall = wall
        known = {
            "ekiben_drift_psi": ("PSI of a column in the last drift check", ("model", "version", "column")),
            "ekiben_drift_detected": ("Whether the last check found drift", ("model", "version")),
            "ekiben_quality": ("A metric in the last quality check", ("model", "version", "arm", "metric")),
            "ekiben_quality_coverage": ("Share of its rows with ground truth", ("model", "version")),
            "ekiben_check_timestamp_seconds": ("When the last check was", ("model", "version", "kind")),
            "ekiben_alerts_firing": ("Whether an alert fires", ("model", "alert")),
        }
        self._gauges = {
            name: Gauge(name, text, labels, multiprocess_mode="livemostrecent", registry=registry) for name, (text, labels) in known.items()
        }
        self._shown: dict[str, set[Labels]] = {name: set() for name in known}

    def run(self, stop: threading.Event) -> None:
        """Looks every ten seconds until it is told to stop. Where the control database is away, what was seen last stays."""
        while not stop.is_set():
            try:
                self.look()
            except StateError as e:
                logger.debug("the checks cannot be read: %s", e)
            except Exception:
                logger.exception("the checks cannot be shown")
            stop.wait(EVERY_S)

    def look(self) -> None:
        """Shows what there is now.

        Raises:
            StateError: The control database does not answer.
        """
        found: dict[str, dict[Labels, float]] = {name: {} for name in self._gauges}
        for model in self._models:
            watched = self._watched(model)
            checks = self._control.checks.latest(model, since=self._wall() - CHECKED_WITHIN_S)
            for check in checks:
                if check.version in watched:
                    for name, labels, value in _of_check(check):
                        found[name][labels] = value
            for alert in self._control.alerts.find(model):
                found["ekiben_alerts_firing"][model, alert.name] = float(alert.state == "firing")
        for name, values in found.items():
            self._show(name, values)

    def _watched(self, model: str) -> set[str]:
        route, champion = self._control.routes.get(model), self._champion(model)
        on_trial = () if route is None else (*(a.version for a in route.arms), *(s.version for s in route.shadows))
        return {*on_trial, *([champion] if champion else [])}

    def _show(self, name: str, values: dict[Labels, float]) -> None:
        for labels, value in values.items():
            self._gauges[name].labels(*labels).set(value)
        # NOTE: a series cannot be taken back: the files that the workers share keep it.
        for labels in self._shown[name] - values.keys():
            self._gauges[name].labels(*labels).set(0.0 if name == "ekiben_alerts_firing" else math.nan)
        self._shown[name] = set(values)


def _of_check(check: Check) -> Iterable[tuple[str, Labels, float]]:
    """Gauge, labels and value of everything that a check shows."""
    of, figures = (check.model, check.version), figures_of(check)
    if check.kind == "quality":
        for name, metric in figures.metrics.items():
            if metric.value is not None:
                yield "ekiben_quality", (*of, check.arm or _ALL_ARMS, name), metric.value
        if not check.arm and figures.coverage.share is not None:
            yield "ekiben_quality_coverage", of, figures.coverage.share
    elif check.outcome != "unknown":
        yield "ekiben_drift_detected", of, float(check.outcome == "bad")
        for column in figures.columns:
            if column.psi is not None:
                yield "ekiben_drift_psi", (*of, column.name), column.psi
    if not check.arm:
        yield "ekiben_check_timestamp_seconds", (*of, check.kind), check.time
