"""Shadows: a version that gets the champion's rows after they were answered, and whose answers are only compared.

The champion's batches are handed over whole and gathered for a moment, so that many of them cost one run, and that short
enough for a request to wait behind it: who gathers for longer runs for longer, and a thread that runs all the time would take
the interpreter from the event loop. Now and then the last of them is run alone, and timed, since only batches of the same size
take times that compare. A shadow runs in a thread of its own, holds a bounded number of rows, and is left out first when the
worker is busy: rows that find the event loop busy, the champion's queue long or the shadow behind are dropped and counted. Its
errors are counted and go nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ekiben.errors import RequestError
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.signature import Batch
from ekiben.monitoring.inference_log import VersionLog
from ekiben.serving.arm_record import ArmRecord, Compared, has_scores, joined_rows, scores_of
from ekiben.serving.batch_log import logged_rows
from ekiben.serving.batch_run import Answer, BatchReport, BatchRun, Clock, Pending
from ekiben.serving.load_meter import LoadMeter
from ekiben.state.windows import SHADOW

logger = logging.getLogger("ekiben.shadow")

_MAX_ROWS: Final = 4096
_MAX_BYTES: Final = 64 * 2**20
_GATHER_S: Final = 0.025
_PAUSE_S: Final = 0.005
_TIMED_EVERY_S: Final = 0.25
"""A run of its own for a batch costs most of a millisecond, however few its rows: four a second are enough to compare times."""

_SHORT_WAIT_S: Final = 0.005
_ALIKE: Final = 0.01
"""Numbers within one percent of each other count as the same prediction."""

_Pairs = list[tuple[Pending, Answer]]
"""Requests, and what the champion answered."""


class _Run(NamedTuple):
    """What is computed at once.

    Attributes:
        pairs: The requests.
        is_timed: Whether its time compares with the champion's.
    """

    pairs: _Pairs
    is_timed: bool = False


class ShadowRunner:
    """Runs the champion's rows through one shadow.

    Args:
        predictor: The shadow's.
        record: What happens to its rows.
        rate: Share of the requests that it gets, above 0 to 1.
        meter: How busy the event loop is.
        clock: Monotonic seconds.
        log: Where its rows are logged; None for nowhere.
    """

    def __init__(
        self, predictor: Predictor, record: ArmRecord, *, rate: float, meter: LoadMeter, clock: Clock, log: VersionLog | None = None
    ) -> None:
        self.rate = rate
        self.record = record
        self._log = log
        self._run = BatchRun(predictor, clock)
        self._max_rows = predictor.spec.batching.max_batch_size
        self._meter = meter
        self._queue: deque[_Pairs] = deque()
        self._runs: deque[_Run] = deque()
        self._rows = 0
        self._bytes = 0
        self._is_running = False
        self._next_timed = -math.inf
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ekiben-shadow-{predictor.spec.name}")
        self._is_closed = False

    def offer(self, report: BatchReport, champion: ArmRecord) -> None:
        """Takes the requests of a batch that were answered for the champion's arm; in the event loop."""
        pairs: _Pairs = []
        rows = size = 0
        for pending, result in zip(report.members, report.results, strict=True):
            if isinstance(result, Answer) and (pending.call is None or pending.call.record is champion):
                if self.rate < 1 and random.random() >= self.rate:  # noqa: S311  a sample, no secret
                    continue
                pairs.append((pending, result))
                rows += pending.n
                size += _size(pending)
        if not pairs or self._is_closed:
            return
        if self._meter.is_high or _has_queued(report) or self._rows + rows > _MAX_ROWS or self._bytes + size > _MAX_BYTES:
            self.record.dropped(rows)
            return
        self._queue.append(pairs)
        self._rows += rows
        self._bytes += size
        if not self._is_running:
            self._is_running = True
            self._loop.call_later(_GATHER_S, self._next)

    def close(self) -> None:
        """Takes no more; what waits is dropped."""
        self._is_closed = True
        self._drop_waiting()
        self._thread.shutdown(wait=False)

    def _next(self) -> None:
        """Makes runs of what was gathered; what is timed comes last, when the model is warm."""
        batches = list(self._queue)
        self._queue.clear()
        now = self._loop.time()
        timed: list[_Run] = []
        if batches and now >= self._next_timed:
            self._next_timed = now + _TIMED_EVERY_S
            timed = [_Run(batches.pop(), is_timed=True)]
        self._runs.extend([*map(_Run, self._joined(batches)), *timed])
        self._step()

    def _step(self) -> None:
        """Has the thread compute the next run, or gathers anew; what came meanwhile waits as long as anything else."""
        if self._meter.is_high:
            self._drop_waiting()
        if self._runs and not self._is_closed:
            run = self._runs.popleft()
            self._rows -= sum(pending.n for pending, _ in run.pairs)
            self._bytes -= sum(_size(pending) for pending, _ in run.pairs)
            self._loop.run_in_executor(self._thread, self._compute, run)
            return
        self._is_running = bool(self._queue) and not self._is_closed
        if self._is_running:
            self._loop.call_later(_GATHER_S, self._next)

    def _drop_waiting(self) -> None:
        if self._rows:
            self.record.dropped(self._rows)
        self._queue.clear()
        self._runs.clear()
        self._rows = self._bytes = 0

    def _compute(self, run: _Run) -> None:
        """Computes and compares; in the thread."""
        try:
            report = self._run.compute([pending for pending, _ in run.pairs])
            both = zip(run.pairs, report.results, strict=True)
            compared = compare([(theirs, ours) for (_, theirs), ours in both if isinstance(ours, Answer)])
        except Exception:
            logger.exception("a shadow's rows cannot be compared")
            self._loop.call_soon_threadsafe(self._rest)
        else:
            self._loop.call_soon_threadsafe(self._settle, run, report, compared)

    def _joined(self, batches: Sequence[_Pairs]) -> Iterator[_Pairs]:
        """Batches joined to as few as may be run."""
        joined: _Pairs = []
        rows = 0
        for pairs in batches:
            n = sum(pending.n for pending, _ in pairs)
            if joined and (rows + n > self._max_rows or pairs[0][0].shapes != joined[0][0].shapes):
                yield joined
                joined, rows = [], 0
            joined += pairs
            rows += n
        if joined:
            yield joined

    def _settle(self, run: _Run, report: BatchReport, compared: Compared | None) -> None:
        """Records a run."""
        record = self.record
        answers = [(p.call, a) for p, a in zip(report.members, report.results, strict=True) if isinstance(a, Answer)]
        if answers:
            rows = [(a.outputs, a.start, a.stop) for _, a in answers]
            if report.is_whole and report.outputs is not None:
                rows = [(report.outputs, 0, report.outputs.n)]
            record.answered([], [(report.ended - report.started if run.is_timed else math.nan, len(answers))], rows)
        if errors := [e for e in report.results if isinstance(e, RequestError)]:
            record.failed(errors, 0.0)
        for call, answer in answers:
            if call is not None and call.is_kept:
                record.keep(call, answer)
        if self._log is not None:
            for logged in logged_rows(report, [SHADOW] * len(report.members), record.wall(), is_shadow=True):
                self._log.append(logged)
        if compared is not None:
            record.compared(compared)
        self._rest()

    def _rest(self) -> None:
        """Leaves the interpreter to others for a moment before the next run."""
        self._loop.call_later(_PAUSE_S if self._runs else 0, self._step)


