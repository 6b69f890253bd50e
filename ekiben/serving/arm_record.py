"""What happened to the requests of one arm of one version since somebody last looked.

Kept as it comes, once a batch, in the event loop; made into a `Window` once a second, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import RequestError
from ekiben.model.outputs import Outputs
from ekiben.monitoring.arm_metrics import ArmMetrics, status_of
from ekiben.serving.batch_run import Answer
from ekiben.state.histogram import Histogram
from ekiben.state.truth import Exposure
from ekiben.state.windows import Window

EXPOSED_PER_S: Final = 200
"""Rows of one model that are kept, about, a second and worker, while a rollout or experiment runs."""

_HASHES: Final = 1 << 64

Array = npt.NDArray[Any]
Rows = tuple[Outputs, int, int]
"""Rows of a batch's outputs, from start to stop (exclusive)."""


class Named(Protocol):
    """What is known of a request beside its rows."""

    request_id: str
    key: str | None


class Sample:
    """Which requests of a model are kept to be joined with what really happened, where there are too many to keep all.

    It is by routing key, the same in every arm: no arm is sampled more than another, and a shadow's rows are those of the
    champion. The share follows the load, second by second.

    Attributes:
        below: Kept are the users whose key has a hash below this. It says nothing of their arm, which is the hash's remainder.
    """

    def __init__(self) -> None:
        self.below = _HASHES
        self._began = 0.0
        self._seen = self._kept = 0

    def room(self, rows: int) -> int:
        """How many of so many rows are kept; a sudden load has no more than twice the rows that are meant to be."""
        rows = min(rows, 2 * EXPOSED_PER_S - self._kept)
        self._kept += rows
        return rows

    def follow(self, requests: int, now: float) -> None:
        """So many requests were answered since this was said last; ``now`` is in seconds, of any clock."""
        self._seen += requests
        seconds = now - self._began
        if not 0 <= seconds < 1:
            # What comes after a pause, or with the clock put back, is as much as came in one second.
            self.below = min(_HASHES, _HASHES * EXPOSED_PER_S // max(self._seen, 1))
            self._began = now
            self._seen = self._kept = 0


class Compared(msgspec.Struct):
    """How the rows of a shadow compare with the champion's.

    Attributes:
        agreed: Rows with the same prediction.
        differences: ``[n]`` |score - the champion's score|, a row each.
    """

    agreed: int
    differences: Array


class Taken(msgspec.Struct):
    """What an arm has gathered.

    Attributes:
        latencies: Seconds from arrival to answer, a request each.
        computes: Seconds that a batch's run took, and the requests answered with it.
        outputs: The rows answered, of classifiers and regressors.
        errors, invalid, fallbacks, dropped, unlogged: As in `Window`.
        compared: Of a shadow.
        exposed: Requests with their rows and when they were answered, seconds since the epoch.
    """

    latencies: list[float] = []
    computes: list[tuple[float, int]] = []
    outputs: list[Rows] = []
    errors: dict[str, int] = {}
    invalid: int = 0
    fallbacks: int = 0
    dropped: int = 0
    unlogged: int = 0
    compared: list[Compared] = []
    exposed: list[tuple[Named, Rows, float]] = []

    def __bool__(self) -> bool:
        numbers = self.invalid or self.fallbacks or self.dropped or self.unlogged
        return bool(self.latencies or self.errors or numbers or self.compared or self.computes)


class ArmRecord:
    """Gathers what happens to one arm of one version.

    Args:
        metrics: The arm's collectors.
        wall: Seconds since the epoch.
        headers: What its answers say of version and arm.
        has_scores: Whether the model has predictions that can be compared: it classifies, or it is a regressor.
        name: The arm.

    Attributes:
        metrics: The arm's collectors.
        headers, has_scores, name, wall: As given.
        exposes: Whether scores are looked at, and answers kept to be joined with what really happened: while a rollout runs.
        sample: Which answers are kept; one for all arms of a model.
    """

    def __init__(
        self, metrics: ArmMetrics, wall: Callable[[], float], *, headers: list[tuple[bytes, bytes]], has_scores: bool, name: str = ""
    ) -> None:
        self.metrics = metrics
        self.name = name
        self.headers = headers
        self.exposes = False
        self.sample = Sample()
        self.wall = wall
        self.has_scores = has_scores
        self._taken = Taken()

    def answered(self, latencies: Sequence[float], computes: Sequence[tuple[float, int]], rows: Sequence[Rows]) -> None:
        """Requests were answered with these rows.

        Args:
            latencies: From arrival to answer, seconds, a request each; empty for a shadow's, which answer nobody.
            computes: What each run took, seconds, and how many of the requests it answered; NaN where that is nothing to compare.
            rows: What was answered.
        """
        taken = self._taken
        taken.latencies += latencies
        taken.computes += computes
        if latencies:
            self.metrics.answered(latencies)
        if self.exposes and self.has_scores:
            taken.outputs += [(outputs.bare(), start, stop) for outputs, start, stop in rows]
        for outputs, start, stop in rows:
            if outputs.class_index is not None:
                self.metrics.classes(outputs.class_index if stop - start == outputs.n else outputs.class_index[start:stop])

    def keep(self, request: Named, answer: Answer) -> None:
        """Keeps the answer of a request that is in the sample, to be joined later."""
        if self.exposes and (rows := self.sample.room(answer.stop - answer.start)):
            self._taken.exposed.append((request, (answer.outputs.bare(), answer.start, answer.start + rows), self.wall()))

    def failed(self, errors: Iterable[RequestError], seconds: float) -> None:
        """Requests ended without a prediction, and took so many seconds together."""
        self.metrics.failed(errors := list(errors), seconds)
        for error in errors:
            if status_of(error) == "invalid":
                self._taken.invalid += 1
            else:
                name = type(error).__name__
                self._taken.errors[name] = self._taken.errors.get(name, 0) + 1

    def cancelled(self) -> None:
        """A request's client hung up while it was queued, and it was not computed."""
        self.metrics.cancelled()

    def fell_back(self) -> None:
        """The champion answers a request that failed here."""
        self._taken.fallbacks += 1
        self.metrics.fell_back()

    def compared(self, compared: Compared) -> None:
        """A shadow's rows were compared with the champion's."""
        self._taken.compared.append(compared)
        self.metrics.compared(len(compared.differences), compared.agreed)

    def unlogged(self, rows: int) -> None:
        """Rows were answered that the inference log could not take."""
        self._taken.unlogged += rows

    def dropped(self, rows: int) -> None:
        """A shadow's rows were left out because the worker was busy."""
        self._taken.dropped += rows
        self.metrics.dropped(rows)

    def take(self) -> Taken:
        """What was gathered; begins anew."""
        taken, self._taken = self._taken, Taken()
        self.sample.follow(len(taken.latencies), self.wall())
        return taken


def window_of(taken: Taken) -> Window:
    """The numbers of what an arm has gathered."""
    computes = np.repeat([s for s, _ in taken.computes], [n for _, n in taken.computes]) if taken.computes else np.zeros(0)
    differences = np.concatenate([c.differences for c in taken.compared]) if taken.compared else np.zeros(0)
    outputs = joined_rows(taken.outputs) if taken.outputs else None
    return Window(
        ok=sum(n for _, n in taken.computes),
        errors=taken.errors,
        invalid=taken.invalid,
        fallbacks=taken.fallbacks,
        latency=Histogram.of(taken.latencies),
        compute=Histogram.of(computes),
        classes={} if outputs is None else _classes(outputs),
        scores=Histogram() if outputs is None else Histogram.of(scores_of(outputs)),
        compared=len(differences),
        agreed=sum(c.agreed for c in taken.compared),
        differences=Histogram.of(differences),
        dropped=taken.dropped,
        unlogged=taken.unlogged,
    )


def joined_rows(parts: Sequence[Rows]) -> Outputs:
    """All rows of the parts, one at least, as one; those that lie one behind the other in the same outputs are taken together."""
    together: list[Rows] = []
    for outputs, start, stop in parts:
        if together and together[-1][0] is outputs and together[-1][2] == start:
            together[-1] = (outputs, together[-1][1], stop)
        else:
            together.append((outputs, start, stop))
    return Outputs.join([outputs if stop - start == outputs.n else outputs.take(start, stop) for outputs, start, stop in together])


def scores_of(outputs: Outputs) -> Array:
    """``[n]`` one number a row: the probability of the positive class (of several, of the predicted one), or the prediction."""
    if outputs.class_index is None:
        return np.asarray(outputs.arrays["prediction"], np.float64).reshape(outputs.n, -1)[:, 0]
    probabilities = outputs.arrays["probabilities"]
    if outputs.threshold is not None:
        return probabilities[:, 1]
    return probabilities[np.arange(outputs.n), outputs.class_index]


def has_scores(outputs: Outputs) -> bool:
    """Whether each row has one number: it is classified, or its prediction is a number."""
    if outputs.class_index is not None:
        return True
    prediction = outputs.arrays.get("prediction")
    return prediction is not None and prediction.dtype.kind in "fiub" and prediction.size == len(prediction)


def exposures_of(taken: Taken, model: str, version: str, arm: str) -> list[Exposure]:
    """What is kept to be joined with what really happened, a row each."""
    if not taken.exposed:
        return []
    outputs = joined_rows([rows for _, rows, _ in taken.exposed])
    scores: list[float | None] = [None] * outputs.n
    predictions: list[str | float | None] = [None] * outputs.n
    if outputs.class_index is not None:
        scores = scores_of(outputs).tolist()
        predictions = [outputs.labels[index] for index in outputs.class_index.tolist()]
    elif has_scores(outputs):
        predictions = scores_of(outputs).tolist()
    rows = ((request, row, time) for request, (_, start, stop), time in taken.exposed for row in range(stop - start))
    return [
        Exposure(
            model=model, request_id=request.request_id, row=row, version=version, arm=arm, key=request.key or request.request_id,
            time=time, prediction=prediction, score=score,
        )
        for (request, row, time), prediction, score in zip(rows, predictions, scores, strict=True)
    ]  # fmt: skip


def _classes(outputs: Outputs) -> dict[str, int]:
    if outputs.class_index is None:
        return {}
    counted = np.bincount(outputs.class_index, minlength=len(outputs.labels)).tolist()
    return {label: count for label, count in zip(outputs.labels, counted, strict=True) if count}
