"""The collectors of one arm of a version: how its requests ended. `Metrics` makes them, its table describes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ekiben.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    InvalidRows,
    MethodNotAllowed,
    NotAcceptable,
    NotReady,
    PayloadTooLarge,
    RequestError,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from ekiben.monitoring.metrics import Metrics

STATUSES = ("ok", "invalid", "refused", "expired", "failed")
"""How a request ends."""


class ArmMetrics:
    """The collectors of one arm of a version."""

    def __init__(self, metrics: Metrics, model: str, version: str, arm: str, labels: Sequence[str], *, budget_s: float) -> None:
        self._metrics = metrics
        self._names = (model, version, arm)
        self._budget_s = budget_s
        self._over_budget = metrics.over_budget.labels(*self._names)
        # All from the start: of a series that begins with its first failures, Prometheus takes these for nothing.
        self._ok, *_ = [metrics.predictions.labels(*self._names, status) for status in STATUSES]
        self._latency = metrics.latency.labels(*self._names)
        self._failed_seconds = metrics.failed_seconds.labels(*self._names)
        self._classes = [metrics.distribution.labels(*self._names, label) for label in labels]
        self._has_weight = False
        self._latencies: list[float] = []
        self._predicted: list[npt.NDArray[np.intp]] = []

    def answered(self, latencies: Sequence[float]) -> None:
        """Requests were answered, one for each latency, seconds from arrival to answer."""
        self._latencies += latencies

    def classes(self, class_index: npt.NDArray[np.intp]) -> None:
        """Counts the predicted class of each row."""
        self._predicted.append(class_index)

    def write(self) -> tuple[int, int]:
        """Writes what was gathered since the last time; returns how many were answered, and how many of them over the budget."""
        latencies, self._latencies = self._latencies, []
        over = 0
        if latencies:
            over = int(np.count_nonzero(np.asarray(latencies) > self._budget_s))
            self._ok.inc(len(latencies))
            self._latency.observe_many(latencies)
            self._over_budget.inc(over)
        if self._predicted:
            predicted, self._predicted = self._predicted, []
            counts = np.bincount(np.concatenate(predicted), minlength=len(self._classes)).tolist()
            for child, count in zip(self._classes, counts, strict=True):
                if count:
                    child.inc(count)
        return len(latencies), over

    def failed(self, errors: Iterable[RequestError], seconds: float) -> None:
        """Requests that ended without a prediction, and took so many seconds together."""
        self._failed_seconds.inc(max(seconds, 0.0))  # a counter never falls
        for error in errors:
            self._metrics.predictions.labels(*self._names, status_of(error)).inc()
            self._metrics.errors.labels(*self._names, type(error).__name__).inc()

    def cancelled(self) -> None:
        """A request's client hung up while it was queued."""
        self._metrics.guards.cancelled.labels(*self._names).inc()

    def fell_back(self) -> None:
        """The champion answers a request that failed here."""
        self._metrics.fallbacks.labels(*self._names).inc()

    def compared(self, rows: int, agreed: int) -> None:
        """A shadow's rows were compared with the champion's, and so many had the same prediction."""
        shadow_rows, names = self._metrics.shadow_rows, self._names[:2]
        shadow_rows.labels(*names, "agreed").inc(agreed)
        shadow_rows.labels(*names, "differed").inc(rows - agreed)

    def dropped(self, rows: int) -> None:
        """A shadow's rows were left out."""
        self._metrics.shadow_rows.labels(*self._names[:2], "dropped").inc(rows)

    def weight(self, percent: float) -> None:
        """The arm has so much of the traffic."""
        self._has_weight = True
        self._metrics.weight.labels(*self._names).set(percent)

    def no_weight(self) -> None:
        """The arm is gone, and what was said of its traffic is over."""
        if self._has_weight:
            self.weight(0.0)


_STATUS: dict[type[RequestError], str] = {
    InvalidRequest: "invalid",
    InvalidRows: "invalid",
    UnsupportedMediaType: "invalid",
    PayloadTooLarge: "invalid",
    MethodNotAllowed: "invalid",
    NotAcceptable: "invalid",
    NotReady: "refused",
    TooManyRequests: "refused",
    Unauthenticated: "refused",
    Forbidden: "refused",
    DeadlineExceeded: "expired",
}


def status_of(error: RequestError) -> str:
    """The status label of a request that ended with this error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), "failed")