def compare(pairs: Sequence[tuple[Answer, Answer]]) -> Compared | None:
    """How the second answers compare with the first, row by row; None of no rows."""
    if not pairs:
        return None
    theirs, ours = (joined_rows([(answer.outputs, answer.start, answer.stop) for answer in side]) for side in zip(*pairs, strict=True))
    if theirs.class_index is not None:
        return Compared(int((theirs.class_index == ours.class_index).sum()), _gaps(theirs, ours))
    if has_scores(theirs) and has_scores(ours):
        is_alike = np.isclose(scores_of(theirs), scores_of(ours), rtol=_ALIKE, atol=1e-9, equal_nan=True)
        return Compared(int(is_alike.sum()), _gaps(theirs, ours))
    differences = np.array(_tensor_differences(theirs, ours))
    return Compared(int((differences <= _ALIKE).sum()), differences)


def _gaps(theirs: Outputs, ours: Outputs) -> npt.NDArray[np.float64]:
    return np.abs(scores_of(theirs).astype(np.float64) - scores_of(ours).astype(np.float64))


def _tensor_differences(theirs: Outputs, ours: Outputs) -> list[float]:
    """Of each row, the largest difference over all outputs, relative to the champion's largest value; 1 where they do not compare."""
    mine, yours = ours.tensors(), theirs.tensors()
    return [max(_difference(array[row], mine[name][row]) for name, array in yours.items()) for row in range(theirs.n)]


def _difference(theirs: Any, ours: Any) -> float:
    first, second = np.asarray(theirs), np.asarray(ours)
    if first.shape != second.shape:
        return 1.0
    if first.dtype.kind not in "fiub" or second.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(first, second) else 1.0
    if not first.size:
        return 0.0
    gap = np.abs(first.astype(np.float64) - second.astype(np.float64))
    return float(np.nan_to_num(gap.max() / max(float(np.abs(first).max()), 1e-9), nan=1.0))


def _has_queued(report: BatchReport) -> bool:
    """Whether the champion is behind: the first request of its batch has waited longer than two runs take."""
    return report.started - report.members[0].queued > max(2 * (report.ended - report.started), _SHORT_WAIT_S)


def _size(pending: Pending) -> int:
    """About how many bytes a request's rows are; those of scalars, which are small, count as none."""
    payload = pending.payload
    if not isinstance(payload, Batch):
        return 0
    return payload.matrix.nbytes if payload.matrix is not None else sum(column.nbytes for column in payload.columns.values())
