"""Windows: what happened to the requests of one arm in one second, in numbers that can be added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock

import msgspec

from ekiben.state.histogram import Histogram

SHADOW = "shadow"
"""The arm of rows that a shadow computed."""


class Window(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Requests of one arm.

    Attributes:
        ok: Requests answered.
        errors: Error → requests that ended with it and were not the client's fault.
        invalid: Requests refused as the client's fault.
        fallbacks: Of the errors, those that the champion answered instead.
        latency: Seconds from a request's arrival to its answer, of those answered.
        compute: Seconds that the run of its batch took, of those answered, a request each.
        classes: Predicted class → rows; empty for models without classes.
        scores: Of a classifier the probability of its positive class (of several, of the predicted one), of a regressor the
            prediction; a row each.
        compared: Shadow: rows compared with the champion's.
        agreed: Shadow: of those, rows with the same prediction (of a regressor, one within a percent).
        differences: Shadow: |score - the champion's score|, a row each.
        dropped: Shadow: rows that were left out because the worker was busy.
        unlogged: Champion: rows, of all arms of the version, that the inference log could not take.
    """

    ok: int = 0
    errors: dict[str, int] = {}
    invalid: int = 0
    fallbacks: int = 0
    latency: Histogram = msgspec.field(default_factory=Histogram)
    compute: Histogram = msgspec.field(default_factory=Histogram)
    classes: dict[str, int] = {}
    scores: Histogram = msgspec.field(default_factory=Histogram)
    compared: int = 0
    agreed: int = 0
    differences: Histogram = msgspec.field(default_factory=Histogram)
    dropped: int = 0
    unlogged: int = 0

    @property
    def failed(self) -> int:
        """Requests that ended with an error."""
        return sum(self.errors.values())

    @property
    def requests(self) -> int:
        """Requests, without those that were the client's fault."""
        return self.ok + self.failed

    def __add__(self, other: Window) -> Window:
        """Both together."""
        return Window(
            ok=self.ok + other.ok,
            errors=_added(self.errors, other.errors),
            invalid=self.invalid + other.invalid,
            fallbacks=self.fallbacks + other.fallbacks,
            latency=self.latency + other.latency,
            compute=self.compute + other.compute,
            classes=_added(self.classes, other.classes),
            scores=self.scores + other.scores,
            compared=self.compared + other.compared,
            agreed=self.agreed + other.agreed,
            differences=self.differences + other.differences,
            dropped=self.dropped + other.dropped,
            unlogged=self.unlogged + other.unlogged,
        )


class WindowKey(msgspec.Struct, frozen=True):
    """Whose window it is.

    Attributes:
        model, version: The version that answered.
        arm: ``champion``, ``challenger``, an experiment's arm, ``pinned`` or ``shadow``.
        second: Seconds since the epoch, whole; when the requests ended.
    """

    model: str
    version: str
    arm: str
    second: int


class Windows(ABC):
    """The windows of all workers. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def add(self, worker: str, windows: Sequence[tuple[WindowKey, Window]]) -> None:
        """Keeps a worker's windows, all or none; one that is there already, of the same worker, is replaced (so a retry is safe)."""

    @abstractmethod
    def sum(self, model: str, since: float, until: float) -> dict[tuple[str, str], Window]:
        """(version, arm) → all windows of seconds that lie in [since, until) together, over all workers."""

    @abstractmethod
    def by_second(self, model: str, since: float, until: float) -> dict[int, dict[tuple[str, str], Window]]:
        """As `sum`, apart for each second that has windows; for a few minutes, as nothing of it is remembered."""

    @abstractmethod
    def prune(self, before: float) -> int:
        """Deletes windows of seconds before; returns how many."""


class MemoryWindows(Windows):
    """Windows that live as long as the object."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, WindowKey], Window] = {}
        self._lock = Lock()

    def add(self, worker: str, windows: Sequence[tuple[WindowKey, Window]]) -> None:
        """See `Windows`."""
        with self._lock:
            self._windows |= {(worker, key): window for key, window in windows}

    def sum(self, model: str, since: float, until: float) -> dict[tuple[str, str], Window]:
        """See `Windows`."""
        with self._lock:
            found = [(k, w) for (_, k), w in self._windows.items() if k.model == model and since <= k.second < until]
        return summed(found)

    def by_second(self, model: str, since: float, until: float) -> dict[int, dict[tuple[str, str], Window]]:
        """See `Windows`."""
        with self._lock:
            found = [(k, w) for (_, k), w in self._windows.items() if k.model == model and since <= k.second < until]
        return summed_by_second(found)

    def prune(self, before: float) -> int:
        """See `Windows`."""
        with self._lock:
            old = [key for key in self._windows if key[1].second < before]
            for key in old:
                del self._windows[key]
        return len(old)


def summed(windows: Sequence[tuple[WindowKey, Window]]) -> dict[tuple[str, str], Window]:
    """(version, arm) → all of its windows together."""
    sums: dict[tuple[str, str], Window] = {}
    for key, window in windows:
        arm = (key.version, key.arm)
        sums[arm] = sums[arm] + window if arm in sums else window
    return sums


def summed_by_second(windows: Sequence[tuple[WindowKey, Window]]) -> dict[int, dict[tuple[str, str], Window]]:
    """Second → (version, arm) → all of its windows together; in the order of seconds."""
    apart: dict[int, list[tuple[WindowKey, Window]]] = {}
    for key, window in windows:
        apart.setdefault(key.second, []).append((key, window))
    return {second: summed(of_second) for second, of_second in sorted(apart.items())}


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    both = dict(one)
    for name, count in other.items():
        both[name] = both.get(name, 0) + count
    return both
