"""Prometheus metrics of the data plane, gathered batch by batch and written twice a second.

| metric | labels | meaning |
|---|---|---|
| ``ekiben_predictions_total`` | model, version, arm, status | requests by how they ended: ok, invalid, refused, expired, failed |
| ``ekiben_predicted_rows_total`` | model, version | rows computed |
| ``ekiben_prediction_latency_seconds`` | model, version, arm | from a request's arrival to its computed answer |
| ``ekiben_queue_seconds`` | model, version | from a request's entry into the queue to its batch's begin |
| ``ekiben_queue_rows`` | model, version | rows that wait now, looked at twice a second |
| ``ekiben_batch_size`` | model, version | rows in a batch |
| ``ekiben_compute_seconds_total`` | model, version, batch_size, phase | time the model was busy with batches of up to so many rows (of
  more than half as many); phase is input (gather and check rows) or infer (the predictor) |
| ``ekiben_request_compute_seconds_total`` | model, version, phase | the same, counted once for each answered request of a batch |
| ``ekiben_failed_seconds_total`` | model, version, arm | time that requests without a prediction took |
| ``ekiben_latency_budget_seconds`` | model, version | what a request may take: ``latency_budget_ms`` of the spec |
| ``ekiben_over_latency_budget_total`` | model, version, arm | answered requests that took longer than that |
| ``ekiben_quality_threshold`` | model, version, metric | ``threshold`` of the spec's ``quality``, where it has one |
| ``ekiben_ground_truth_total`` | model | reports of ground truth that were kept, those told again too |
| ``ekiben_ground_truth_timestamp_seconds`` | model | when the last of them was kept, seconds since the epoch |
| ``ekiben_last_inference_timestamp_seconds`` | model, version | when the last batch ended, seconds since the epoch |
| ``ekiben_model_load_seconds`` | model, version | time to load, check and warm a version |
| ``ekiben_prediction_distribution`` | model, version, arm, class | rows by predicted class |
| ``ekiben_prediction_errors_total`` | model, version, arm, error | requests without a prediction, by error |
| ``ekiben_fallbacks_total`` | model, version, arm | requests that failed on an arm and that the champion answered instead |
| ``ekiben_shadow_rows_total`` | model, version, result | rows of a shadow: agreed, differed, dropped |
| ``ekiben_route_weight`` | model, version, arm | percent of the traffic that an arm has |
| ``ekiben_log_rows_total`` | model, version, result | answered rows by what the inference log did: kept, sampled_out, dropped |
| ``ekiben_log_bytes_total`` | model | bytes that were written for them |
| ``ekiben_log_up`` | | whether the inference log takes rows; not there where it is off |
| ``ekiben_drift_psi`` | model, version, column | population stability index of a column in the last drift check |
| ``ekiben_drift_detected`` | model, version | 1 where that check found drift, else 0 |
| ``ekiben_quality`` | model, version, arm, metric | a metric in the last quality check; the arm ``all`` is all of them together |
| ``ekiben_quality_coverage`` | model, version | share of that check's rows whose ground truth is known, of those whose should be |
| ``ekiben_check_timestamp_seconds`` | model, version, kind | when the last check was, seconds since the epoch |
| ``ekiben_alerts_firing`` | model, alert | 1 while an alert fires, else 0 |
| ``ekiben_breaker_state`` | model, version | 0 closed, 1 half-open, 2 open; of the worker where it is worst |
| ``ekiben_breaker_transitions_total`` | model, version, state | changes of a worker's breaker to closed, half-open, open |
| ``ekiben_cancelled_total`` | model, version, arm | requests whose client hung up while they were queued; they were not computed |
| ``ekiben_latency_budget_burn`` | model, version | share of answers over the latency budget in 5 minutes, by the 1 % that p99 allows; of
  the worker where it is worst |
| ``ekiben_cache_requests_total`` | model, version, result | requests to a model with a cache: hit, miss, joined (waited for the same row) |
| ``ekiben_cache_entries`` | model, version | rows that are remembered in the workers |
| ``ekiben_cache_bytes`` | model, version | bytes that they take |
| ``ekiben_cache_redis_failures_total`` | model, version | times that Redis could not be asked for remembered answers |
| ``ekiben_limited_total`` | model, rule | requests that a limit refused; the rule is per what, of what, in which time: ``key:rows:1s`` |
| ``ekiben_limit_backend_up`` | | 0 where limits cannot be counted as they should: Redis is away, or files cannot be shared |
| ``ekiben_control_database_up`` | | whether the control database could be reached last time |

The arm is ``champion``, ``challenger``, an experiment's arm, ``pinned`` (the version stands in the path), ``fallback`` (the
champion, where another arm failed) or ``shadow``.

Each worker writes its own values; BentoML's ``/metrics`` adds them up. What every batch changes is gathered and written twice a
second: a write costs a few microseconds, and a batch would need a dozen. Errors are written at once.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from ekiben.model.rollout_spec import QualitySpec
from ekiben.monitoring.arm_metrics import ArmMetrics
from ekiben.monitoring.cache_metrics import CacheMetrics
from ekiben.monitoring.guard_metrics import GuardMetrics
from ekiben.monitoring.limit_metrics import LimitMetrics

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LABELS = ("model", "version")
_ARM_LABELS = (*_LABELS, "arm")
PHASES = ("input", "infer")
"""Of a batch: its rows are gathered and checked, then predicted."""


class BatchedHistogram(Histogram):
    """A histogram that takes the observations of a whole batch at once."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observes each amount, touching each bucket that gains anything once."""
        counts = np.bincount(np.searchsorted(self._upper_bounds, amounts, side="left"), minlength=len(self._upper_bounds))
        self._sum.inc(float(np.sum(amounts)))
        for bucket in np.flatnonzero(counts).tolist():
            self._buckets[bucket].inc(int(counts[bucket]))


