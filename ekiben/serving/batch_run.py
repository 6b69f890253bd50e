"""One batch: the rows of its requests together, and each request's answer out of it.

A row that breaks the signature, or that the model fails on, answers its own request alone; the others of its batch are
computed without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ekiben.errors import EkibenError, InvalidRows, PredictionFailed, RequestError, RowError
from ekiben.model.outputs import Outputs, one_tensor
from ekiben.model.predictor import Predictor
from ekiben.model.signature import Batch, Payload

Clock = Callable[[], float]


class Answer:
    """The rows of one request within the outputs of its batch.

    Attributes:
        outputs: The outputs of all rows of the run.
        start, stop: Where the request's begin, and end.
        batch: The inputs of all rows of the run; None where nobody keeps them.
    """

    __slots__ = ("batch", "outputs", "start", "stop")

    def __init__(self, outputs: Outputs, start: int, stop: int, batch: Batch | None = None) -> None:
        self.batch = batch
        self.outputs = outputs
        self.start = start
        self.stop = stop

    def rows(self) -> list[dict[str, Any]]:
        """One element a row; made once for the whole batch."""
        return self.outputs.rows()[self.start : self.stop]

    def tensor(self, name: str) -> Any:
        """One output; made once for the whole batch, of which this is a view.

        Raises:
            InvalidRequest: The rows' arrays differ in shape, so that no one tensor holds them.
        """
        return one_tensor(name, self.outputs.tensors()[name][self.start : self.stop])

    def tensors(self) -> dict[str, Any]:
        """The outputs as named arrays; of an output that holds an array a row, an array of those."""
        return {name: array[self.start : self.stop] for name, array in self.outputs.tensors().items()}


class Pending(msgspec.Struct):
    """A request in the queue.

    Attributes:
        payload: Its rows, ``n`` of them.
        received: Clock at which the request came.
        deadline: Clock by which it must be answered.
        queued: Clock at which it entered the queue.
        shapes: Only requests of equal shapes share a batch.
        future: Where its answer goes.
        call: What else is known of it; None for requests that only compute.
    """

    payload: Payload
    n: int
    received: float
    deadline: float
    queued: float
    shapes: Any
    future: asyncio.Future[Answer]
    call: Any = None


class BatchReport(NamedTuple):
    """What one batch was, for metrics.

    Attributes:
        rows: Rows computed.
        started, prepared, ended: Clock of its begin, of when its rows were one valid batch, and of its end, seconds.
        members: The requests in it.
        results: For each, its answer or why it has none.
        outputs: All outputs; None where nothing could be computed.
        is_whole: Whether every member is answered with its rows of the outputs, in order.
    """

    rows: int
    started: float
    prepared: float
    ended: float
    members: list[Pending]
    results: list[Answer | RequestError]
    outputs: Outputs | None
    is_whole: bool = False


_Computed = tuple[list[Answer | RequestError], Outputs | None, float]
"""Each request's result, all outputs, and the clock at which the rows were prepared."""


class BatchRun:
    """Computes batches with one predictor. Touches nothing else, so that any thread may run it.

    Args:
        predictor: What computes.
        clock: Monotonic seconds.
    """

    def __init__(self, predictor: Predictor, clock: Clock) -> None:
        self._predictor = predictor
        self._signature = predictor.signature
        self._clock = clock

    def compute(self, members: list[Pending]) -> BatchReport:
        """Computes a batch, in whatever thread calls.

        Args:
            members: Its requests, of one shape.
        """
        started = self._clock()
        is_whole = False
        try:
            results, outputs, prepared = self._compute_together(members)
            is_whole = outputs is not None and outputs.n == sum([p.n for p in members])
        except EkibenError as e:
            results, outputs, prepared = self._compute_apart(members, e, started)
        except (Exception, SystemExit) as e:  # noqa: BLE001  whatever a model raises answers its requests and not the server
            failure = PredictionFailed(f"the model failed: {type(e).__name__}: {e}")
            results, outputs, prepared = self._compute_apart(members, failure, started)
        return BatchReport(outputs.n if outputs else 0, started, prepared, self._clock(), members, results, outputs, is_whole)

    def _compute_together(self, members: list[Pending]) -> _Computed:
        batch = self._signature.merge([p.payload for p in members])
        faults = self._signature.check(batch)
        if faults:
            return self._compute_without(members, faults)
        prepared = self._clock()
        outputs = self._predictor.run(batch)
        results: list[Answer | RequestError] = []
        start = 0
        for pending in members:
            stop = start + pending.n
            results.append(Answer(outputs, start, stop, batch))
            start = stop
        return results, outputs, prepared

    def _compute_without(self, members: list[Pending], faults: Sequence[RowError]) -> _Computed:
        """Answers the requests with bad rows by themselves and computes the others."""
        starts = np.cumsum([0, *(p.n for p in members)])
        own: dict[int, list[RowError]] = {}
        for fault in faults:
            index = int(np.searchsorted(starts, fault.row, side="right")) - 1
            own.setdefault(index, []).append(RowError(fault.row - int(starts[index]), fault.field, fault.value, fault.rule))
        good = [p for n, p in enumerate(members) if n not in own]
        answers, outputs, prepared = self._compute_together(good) if good else ([], None, self._clock())
        rest = iter(answers)
        return [InvalidRows(own[n]) if n in own else next(rest) for n in range(len(members))], outputs, prepared

    def _compute_apart(self, members: list[Pending], error: EkibenError, started: float) -> _Computed:
        """The batch failed as a whole: finds out whose rows it was by running each request alone.

        What the failed run took counts as computing, what it took to prepare each request as preparing.
        """
        if len(members) == 1:
            return [error if isinstance(error, RequestError) else PredictionFailed(str(error))], None, self._clock()
        results: list[Answer | RequestError] = []
        parts: list[Outputs] = []
        prepared = started
        for pending in members:
            report = self.compute([pending])
            results += report.results
            parts += [report.outputs] if report.outputs else []
            prepared += report.prepared - report.started
        return results, Outputs.join(parts) if parts else None, prepared
