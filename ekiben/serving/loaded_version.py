"""One version in memory, and what is recorded of its batches."""

from __future__ import annotations

import math
import time
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ekiben.errors import DeadlineExceeded, PredictionFailed, RequestError
from ekiben.guards.breaker import Breaker, Outcome
from ekiben.model.artifact import Manifest
from ekiben.model.default_outputs import DefaultOutputs
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.inference_log import InferenceLog, VersionLog
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Version
from ekiben.rollout.router import CHAMPION_ARM
from ekiben.serving.arm_record import ArmRecord, Taken
from ekiben.serving.batch_log import logged_rows, reused_rows
from ekiben.serving.batch_run import Answer, BatchReport, Pending
from ekiben.serving.batcher import Batcher
from ekiben.serving.breaker_news import BreakerNews
from ekiben.serving.cache_opening import keys_of, open_store
from ekiben.serving.cached_answers import CachedAnswers
from ekiben.serving.cost_model import CostModel
from ekiben.serving.shadow import ShadowRunner
from ekiben.serving.slow_answers import SlowAnswers

_SCORED = ("binary_classification", "multiclass_classification", "regression")


class _Mixed(NamedTuple):
    """A batch that was answered whole, for requests of several arms.

    Attributes:
        records: Whose, a request each.
        latencies: From arrival to answer, seconds, a request each.
        rows: How many, a request each; None for one each.
        compute_s: What the run took, seconds.
        outputs: What was answered; None where it is no class and no number.
    """

    records: list[ArmRecord]
    latencies: list[float]
    rows: list[int] | None
    compute_s: float
    outputs: Outputs | None


