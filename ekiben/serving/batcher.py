"""The adaptive batcher: one per loaded version per worker.

Work-conserving: when the model is idle, a request that comes alone goes at the end of this turn of the event loop. Several wait
for one more turn, in which those are decoded that were received in this one: under load that makes batches half as large again.
While the model runs, requests gather; when it ends, the next batch goes. No timer is needed for that. A learned cost model
(see `cost_model`) decides the rest:

* a run predicted to be short happens in the event loop, a longer one in the version's own thread, which goes on with the
  next batch by itself: the model does not wait for the event loop to have sent the last answers;
* a batch grows only as far as it saves time: rows of a model that gains nothing from batches are run one by one;
* a request whose answer would come after its deadline is refused when it comes, not after it has waited;
* where the spec allows a delay, an idle model waits for more rows only as long as a run's fixed cost is worth it.

Requests past their deadline are dropped before compute, and answered at it even when the model hangs. So are those whose client
hung up.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ekiben.errors import DeadlineExceeded, NotReady, QueueFull
from ekiben.guards.deadline import Listening
from ekiben.model.predictor import Predictor
from ekiben.model.signature import Payload
from ekiben.serving.batch_queue import BatchQueue
from ekiben.serving.batch_run import Answer, BatchReport, BatchRun, Clock, Pending
from ekiben.serving.cost_model import CostModel

INLINE_S = 0.0005
"""A run predicted to take no longer happens in the event loop: a thread's hand-over costs about a fifth of that."""

_SWEEP_S = 0.025
_LONGEST_GAP_S = 1.0
_FAIR_SHARE = 0.5
"""Share of the model's own timeout that must have passed before a deadline that is missed counts as the model's fault: with less,
whoever gives no time at all could have it taken for broken."""
_SAFETY = 0.8
"""Share of a request's remaining time that its predicted wait may take: predictions err."""


