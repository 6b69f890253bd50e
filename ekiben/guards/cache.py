"""Answers that are remembered, a row each, within one worker.

The least recently used go first when their bytes are more than they may be, and each for itself when its time is over. What is kept
is a copy: a row does not hold the batch in memory that it was computed with. Only what was answered comes here, so what is found
under a key has passed the signature, and is no error.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ekiben.model.outputs import Outputs

Array = npt.NDArray[Any]

ROW_BYTES: Final = 560
"""Of a row besides its values: its key, its places in the tables, and the objects around its arrays."""
ARRAY_BYTES: Final = 136
"""Of an array besides its values."""


class RowStore(Protocol):
    """Where answers are remembered."""

    async def find(self, keys: Sequence[bytes]) -> Outputs | None:
        """The rows of these keys, in their order; None where one or more are not there."""

    def put(self, keys: Sequence[bytes], outputs: Outputs, start: int) -> None:
        """Remembers rows.

        Args:
            keys: A key a row.
            outputs: Holds the rows, and perhaps others.
            start: Where they begin.
        """

    @property
    def entries(self) -> int:
        """How many rows this worker holds."""

    @property
    def held_bytes(self) -> int:
        """How many bytes they take."""

    async def close(self) -> None:
        """Lets go of everything."""


class _Entry(NamedTuple):
    row: Outputs
    size_bytes: int
    expires: float


class MemoryRows:
    """Rows in this process; all of it in the event loop.

    Args:
        ttl_s: How long a row is good, seconds.
        max_bytes: How many bytes all rows may take.
        clock: Monotonic seconds.

    Attributes:
        held_bytes: How many they take.
    """

    def __init__(self, *, ttl_s: float, max_bytes: int, clock: Callable[[], float]) -> None:
        self.held_bytes = 0
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._rows: OrderedDict[bytes, _Entry] = OrderedDict()

    @property
    def entries(self) -> int:
        """How many rows there are; some may be past their time, and go when they are asked for or the oldest."""
        return len(self._rows)

    async def find(self, keys: Sequence[bytes]) -> Outputs | None:
        """The rows of these keys, in their order; None where one or more are not there."""
        rows, now = self._rows, self._clock()
        found = []
        for key in keys:
            entry = rows.get(key)
            if entry is None:
                return None
            if entry.expires <= now:
                self._remove(key)
                return None
            rows.move_to_end(key)
            found.append(entry.row)
        # Bare: what the answers are made into goes with them, and does not grow what is kept.
        return Outputs.join(found) if len(found) > 1 else found[0].bare()

    def put(self, keys: Sequence[bytes], outputs: Outputs, start: int) -> None:
        """Remembers rows; one that is larger than all may be is not kept.

        Args:
            keys: A key a row.
            outputs: Holds the rows, and perhaps others.
            start: Where they begin.
        """
        expires = self._clock() + self._ttl_s
        for n, key in enumerate(keys, start):
            row = _copy_of(outputs, n)
            size_bytes = _size_of(row)
            self._remove(key)
            if size_bytes <= self._max_bytes:
                self._rows[key] = _Entry(row, size_bytes, expires)
                self.held_bytes += size_bytes
        while self.held_bytes > self._max_bytes:
            self._remove(next(iter(self._rows)))

    async def close(self) -> None:
        """Lets go of everything."""
        self._rows.clear()
        self.held_bytes = 0

    def _remove(self, key: bytes) -> None:
        entry = self._rows.pop(key, None)
        if entry is not None:
            self.held_bytes -= entry.size_bytes


def _copy_of(outputs: Outputs, row: int) -> Outputs:
    """One row by itself, which nobody can write to any more."""
    arrays = {}
    for name, array in outputs.arrays.items():
        copy = array[row : row + 1].copy()
        if copy.dtype.kind == "O":
            # NOTE: a copy of objects is of their places only; an array among them may be a view of its whole batch.
            for place, value in np.ndenumerate(copy):
                if isinstance(value, np.ndarray):
                    copy[place] = own = value.copy()
                    own.flags.writeable = False
        copy.flags.writeable = False
        arrays[name] = copy
    index = None if outputs.class_index is None else outputs.class_index[row : row + 1].copy()
    if index is not None:
        index.flags.writeable = False
    return Outputs(1, arrays, outputs.labels, index, outputs.threshold)


def _size_of(row: Outputs) -> int:
    """Bytes that a row takes in memory."""
    size = ROW_BYTES + sum(ARRAY_BYTES + array.nbytes for array in row.arrays.values())
    if row.class_index is not None:
        size += ARRAY_BYTES + row.class_index.nbytes
    return size + sum(_size_within(value) for array in row.arrays.values() if array.dtype.kind == "O" for value in array.reshape(-1))


def _size_within(value: Any) -> int:
    """Bytes of an object among the values."""
    if isinstance(value, np.ndarray):
        within = sum(map(_size_within, value.reshape(-1))) if value.dtype.kind == "O" else 0
        return ARRAY_BYTES + value.nbytes + within
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(_size_within(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(_size_within, value))
    return sys.getsizeof(value)