class VersionRecord:
    """What is recorded of one version: its batches, and the requests of each arm that it answers for.

    Attributes:
        metrics: The version's collectors.
        log: Where its rows are logged; None for nowhere.
        arms: Arm → what happened to its requests.
        shadows: Whom the champion's batches are handed to.
        breaker: Whether it is broken.
        news: What the breaker did.
    """

    def __init__(self, metrics: Metrics, spec: ModelSpec, version: str, log: VersionLog | None = None) -> None:
        self.metrics = metrics.of(spec.name, version)
        self.log = log
        self.arms: dict[str, ArmRecord] = {}
        self.shadows: tuple[ShadowRunner, ...] = ()
        self._guards = metrics.guards.of(spec.name, version, time.monotonic)
        self.news = BreakerNews(spec.name, version, self._guards, metrics.wall)
        self.breaker = Breaker(spec.breaker, time.monotonic, self.news)
        self._slow = SlowAnswers(spec.name, version, spec.latency_budget_ms / 1000)
        self._all_metrics = metrics
        self._spec = spec
        self._version = version
        self._champion = self.arm(CHAMPION_ARM)
        self._mixed: list[_Mixed] = []

    def arm(self, name: str) -> ArmRecord:
        """What happened to an arm's requests."""
        record = self.arms.get(name)
        if record is None:
            budget_s = self._spec.latency_budget_ms / 1000
            metrics = self._all_metrics.arm(self._spec.name, self._version, name, self._spec.labels, budget_s=budget_s)
            headers = [(b"x-model-version", self._version.encode()), (b"x-model-arm", name.encode())]
            record = self.arms[name] = ArmRecord(
                metrics, self._all_metrics.wall, headers=headers, has_scores=self._spec.task in _SCORED, name=name
            )
        return record

    def batch(self, report: BatchReport) -> None:
        """Records a batch, in the event loop, before its answers leave."""
        champion = self._champion
        records = [champion if (call := pending.call) is None else call.record for pending in report.members]
        if not report.is_whole:
            self._apart(report, records)
        elif records.count(records[0]) == len(records):
            self._of_one_arm(report, records[0])
        else:
            self._of_several_arms(report, records)
        if report.is_whole and self.breaker.is_closed:
            self.breaker.answered(len(records), report.ended)
        else:
            self.breaker.ended(map(_outcome, report.members, report.results), report.ended)
        self._slow.look(report)
        if (outputs := report.outputs) is not None:
            started, ended = report.started, report.ended
            if report.is_whole:
                queue_times = [started - pending.queued for pending in report.members]
            else:
                queue_times = [started - p.queued for p, r in zip(report.members, report.results, strict=True) if isinstance(r, Answer)]
            self.metrics.batch(outputs.n, queue_times, (report.prepared - started, ended - report.prepared))
        if self.log is not None:
            for rows in logged_rows(report, [record.name for record in records], self._all_metrics.wall()):
                self.log.append(rows)
        for shadow in self.shadows:
            shadow.offer(report, champion)

    def defaulted(self, call: Any, answer: Answer, latency_s: float) -> None:
        """Records a request that was answered with the spec's default; as `reused`, and the breaker hears nothing of it."""
        call.record.answered([latency_s], ((math.nan, 1),), ((answer.outputs, 0, answer.outputs.n),))
        if self.log is not None and (rows := reused_rows(call, answer, latency_s, self._all_metrics.wall())) is not None:
            rows.is_cached = False
            self.log.append(rows)

    def reused(self, call: Any, answer: Answer, latency_s: float) -> None:
        """Records a request that was answered without being computed, before its answer leaves; shadows are not asked.

        Args:
            call: The request.
            answer: All rows of its outputs.
            latency_s: From its arrival to its answer, seconds.
        """
        record = call.record
        outputs = answer.outputs
        record.answered([latency_s], ((math.nan, 1),), ((outputs, 0, outputs.n),) if record.has_scores else ())
        if not self.breaker.is_closed:
            self.breaker.returned()
        if self.log is not None:
            self.log.append(reused_rows(call, answer, latency_s, self._all_metrics.wall()))

    def _of_one_arm(self, report: BatchReport, record: ArmRecord) -> None:
        """Records a batch that was answered whole, for one arm."""
        members, ended, outputs = report.members, report.ended, report.outputs
        rows = ((outputs, 0, outputs.n),) if outputs is not None and record.has_scores else ()
        record.answered([ended - pending.received for pending in members], ((ended - report.started, len(members)),), rows)

    def _of_several_arms(self, report: BatchReport, records: list[ArmRecord]) -> None:
        """Keeps a batch that was answered whole, for several arms, to be split with others like it."""
        members, ended = report.members, report.ended
        outputs = report.outputs.bare() if report.outputs is not None and self._champion.has_scores else None
        rows = [pending.n for pending in members] if outputs is not None and outputs.n > len(members) else None
        self._mixed.append(_Mixed(records, [ended - pending.received for pending in members], rows, ended - report.started, outputs))

    def split(self) -> None:
        """Gives each arm what batches of several arms have answered for it: many batches at once, since each costs about as much as all."""
        mixed, self._mixed = self._mixed, []
        if not mixed:
            return
        records = list(chain.from_iterable([batch.records for batch in mixed]))
        numbers = {record: n for n, record in enumerate(dict.fromkeys(records))}
        arms = np.fromiter(map(numbers.__getitem__, records), np.intp, len(records))
        latencies = np.array(list(chain.from_iterable([batch.latencies for batch in mixed])))
        batches = np.repeat(np.arange(len(mixed)), [len(batch.records) for batch in mixed])
        outputs = Outputs.join(parts) if (parts := [batch.outputs for batch in mixed if batch.outputs is not None]) else None
        arms_of_rows = arms
        if any(batch.rows for batch in mixed):
            arms_of_rows = np.repeat(arms, list(chain.from_iterable([batch.rows or [1] * len(batch.records) for batch in mixed])))
        for record, number in numbers.items():
            of_arm = arms == number
            counts = np.bincount(batches[of_arm], minlength=len(mixed)).tolist()
            computes = [(batch.compute_s, n) for batch, n in zip(mixed, counts, strict=True) if n]
            picked = outputs.pick(np.flatnonzero(arms_of_rows == number)) if outputs is not None else None
            record.answered(latencies[of_arm].tolist(), computes, ((picked, 0, picked.n),) if picked is not None else ())

    def _apart(self, report: BatchReport, records: list[ArmRecord]) -> None:
        """Records the requests of a batch that was not answered whole."""
        started, ended = report.started, report.ended
        answered: dict[ArmRecord, list[int]] = {}
        failed: dict[ArmRecord, list[tuple[RequestError, float]]] = {}
        for n, (pending, result, record) in enumerate(zip(report.members, report.results, records, strict=True)):
            if isinstance(result, Answer):
                answered.setdefault(record, []).append(n)
            else:
                failed.setdefault(record, []).append((result, ended - pending.received))
        for record, places in answered.items():
            answers = [answer for n in places if isinstance(answer := report.results[n], Answer)] if record.has_scores else ()
            latencies = [ended - report.members[n].received for n in places]
            record.answered(latencies, ((ended - started, len(places)),), [(a.outputs, a.start, a.stop) for a in answers])
        for record, errors in failed.items():
            record.failed([error for error, _ in errors], sum(seconds for _, seconds in errors))

    def take(self) -> list[tuple[str, Taken]]:
        """What each arm has gathered since this was asked last."""
        self.split()
        return [(arm, record.take()) for arm, record in self.arms.items()]

    def write_metrics(self, queued_rows: int) -> None:
        """Writes what the metrics have gathered, and how many rows wait now."""
        self.split()
        if self.log is not None:
            self.log.tick()
            tally = self.log.take()
            self.metrics.logged(tally.kept, tally.sampled_out, tally.dropped, tally.size_bytes)
            self._champion.unlogged(tally.dropped)
        self.metrics.write(queued_rows)
        written = [record.metrics.write() for record in self.arms.values()]
        self._guards.latency(sum(answered for answered, _ in written), sum(over for _, over in written))

    def unloaded(self) -> None:
        """The version goes, and what is shown of its breaker is over."""
        self._guards.unloaded()


