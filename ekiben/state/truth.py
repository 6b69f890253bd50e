"""Exposures and truths: who was answered what by which arm while it was on trial, and what really happened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from threading import Lock

import msgspec

Value = str | float | bool


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was answered while a rollout or an experiment ran.

    Attributes:
        model: The model.
        request_id, row: Which row; rows of a request count from 0.
        version, arm: What answered; ``shadow`` where the answer went nowhere, beside the one that did answer the row.
        key: The routing key.
        time: Seconds since the epoch.
        prediction: The predicted class, or number; None of a model that gives neither.
        score: The probability of the positive class (of several, of the predicted one); None for others.
    """

    model: str
    request_id: str
    row: int
    version: str
    arm: str
    key: str
    time: float
    prediction: str | float | None = None
    score: float | None = None


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What really happened to a row, or what came of it.

    Attributes:
        model: The model.
        request_id, row: Which row.
        actual: The real class, or number; None where only an outcome is known.
        outcome: What an experiment compares: 1 for a purchase, the minutes saved; None where only the actual is known.
        time: When it happened or was reported, seconds since the epoch.
        comment: What a user wrote about the answer.
    """

    model: str
    request_id: str
    row: int
    time: float
    actual: Value | None = None
    outcome: float | None = None
    comment: str | None = None


class TruthColumns(msgspec.Struct, frozen=True):
    """Truths of one model as columns of equal length: what is joined with many rows at once.

    Attributes:
        request_id, row, time, actual, outcome, comment: As of `Truth`.
    """

    request_id: Sequence[str] = ()
    row: Sequence[int] = ()
    time: Sequence[float] = ()
    actual: Sequence[Value | None] = ()
    outcome: Sequence[float | None] = ()
    comment: Sequence[str | None] = ()

    def __len__(self) -> int:
        """How many truths they are."""
        return len(self.request_id)


class Truths(ABC):
    """Exposures and truths, joined by request id and row, whichever came first.

    All methods raise `StateError` when what holds them cannot be read or written.
    """

    @abstractmethod
    def expose(self, exposures: Sequence[Exposure]) -> None:
        """Keeps exposures, all or none; one of the same row and version that is there already stays as it is."""

    @abstractmethod
    def report(self, truths: Sequence[Truth]) -> None:
        """Keeps truths, all or none, durably when it returns. A second one for a row replaces what it says anew, and leaves the rest."""

    @abstractmethod
    def joined(self, model: str, since: float, until: float) -> list[tuple[Exposure, Truth]]:
        """Exposures of that time, [since, until), whose truth is known, by time; a row that a shadow computed too comes twice."""

    @abstractmethod
    def exposed(self, model: str, since: float, until: float) -> dict[tuple[str, str], tuple[int, int]]:
        """(version, arm) → rows exposed in that time, and different routing keys among them."""

    @abstractmethod
    def find(self, model: str, since: float, until: float) -> list[Truth]:
        """Truths of a model whose own time is in [since, until), by time, request id and row; their predictions may be unknown."""

    @abstractmethod
    def of(self, model: str, request_ids: Collection[str]) -> TruthColumns:
        """All truths of some requests, whenever they were reported, by request id and row; made for a million requests."""

    @abstractmethod
    def count(self, model: str, since: float, until: float) -> int:
        """How many truths of a model have their own time in [since, until)."""

    @abstractmethod
    def newest(self, model: str) -> float | None:
        """The time of a model's newest truth, seconds since the epoch; None where there is none."""

    @abstractmethod
    def prune(self, exposures_before: float, truths_before: float) -> int:
        """Deletes exposures and truths from before; returns how many."""


class MemoryTruths(Truths):
    """Exposures and truths that live as long as the object."""

    def __init__(self) -> None:
        self._exposures: dict[tuple[str, str, int, str], Exposure] = {}
        self._truths: dict[tuple[str, str, int], Truth] = {}
        self._lock = Lock()

    def expose(self, exposures: Sequence[Exposure]) -> None:
        """See `Truths`."""
        with self._lock:
            for e in exposures:
                self._exposures.setdefault((e.model, e.request_id, e.row, e.version), e)

    def report(self, truths: Sequence[Truth]) -> None:
        """See `Truths`."""
        with self._lock:
            for truth in truths:
                key = (truth.model, truth.request_id, truth.row)
                former = self._truths.get(key)
                if former is not None:
                    said = {f: getattr(former if getattr(truth, f) is None else truth, f) for f in ("actual", "outcome", "comment")}
                    self._truths[key] = msgspec.structs.replace(truth, **said)
                else:
                    self._truths[key] = truth

    def joined(self, model: str, since: float, until: float) -> list[tuple[Exposure, Truth]]:
        """See `Truths`."""
        with self._lock:
            found = [(e, self._truths[key[:3]]) for key, e in self._exposures.items() if key[:3] in self._truths]
        return sorted((pair for pair in found if pair[0].model == model and since <= pair[0].time < until), key=lambda pair: pair[0].time)

    def exposed(self, model: str, since: float, until: float) -> dict[tuple[str, str], tuple[int, int]]:
        """See `Truths`."""
        rows: dict[tuple[str, str], list[str]] = {}
        with self._lock:
            for e in self._exposures.values():
                if e.model == model and since <= e.time < until:
                    rows.setdefault((e.version, e.arm), []).append(e.key)
        return {arm: (len(keys), len(set(keys))) for arm, keys in rows.items()}

    def find(self, model: str, since: float, until: float) -> list[Truth]:
        """See `Truths`."""
        with self._lock:
            found = [t for t in self._truths.values() if t.model == model and since <= t.time < until]
        return sorted(found, key=lambda t: (t.time, t.request_id, t.row))

    def of(self, model: str, request_ids: Collection[str]) -> TruthColumns:
        """See `Truths`."""
        wanted = set(request_ids)
        with self._lock:
            found = [t for t in self._truths.values() if t.model == model and t.request_id in wanted]
        found.sort(key=lambda t: (t.request_id, t.row))
        return TruthColumns(*([getattr(t, field) for t in found] for field in TruthColumns.__struct_fields__))

    def count(self, model: str, since: float, until: float) -> int:
        """See `Truths`."""
        return len(self.find(model, since, until))

    def newest(self, model: str) -> float | None:
        """See `Truths`."""
        with self._lock:
            return max((t.time for t in self._truths.values() if t.model == model), default=None)

    def prune(self, exposures_before: float, truths_before: float) -> int:
        """See `Truths`."""
        with self._lock:
            exposures = [key for key, e in self._exposures.items() if e.time < exposures_before]
            truths = [key for key, t in self._truths.items() if t.time < truths_before]
            for exposure in exposures:
                del self._exposures[exposure]
            for truth in truths:
                del self._truths[truth]
        return len(exposures) + len(truths)
