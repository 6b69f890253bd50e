"""One version in memory, and what is recorded of its batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ekiben.errors import RequestError
from ekiben.model.artifact import Manifest
from ekiben.model.predictor import Predictor
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Version
from ekiben.rollout.router import CHAMPION_ARM
from ekiben.serving.arm_record import ArmRecord, Rows
from ekiben.serving.batch_run import Answer, BatchReport
from ekiben.serving.batcher import Batcher
from ekiben.serving.cost_model import CostModel
from ekiben.serving.shadow import ShadowRunner

_SCORED = ("binary_classification", "multiclass_classification", "regression")


class VersionRecord:
    """What is recorded of one version: its batches, and the requests of each arm that it answers for.

    Attributes:
        metrics: The version's collectors.
        arms: Arm → what happened to its requests.
        shadows: Whom the champion's batches are handed to.
    """

    def __init__(self, metrics: Metrics, spec: ModelSpec, version: str) -> None:
        self.metrics = metrics.of(spec.name, version)
        self.arms: dict[str, ArmRecord] = {}
        self.shadows: tuple[ShadowRunner, ...] = ()
        self._all_metrics = metrics
        self._spec = spec
        self._version = version
        self._champion = self.arm(CHAMPION_ARM)

    def arm(self, name: str) -> ArmRecord:
        """What happened to an arm's requests."""
        record = self.arms.get(name)
        if record is None:
            metrics = self._all_metrics.arm(self._spec.name, self._version, name, self._spec.labels)
            headers = [(b"x-model-version", self._version.encode()), (b"x-model-arm", name.encode())]
            record = self.arms[name] = ArmRecord(metrics, self._all_metrics.wall, headers=headers, has_scores=self._spec.task in _SCORED)
        return record

    def batch(self, report: BatchReport) -> None:
        """Records a batch, in the event loop, before its answers leave."""
        record = self._only_record(report)
        if record is not None:
            queue_times = self._whole(report, record)
        else:
            self._apart(report)
            queue_times = [report.started - p.queued for p, r in zip(report.members, report.results, strict=True) if isinstance(r, Answer)]
        if report.outputs is not None:
            self.metrics.batch(report.rows, queue_times, (report.prepared - report.started, report.ended - report.prepared))
        for shadow in self.shadows:
            shadow.offer(report, self._champion)

    def _only_record(self, report: BatchReport) -> ArmRecord | None:
        """The record of a batch's requests, where all were answered and are of one arm."""
        if not report.is_whole:
            return None
        first = report.members[0].call
        record = self._champion if first is None else first.record
        for pending in report.members:
            call = pending.call
            if (self._champion if call is None else call.record) is not record:
                return None
        return record

    def _whole(self, report: BatchReport, record: ArmRecord) -> list[float]:
        """Records a batch that was answered whole, for one arm; returns the seconds that each request was queued."""
        members, started, ended, outputs = report.members, report.started, report.ended, report.outputs
        rows = ((outputs, 0, outputs.n),) if outputs is not None and record.has_scores else ()
        record.answered([ended - pending.received for pending in members], ended - started, rows)
        if record.exposes:
            results = zip(members, report.results, strict=True)
            record.expose([(pending.call, answer) for pending, answer in results if isinstance(answer, Answer)])
        return [started - pending.queued for pending in members]

    def _apart(self, report: BatchReport) -> None:
        """Records each arm's requests, answered or not."""
        answered: dict[ArmRecord, list[int]] = {}
        failed: dict[ArmRecord, list[tuple[RequestError, float]]] = {}
        for n, (pending, result) in enumerate(zip(report.members, report.results, strict=True)):
            record = self._champion if pending.call is None else pending.call.record
            if isinstance(result, Answer):
                answered.setdefault(record, []).append(n)
            else:
                failed.setdefault(record, []).append((result, report.ended - pending.received))
        for record, indices in answered.items():
            self._answered(report, record, indices)
        for record, errors in failed.items():
            record.failed([error for error, _ in errors], sum(seconds for _, seconds in errors))

    def _answered(self, report: BatchReport, record: ArmRecord, indices: Sequence[int]) -> None:
        """Records requests of one arm, by their places in the batch."""
        members, ended = report.members, report.ended
        latencies = [ended - members[n].received for n in indices]
        record.answered(latencies, ended - report.started, _rows(report, indices) if record.has_scores else ())
        if record.exposes:
            results = report.results
            record.expose([(members[n].call, answer) for n in indices if isinstance(answer := results[n], Answer)])


def _rows(report: BatchReport, indices: Sequence[int]) -> list[Rows]:
    """The rows that some requests of a batch were answered with; all at once, where it was computed together."""
    outputs = report.outputs
    answers = [answer for n in indices if isinstance(answer := report.results[n], Answer)]
    if outputs is None or not report.is_whole:
        return [(a.outputs, a.start, a.stop) for a in answers]
    rows = np.array([row for a in answers for row in range(a.start, a.stop)])
    return [(outputs.pick(rows), 0, len(rows))]


class LoadedVersion:
    """A version in memory, ready to answer.

    Attributes:
        model, version: Its names.
        spec: The spec it was made with.
        manifest: All that is known of it.
        predictor: What computes.
        batcher: What gathers; requests go here.
        record: What happened.
        load_s: Seconds it took to load, check and warm.
        timeout_s: Deadline of a request that brings none of its own, seconds.
    """

    def __init__(
        self, stored: Version, predictor: Predictor, *, manifest: Manifest, metrics: Metrics, cost: CostModel, load_s: float
    ) -> None:
        self.model = stored.model
        self.version = stored.version
        self.spec: ModelSpec = predictor.spec
        self.manifest = manifest
        self.predictor = predictor
        self.record = VersionRecord(metrics, self.spec, self.version)
        self.load_s = load_s
        self.timeout_s = predictor.spec.timeout_ms / 1000
        # NOTE: no method of this object, which would make a cycle: `gc.freeze` keeps those, and with it the model, for ever.
        self.batcher = Batcher(predictor, clock=time.monotonic, report=self.record.batch, cost=cost)
        self.record.metrics.loaded(load_s)

    def write_metrics(self) -> None:
        """Writes what its metrics have gathered, and how many rows wait now."""
        self.record.metrics.write(self.batcher.queued_rows)
        for arm in self.record.arms.values():
            arm.metrics.write()

    async def drain(self) -> None:
        """Answers what is queued and admits no more."""
        await self.batcher.drain()
        self.write_metrics()