class Metrics:
    """All collectors of one process.

    NOTE: make it in the worker, after BentoML has set ``PROMETHEUS_MULTIPROC_DIR``, or other workers' values go missing.

    Args:
        registry: Where the collectors belong.
        wall: Seconds since the epoch.

    Attributes:
        registry, wall: As given.
        guards: The collectors of guards.
        cache: Those of remembered answers.
    """

    def __init__(self, registry: CollectorRegistry, *, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self.registry = registry
        self.guards = GuardMetrics(registry)
        self.cache = CacheMetrics(registry)
        self.limits = LimitMetrics(registry)
        self.predictions = Counter("ekiben_predictions", "Requests by how they ended", [*_ARM_LABELS, "status"], registry=registry)
        self.rows = Counter("ekiben_predicted_rows", "Rows computed", _LABELS, registry=registry)
        self.latency = BatchedHistogram(
            "ekiben_prediction_latency_seconds", "From a request's arrival to its answer", _ARM_LABELS, buckets=_SECONDS, registry=registry
        )
        self.queue = BatchedHistogram("ekiben_queue_seconds", "Time in the queue", _LABELS, buckets=_SECONDS, registry=registry)
        self.queue_rows = Gauge("ekiben_queue_rows", "Rows that wait now", _LABELS, multiprocess_mode="livesum", registry=registry)
        self.batch_size = BatchedHistogram("ekiben_batch_size", "Rows in a batch", _LABELS, buckets=_ROWS, registry=registry)
        self.load_seconds = Gauge(
            "ekiben_model_load_seconds", "Time to load, check and warm a version", _LABELS, multiprocess_mode="max", registry=registry
        )
        self.distribution = Gauge(
            "ekiben_prediction_distribution", "Rows by predicted class", [*_ARM_LABELS, "class"], multiprocess_mode="sum", registry=registry
        )
        self.errors = Counter("ekiben_prediction_errors", "Requests without a prediction", [*_ARM_LABELS, "error"], registry=registry)
        self.compute = Counter(
            "ekiben_compute_seconds", "Time the model was busy, by batch size", [*_LABELS, "batch_size", "phase"], registry=registry
        )
        self.request_compute = Counter(
            "ekiben_request_compute_seconds", "Time of its batch, for each answered request", [*_LABELS, "phase"], registry=registry
        )
        self.failed_seconds = Counter("ekiben_failed_seconds", "Time of requests without a prediction", _ARM_LABELS, registry=registry)
        self.fallbacks = Counter("ekiben_fallbacks", "Requests of an arm that the champion answered", _ARM_LABELS, registry=registry)
        self.shadow_rows = Counter("ekiben_shadow_rows", "Rows of a shadow", [*_LABELS, "result"], registry=registry)
        self.weight = Gauge(
            "ekiben_route_weight", "Percent of the traffic of an arm", _ARM_LABELS, multiprocess_mode="livemostrecent", registry=registry
        )
        self.control_up = Gauge(
            "ekiben_control_database_up", "Whether the control database can be reached", multiprocess_mode="livemin", registry=registry
        )
        self.latency_budget = Gauge(
            "ekiben_latency_budget_seconds", "What a request may take", _LABELS, multiprocess_mode="mostrecent", registry=registry
        )
        self.over_budget = Counter(
            "ekiben_over_latency_budget", "Answered requests that took longer than the budget", _ARM_LABELS, registry=registry
        )
        self.quality_threshold = Gauge(
            "ekiben_quality_threshold", "The quality that will do", [*_LABELS, "metric"], multiprocess_mode="mostrecent", registry=registry
        )
        self.ground_truth = Counter("ekiben_ground_truth", "Reports of ground truth that were kept", ["model"], registry=registry)
        self.ground_truth_time = Gauge(
            "ekiben_ground_truth_timestamp_seconds", "When the last was kept", ["model"], multiprocess_mode="max", registry=registry
        )
        self.log_rows = Counter("ekiben_log_rows", "Answered rows by what the log did", [*_LABELS, "result"], registry=registry)
        self.log_bytes = Counter("ekiben_log_bytes", "Bytes written for them", ["model"], registry=registry)
        self._log_up = Gauge("ekiben_log_up", "Whether the inference log takes rows", multiprocess_mode="livemin", registry=registry)
        self.last_inference = Gauge(
            "ekiben_last_inference_timestamp_seconds", "End of the last batch", _LABELS, multiprocess_mode="max", registry=registry
        )

    def of(self, model: str, version: str) -> VersionMetrics:
        """The children for one version, looked up once."""
        return VersionMetrics(self, model, version)

    def arm(self, model: str, version: str, arm: str, labels: Sequence[str], *, budget_s: float = math.inf) -> ArmMetrics:
        """The children for one arm of a version, looked up once; ``budget_s`` is what a request may take, seconds."""
        return ArmMetrics(self, model, version, arm, labels, budget_s=budget_s)

    def kept_ground_truth(self, model: str, reports: int) -> None:
        """So many reports of what really happened were kept."""
        if reports:
            self.ground_truth.labels(model).inc(reports)
            self.ground_truth_time.labels(model).set(self.wall())

    def log_up(self, up: bool) -> None:  # noqa: FBT001  a gauge of 0 and 1
        """Whether the inference log takes rows."""
        self._log_up.set(up)

    def collect(self) -> Iterable[Metric]:
        """The values of all workers of this server; reads their files, so call it in a thread."""
        if values.ValueClass is values.MutexValue:  # this process keeps its values in memory and is the only one
            return self.registry.collect()
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]  # prometheus_client is typed in parts
        return everyone.collect()


