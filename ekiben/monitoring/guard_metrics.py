"""Prometheus collectors of what guards do; `Metrics` makes them, its table describes them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from ekiben.monitoring.latency_budget import BurnRate

_LABELS = ("model", "version")


class GuardMetrics:
    """The collectors of one process.

    Args:
        registry: Where the collectors belong.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.breaker_state = Gauge(
            "ekiben_breaker_state", "0 closed, 1 half-open, 2 open", _LABELS, multiprocess_mode="livemax", registry=registry
        )
        self.breaker_transitions = Counter("ekiben_breaker_transitions", "Changes of state", [*_LABELS, "state"], registry=registry)
        self.cancelled = Counter("ekiben_cancelled", "Requests whose client hung up", [*_LABELS, "arm"], registry=registry)
        self.budget_burn = Gauge(
            "ekiben_latency_budget_burn", "Answers over budget by those allowed", _LABELS, multiprocess_mode="livemax", registry=registry
        )

    def of(self, model: str, version: str, clock: Callable[[], float]) -> VersionGuardMetrics:
        """The children for one version, looked up once; ``clock`` is in monotonic seconds."""
        return VersionGuardMetrics(self, model, version, clock)


class VersionGuardMetrics:
    """The collectors of one version."""

    def __init__(self, metrics: GuardMetrics, model: str, version: str, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._names = (model, version)
        self._state = metrics.breaker_state.labels(model, version)
        self._state.set(0)
        self._burn = metrics.budget_burn.labels(model, version)
        self._rate = BurnRate(clock)

    def breaker(self, state: int, name: str) -> None:
        """The breaker went to a state, a number and its name."""
        self._state.set(state)
        self._metrics.breaker_transitions.labels(*self._names, name).inc()

    def latency(self, answered: int, over: int) -> None:
        """So many requests were answered since this was said last, and so many of them took longer than the budget."""
        self._rate.add(answered, over)
        self._burn.set(self._rate.value())

    def unloaded(self) -> None:
        """The version goes: its breaker is nobody's, and it burns nothing."""
        self._state.set(0)
        self._burn.set(0)