class Batcher:
    """Gathers requests for one predictor.

    Args:
        predictor: What computes.
        clock: Monotonic seconds.
        report: Called in the event loop after each batch, before the answers leave.
        cost: The cost model, perhaps taught by warm-up runs.
        inline_s: Longest predicted run that may happen in the event loop.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        clock: Clock,
        report: Callable[[BatchReport], None],
        cost: CostModel | None = None,
        inline_s: float = INLINE_S,
    ) -> None:
        batching = predictor.spec.batching
        self.cost = cost or CostModel()
        self._signature = predictor.signature
        self._clock = clock
        self._report = report
        self._inline_s = inline_s
        self._max_rows = batching.max_batch_size
        self._max_queue_rows = batching.max_queue_rows
        self._max_delay_s = batching.max_queue_delay_ms / 1000
        self._fair_s = _FAIR_SHARE * predictor.spec.timeout_ms / 1000
        self._run = BatchRun(predictor, clock)
        # The lock guards the queue and what runs: the event loop puts, the thread takes.
        self._lock = threading.Lock()
        self._queue = BatchQueue(clock)
        self._running: list[Pending] | None = None
        self._running_since = 0.0
        self._running_until = 0.0
        self._listening = Listening()
        self._scheduled = False
        self._has_waited = False
        self._sweeping = False
        self._closed = False
        self._arrival_gap_s = _LONGEST_GAP_S
        self._last_arrival = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix=f"ekiben-{predictor.spec.name}")
        self._loop = asyncio.get_running_loop()

    # ── what the data plane calls ────────────────────────────────────────────────────────────────────────────────────

    def admit(self, deadline: float) -> None:
        """Refuses a request that would be answered too late, before anything of it is decoded.

        Raises:
            QueueFull: Its predicted wait does not fit its deadline, or the queue is full.
            NotReady: The version is being unloaded.
        """
        if self._closed:
            raise NotReady("this version is being unloaded; ask again", retry_after_s=1.0)
        if self._running is None and not self._queue:
            return
        wait = self._predicted_wait()
        if wait > _SAFETY * (deadline - self._clock()) or self._queue.rows >= self._max_queue_rows:
            raise QueueFull(
                f"{self._queue.rows} rows are queued, about {wait * 1000:.0f} ms of work; the answer would miss the request's deadline",
                retry_after_s=max(wait, 0.1),
            )

    def submit(self, payload: Payload, n: int, *, received: float, deadline: float, call: Any = None) -> asyncio.Future[Answer]:
        """Queues a request of n rows.

        Args:
            payload: Parsed rows, or a batch.
            n: Its rows.
            received: Clock at which the request came.
            deadline: Clock by which it must be answered.
            call: What else is known of it, for whoever is told of the batch.

        Returns:
            A future with the answer, or with the `RequestError` that says why there is none.
        """
        now = self._clock()
        future: asyncio.Future[Answer] = self._loop.create_future()
        pending = Pending(payload, n, received, deadline, now, self._signature.shapes(payload), future, call)
        with self._lock:
            self._queue.put(pending)
            is_idle = self._running is None
        if self._max_delay_s:
            self._note_arrival(now)
        if is_idle and not self._scheduled:
            self._schedule()
        return future

    @property
    def queued_rows(self) -> int:
        """Rows that wait, without those in the running batch."""
        return self._queue.rows

    async def drain(self) -> None:
        """Answers what is queued, admits no more, and ends the thread.

        A request that was admitted before, and whose body comes only now, is still answered; in another thread.
        """
        self._closed = True
        while waiting := self._unanswered():
            await asyncio.wait(waiting)
        await asyncio.sleep(0)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _unanswered(self) -> list[asyncio.Future[Answer]]:
        with self._lock:
            return [p.future for p in (*self._queue, *(self._running or ())) if not p.future.done()]

    # ── when a batch goes ────────────────────────────────────────────────────────────────────────────────────────────

    def _schedule(self) -> None:
        self._scheduled = True
        delay = self._worthwhile_delay() if self._max_delay_s else 0.0
        if delay > 0:
            self._timer = self._loop.call_later(delay, self._next)
        else:
            self._timer = None
            self._loop.call_soon(self._next)

    def _note_arrival(self, now: float) -> None:
        # A pause, however long, is forgotten after the same few arrivals.
        self._arrival_gap_s += 0.1 * (min(now - self._last_arrival, _LONGEST_GAP_S) - self._arrival_gap_s)
        self._last_arrival = now
        if self._timer is not None and self._queue.rows >= self._max_rows:
            self._timer.cancel()
            self._schedule()

    def _worthwhile_delay(self) -> float:
        """Waiting pays while the next row comes sooner than a run of its own would cost in fixed time."""
        if self._queue.rows >= self._max_rows or self._arrival_gap_s >= self.cost.fixed_s:
            return 0.0
        missing = (self._max_rows - self._queue.rows) * self._arrival_gap_s
        return min(self._max_delay_s, self.cost.fixed_s, missing)

    def _predicted_wait(self) -> float:
        """Seconds until a row that came now would be answered, with its whole batch.

        Where more than a batch waits already, its own will be full by the time it runs.
        """
        running = max(0.0, self._running_until - self._clock()) if self._running is not None else 0.0
        batch_rows = self.cost.useful_rows(self._max_rows)
        rows = self._queue.rows + 1
        if rows > batch_rows:
            rows = math.ceil(rows / batch_rows) * batch_rows
        return running + self.cost.queue_seconds(rows, batch_rows)

    def _next(self) -> None:
        """Runs the next batch here, or has the thread begin with it."""
        if not self._has_waited and self._timer is None and len(self._queue) > 1 and self._queue.rows < self._max_rows:
            self._has_waited = True
            self._loop.call_soon(self._next)
            return
        self._has_waited = False
        self._scheduled = False
        self._timer = None
        with self._lock:
            members, rows, late = self._queue.take(self.cost.useful_rows(self._max_rows))
            predicted = self.cost.seconds(rows)
            if members and predicted > self._inline_s:
                self._running = members
                self._running_since = self._clock()
                self._running_until = self._running_since + predicted
        self._expire(late)
        if self._running is not None:
            self._loop.run_in_executor(self._thread, self._run_in_thread, members)
            self._sweep_later()
        elif members:
            self._settle(self._run.compute(members))
            if self._queue and not self._scheduled:
                self._schedule()

    def _run_in_thread(self, members: list[Pending]) -> None:
        """Runs batches until nothing is queued."""
        while members:
            report = self._run.compute(members)
            with self._lock:
                members, rows, late = self._queue.take(self.cost.useful_rows(self._max_rows))
                self._running = members or None
                self._running_since = self._clock()
                self._running_until = self._running_since + self.cost.seconds(rows)
                # NOTE: with the lock held, so that `drain` finds each request waiting, running, or about to be answered.
                self._loop.call_soon_threadsafe(self._settle, report)
                if late:
                    self._loop.call_soon_threadsafe(self._expire, late)

    # ── how a request ends ───────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, report: BatchReport) -> None:
        """Answers the requests of a batch."""
        if report.rows:
            self.cost.observe(report.rows, report.ended - report.started)
        # Meanwhile some were answered, at their deadline, or given up: they are no part of what is reported.
        waiting = [n for n, pending in enumerate(report.members) if not pending.future.done()]
        if len(waiting) < len(report.members):
            members, results = [report.members[n] for n in waiting], [report.results[n] for n in waiting]
            report = report._replace(members=members, results=results, is_whole=False)
        self._report(report)
        for pending, result in zip(report.members, report.results, strict=True):
            if isinstance(result, Answer):
                pending.future.set_result(result)
            else:
                pending.future.set_exception(result)

    def _expire(self, late: Iterable[Pending]) -> None:
        """Answers requests whose deadline has passed, and counts those that nobody waits for any more."""
        now = self._clock()
        hangs = self._running is not None and now - self._running_since >= self._fair_s
        for pending in late:
            if pending.future.done():
                if pending.call is not None:
                    pending.call.record.cancelled()
            else:
                passed_ms = (now - pending.deadline) * 1000
                error = DeadlineExceeded(
                    f"the deadline passed {passed_ms:.0f} ms ago, before the request was computed",
                    by_model=hangs or pending.deadline - pending.queued >= self._fair_s,
                )
                self._report(BatchReport(0, now, now, now, [pending], [error], None))
                pending.future.set_exception(error)

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Answers requests whose deadline passes while the model is busy, or hangs, at their deadline."""
        self._sweeping = False
        now = self._clock()
        with self._lock:
            late = self._queue.drop_late()
            late += [p for p in self._running or () if p.deadline <= now and not p.future.done()]
            is_busy = self._running is not None
            self._listening.begin(self._queue, now)
        self._expire(late)
        if is_busy:
            self._sweep_later()
