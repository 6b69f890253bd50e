"""Workers: what each serving process has loaded and which routes it follows, as it says itself about once a second."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock

import msgspec


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself.

    Attributes:
        id: ``host:pid:number``, another after each start.
        models: The models it is to serve.
        versions: Model → its loaded versions.
        problems: ``model`` or ``model:version`` → why it is not loaded.
        generation: Which aliases, loads and routes are in force in it.
        in_force_at: Since when, seconds since the epoch.
        broken: ``model:version`` → why it counts as broken: its breaker is open, or was until just now.
        seen_at: When it said so; set by what keeps it.
    """

    id: str
    models: tuple[str, ...] = ()
    versions: dict[str, tuple[str, ...]] = {}
    problems: dict[str, str] = {}
    generation: tuple[int, ...] = ()
    in_force_at: float = 0.0
    broken: dict[str, str] = {}
    seen_at: float = 0.0

    def follows(self, generation: tuple[int, ...]) -> bool:
        """Whether a change of that generation, or a later one, is in force in it."""
        return len(self.generation) == len(generation) and all(a >= b for a, b in zip(self.generation, generation, strict=True))


class Workers(ABC):
    """The workers that are alive. All methods raise `StateError` when what holds them cannot be read or written."""

    @abstractmethod
    def say(self, state: WorkerState) -> None:
        """Keeps what a worker says of itself, in place of what it said before; its ``seen_at`` becomes now."""

    @abstractmethod
    def forget(self, worker: str) -> None:
        """A worker ends in order."""

    @abstractmethod
    def alive(self, within_s: float) -> list[WorkerState]:
        """The workers that said something within the last ``within_s`` seconds, by id."""


class MemoryWorkers(Workers):
    """Workers of one process.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[str, WorkerState] = {}
        self._lock = Lock()

    def say(self, state: WorkerState) -> None:
        """See `Workers`."""
        with self._lock:
            self._states[state.id] = msgspec.structs.replace(state, seen_at=self._clock())

    def forget(self, worker: str) -> None:
        """See `Workers`."""
        with self._lock:
            self._states.pop(worker, None)

    def alive(self, within_s: float) -> list[WorkerState]:
        """See `Workers`."""
        with self._lock:
            return [s for _, s in sorted(self._states.items()) if s.seen_at >= self._clock() - within_s]