def _outcome(pending: Pending, result: Answer | RequestError) -> Outcome:
    """How a request ended, as the breaker counts it."""
    if isinstance(result, Answer):
        return pending.queued, True
    is_failure = isinstance(result, PredictionFailed) or (isinstance(result, DeadlineExceeded) and result.by_model)
    return pending.queued, False if is_failure else None


class LoadedVersion:
    """A version in memory, ready to answer.

    Attributes:
        model, version: Its names.
        spec: The spec it was made with.
        manifest: All that is known of it.
        predictor: What computes.
        batcher: What gathers; requests go here.
        record: What happened.
        breaker: Whether it is broken.
        default: What is answered while it is; None where that is not wanted.
        cache: What answers instead where answers are remembered; None where none are.
        load_s: Seconds it took to load, check and warm.
        timeout_s: Deadline of a request that brings none of its own, seconds.
    """

    def __init__(
        self,
        stored: Version,
        predictor: Predictor,
        *,
        manifest: Manifest,
        metrics: Metrics,
        cost: CostModel,
        load_s: float,
        log: InferenceLog | None = None,
        redis_url: str = "",
    ) -> None:
        self.model = stored.model
        self.version = stored.version
        self.spec: ModelSpec = predictor.spec
        self.manifest = manifest
        self.predictor = predictor
        self.record = VersionRecord(metrics, self.spec, self.version, log.of(self.spec, self.version) if log is not None else None)
        self.breaker = self.record.breaker
        self.default = DefaultOutputs(self.spec) if self.spec.breaker.default is not None else None
        self.load_s = load_s
        self.timeout_s = predictor.spec.timeout_ms / 1000
        # NOTE: no method of this object, which would make a cycle: `gc.freeze` keeps those, and with it the model, for ever.
        self.batcher = Batcher(predictor, clock=time.monotonic, report=self.record.batch, cost=cost)
        self.cache: CachedAnswers | None = None
        if self.spec.cache.enabled:
            counts = metrics.cache.of(self.model, self.version)
            self.cache = CachedAnswers(
                open_store(self.spec, counts, redis_url),
                keys_of(stored, manifest),
                self.batcher,
                signature=predictor.signature,
                reused=self.record.reused,
                metrics=counts,
                clock=time.monotonic,
            )
        self.record.metrics.loaded(load_s)
        self.record.metrics.limits(self.spec.latency_budget_ms / 1000, self.spec.quality)

    def write_metrics(self) -> None:
        """Writes what its metrics have gathered, and how many rows wait now."""
        self.record.write_metrics(self.batcher.queued_rows)
        if self.cache is not None:
            self.cache.write_metrics()

    async def drain(self) -> None:
        """Answers what is queued and admits no more."""
        await self.batcher.drain()
        if self.cache is not None:
            await self.cache.close()
        if self.record.log is not None:
            self.record.log.close()
        self.write_metrics()
        self.record.unloaded()
