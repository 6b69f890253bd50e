"""One version in memory, and what is recorded of its batches."""

from __future__ import annotations

import time
from functools import partial

from ekiben.model.artifact import Manifest
from ekiben.model.predictor import Predictor
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.metrics import VersionMetrics
from ekiben.registry import Version
from ekiben.serving.batch_run import Answer, BatchReport
from ekiben.serving.batcher import Batcher
from ekiben.serving.cost_model import CostModel


class LoadedVersion:
    """A version in memory, ready to answer.

    Attributes:
        model, version: Its names.
        spec: The spec it was made with.
        manifest: All that is known of it.
        predictor: What computes.
        batcher: What gathers; requests go here.
        metrics: Its collectors.
        load_s: Seconds it took to load, check and warm.
        timeout_s: Deadline of a request that brings none of its own, seconds.
    """

    def __init__(
        self, stored: Version, predictor: Predictor, *, manifest: Manifest, metrics: VersionMetrics, cost: CostModel, load_s: float
    ) -> None:
        self.model = stored.model
        self.version = stored.version
        self.spec: ModelSpec = predictor.spec
        self.manifest = manifest
        self.predictor = predictor
        self.metrics = metrics
        self.load_s = load_s
        self.timeout_s = predictor.spec.timeout_ms / 1000
        # NOTE: no method of this object, which would make a cycle: `gc.freeze` keeps those, and with it the model, for ever.
        self.batcher = Batcher(predictor, clock=time.monotonic, report=partial(_record, metrics), cost=cost)
        metrics.loaded(load_s)

    def write_metrics(self) -> None:
        """Writes what its metrics have gathered, and how many rows wait now."""
        self.metrics.write(self.batcher.queued_rows)

    async def drain(self) -> None:
        """Answers what is queued and admits no more."""
        await self.batcher.drain()
        self.write_metrics()


def _record(metrics: VersionMetrics, report: BatchReport) -> None:
    latencies, queue_times, errors = [], [], []
    failed_s = 0.0
    for pending, result in zip(report.members, report.results, strict=True):
        if isinstance(result, Answer):
            latencies.append(report.ended - pending.received)
            queue_times.append(report.started - pending.queued)
        else:
            errors.append(result)
            failed_s += report.ended - pending.received
    if report.outputs is not None:
        compute = (report.prepared - report.started, report.ended - report.prepared)
        metrics.batch(report.rows, latencies, queue_times, report.outputs.class_index, compute)
    if errors:
        metrics.failed(errors, failed_s)
