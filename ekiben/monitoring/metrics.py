"""Prometheus metrics of the data plane, recorded once a batch.

| metric | labels | meaning |
|---|---|---|
| ``ekiben_predictions_total`` | model, version, status | requests by how they ended: ok, invalid, refused, expired, failed |
| ``ekiben_predicted_rows_total`` | model, version | rows computed |
| ``ekiben_prediction_latency_seconds`` | model, version | from a request's arrival to its computed answer |
| ``ekiben_queue_seconds`` | model, version | from a request's entry into the queue to its batch's begin |
| ``ekiben_batch_size`` | model, version | rows in a batch |
| ``ekiben_model_load_seconds`` | model, version | time to load, check and warm a version |
| ``ekiben_prediction_distribution`` | model, version, class | rows by predicted class |
| ``ekiben_prediction_errors_total`` | model, version, error | requests without a prediction, by error |

Each worker writes its own values; BentoML's ``/metrics`` adds them up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ekiben.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvalidRows,
    MethodNotAllowed,
    NotReady,
    PayloadTooLarge,
    RequestError,
    UnsupportedMediaType,
)

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LABELS = ("model", "version")


class BatchedHistogram(Histogram):
    """A histogram that takes the observations of a whole batch at once."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observes each amount, touching each bucket that gains anything once."""
        bounds = self._upper_bounds
        gained: dict[int, int] = {}
        for amount in amounts:
            bucket = bisect_left(bounds, amount)
            gained[bucket] = gained.get(bucket, 0) + 1
        self._sum.inc(sum(amounts))
        for bucket, count in gained.items():
            self._buckets[bucket].inc(count)


class Metrics:
    """All collectors of one process.

    NOTE: make it in the worker, after BentoML has set ``PROMETHEUS_MULTIPROC_DIR``, or other workers' values go missing.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predictions = Counter("ekiben_predictions", "Requests by how they ended", [*_LABELS, "status"], registry=registry)
        self.rows = Counter("ekiben_predicted_rows", "Rows computed", _LABELS, registry=registry)
        self.latency = BatchedHistogram(
            "ekiben_prediction_latency_seconds", "From a request's arrival to its answer", _LABELS, buckets=_SECONDS, registry=registry
        )
        self.queue = BatchedHistogram("ekiben_queue_seconds", "Time in the queue", _LABELS, buckets=_SECONDS, registry=registry)
        self.batch_size = Histogram("ekiben_batch_size", "Rows in a batch", _LABELS, buckets=_ROWS, registry=registry)
        self.load_seconds = Gauge(
            "ekiben_model_load_seconds", "Time to load, check and warm a version", _LABELS, multiprocess_mode="max", registry=registry
        )
        self.distribution = Gauge(
            "ekiben_prediction_distribution", "Rows by predicted class", [*_LABELS, "class"], multiprocess_mode="sum", registry=registry
        )
        self.errors = Counter("ekiben_prediction_errors", "Requests without a prediction", [*_LABELS, "error"], registry=registry)

    def of(self, model: str, version: str, labels: Sequence[str]) -> VersionMetrics:
        """The children for one version, looked up once."""
        return VersionMetrics(self, model, version, labels)


class VersionMetrics:
    """The collectors of one version."""

    def __init__(self, metrics: Metrics, model: str, version: str, labels: Sequence[str]) -> None:
        self._metrics = metrics
        self._names = (model, version)
        self._ok = metrics.predictions.labels(model, version, "ok")
        self._rows = metrics.rows.labels(model, version)
        self._latency = metrics.latency.labels(model, version)
        self._queue = metrics.queue.labels(model, version)
        self._batch_size = metrics.batch_size.labels(model, version)
        self._classes = [metrics.distribution.labels(model, version, label) for label in labels]

    def loaded(self, seconds: float) -> None:
        """The version was loaded in so many seconds."""
        self._metrics.load_seconds.labels(*self._names).set(seconds)

    def batch(self, rows: int, latencies: Sequence[float], queue_times: Sequence[float], class_index: npt.NDArray[np.intp] | None) -> None:
        """A batch of so many rows answered one request for each latency and queue time, in seconds."""
        if latencies:
            self._ok.inc(len(latencies))
            self._latency.observe_many(latencies)
            self._queue.observe_many(queue_times)
        self._rows.inc(rows)
        self._batch_size.observe(rows)
        if class_index is not None:
            self._count_classes(class_index)

    def _count_classes(self, class_index: npt.NDArray[np.intp]) -> None:
        if len(class_index) == 1:
            self._classes[int(class_index[0])].inc()
            return
        counts = np.bincount(class_index, minlength=len(self._classes)).tolist()
        for child, count in zip(self._classes, counts, strict=True):
            if count:
                child.inc(count)

    def failed(self, errors: Iterable[RequestError]) -> None:
        """Requests that ended without a prediction."""
        for error in errors:
            self._metrics.predictions.labels(*self._names, status_of(error)).inc()
            self._metrics.errors.labels(*self._names, type(error).__name__).inc()


_STATUS: dict[type[RequestError], str] = {
    InvalidRequest: "invalid",
    InvalidRows: "invalid",
    UnsupportedMediaType: "invalid",
    PayloadTooLarge: "invalid",
    MethodNotAllowed: "invalid",
    NotReady: "refused",
    DeadlineExceeded: "expired",
}


def status_of(error: RequestError) -> str:
    """The status label of a request that ended with this error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), "failed")