class VersionMetrics:
    """The collectors of one version."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics = metrics
        self._names = (model, version)
        self._rows = metrics.rows.labels(model, version)
        self._queue = metrics.queue.labels(model, version)
        self._batch_size = metrics.batch_size.labels(model, version)
        self._queue_rows = metrics.queue_rows.labels(model, version)
        self._queue_times: list[float] = []
        self._sizes: list[int] = []
        self._spent = [[0.0, 0.0] for _ in (*_ROWS, None)]
        self._spent_on_requests = [0.0, 0.0]
        self._last_batch = 0.0
        self._wall = metrics.wall

    def loaded(self, seconds: float) -> None:
        """The version was loaded in so many seconds."""
        self._metrics.load_seconds.labels(*self._names).set(seconds)

    def limits(self, budget_s: float, quality: QualitySpec | None) -> None:
        """What a request may take, seconds, and the quality that will do; both are shown beside what is measured."""
        self._metrics.latency_budget.labels(*self._names).set(budget_s)
        if quality is not None and quality.threshold is not None:
            self._metrics.quality_threshold.labels(*self._names, quality.metric).set(quality.threshold)

    def batch(self, rows: int, queue_times: Sequence[float], compute: tuple[float, float]) -> None:
        """A batch of so many rows answered one request for each queue time.

        Args:
            rows: Rows computed.
            queue_times: In the queue, seconds, an answered request each.
            compute: What the batch took, a phase each, seconds.
        """
        self._queue_times += queue_times
        self._sizes.append(rows)
        spent = self._spent[bisect_left(_ROWS, rows)]
        for phase, seconds in enumerate(compute):
            spent[phase] += seconds
            self._spent_on_requests[phase] += seconds * len(queue_times)
        self._last_batch = self._wall()

    def logged(self, kept: int, sampled_out: int, dropped: int, size_bytes: int) -> None:
        """What the inference log did with answered rows, and the bytes that it wrote."""
        for result, rows in (("kept", kept), ("sampled_out", sampled_out), ("dropped", dropped)):
            if rows:
                self._metrics.log_rows.labels(*self._names, result).inc(rows)
        if size_bytes:
            self._metrics.log_bytes.labels(self._names[0]).inc(size_bytes)

    def write(self, queued_rows: int) -> None:
        """Writes what was gathered since the last time, and how many rows wait now."""
        metrics, names = self._metrics, self._names
        self._queue_rows.set(queued_rows)
        if not self._last_batch:
            return
        if self._queue_times:
            self._queue.observe_many(self._queue_times)
        self._rows.inc(sum(self._sizes))
        self._batch_size.observe_many(self._sizes)
        self._queue_times, self._sizes = [], []
        metrics.last_inference.labels(*names).set(self._last_batch)
        for size, spent in zip((*map(str, _ROWS), "+Inf"), self._spent, strict=True):
            for phase, seconds in zip(PHASES, spent, strict=True):
                if seconds:
                    metrics.compute.labels(*names, size, phase).inc(seconds)
            spent[:] = 0.0, 0.0
        for phase, seconds in zip(PHASES, self._spent_on_requests, strict=True):
            metrics.request_compute.labels(*names, phase).inc(seconds)
        self._spent_on_requests[:] = 0.0, 0.0
        self._last_batch = 0.0
