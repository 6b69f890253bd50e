"""Prometheus collectors of the limits; `Metrics` makes them, its table describes them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    """The collectors of one process.

    Args:
        registry: Where the collectors belong.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._limited = Counter("ekiben_limited", "Requests that a limit refused", ["model", "rule"], registry=registry)
        self._up = Gauge(
            "ekiben_limit_backend_up", "Whether what limits are counted in can be reached", multiprocess_mode="livemin", registry=registry
        )
        self._up.set(1)  # until something is counted nothing is wrong

    def limited(self, model: str, rule: str) -> None:
        """A request was refused by a rule."""
        self._limited.labels(model, rule).inc()

    def backend_up(self, up: bool) -> None:  # noqa: FBT001  a gauge of 0 and 1
        """Whether counters can be reached; those of each worker for itself, where they were to be shared, are none."""
        self._up.set(up)
