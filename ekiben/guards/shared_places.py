"""Places that requests hold while they are under way, counted over all workers of a host; those of a killed worker are free again."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ekiben.guards.count_file import HEADER_BYTES, KEY_BYTES, WAYS, CountFile
from ekiben.guards.counts import Place

logger = logging.getLogger("ekiben.limits")

WORKERS: Final = 256
"""How many workers can share the file."""

_BUCKETS: Final = 512
_MAGIC: Final = b"EKPLACE1"
_NUMBER_BYTES: Final = 2
_MOST: Final = 2 ** (8 * _NUMBER_BYTES) - 1
_HIGH: Final = HEADER_BYTES // _NUMBER_BYTES - 1
_LOOK_S: Final = 0.05


_FOUND: Final = 4096
"""Entries that a worker knows the place of."""


class SharedPlaces:
    """For each name, how many places each worker holds.

    Each worker has a column of the table, and alone writes there. That it lives is told by a lock that it holds on a file of its
    own and that the kernel takes from it when it ends. Nobody looks until a request would be refused; then columns of the dead
    are emptied first.

    Args:
        folder: Where the files are.
        clock: Monotonic seconds.

    Raises:
        OSError: The files cannot be made, or all columns are taken.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = folder / "limits.workers"
        self._workers.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._looked = -_LOOK_S
        self._found: dict[bytes, tuple[bytes, int]] = {}
        entry_bytes = KEY_BYTES + WORKERS * _NUMBER_BYTES
        self._table = CountFile(folder / "limits.places", magic=_MAGIC, entry_bytes=entry_bytes, buckets=_BUCKETS)
        self._numbers = memoryview(self._table.data).cast("H")
        try:
            self._column, self._alive = self._take_column()
        except BaseException:
            self._numbers.release()
            self._table.close()
            raise

    def hold(self, name: bytes, limit: int) -> Place | None:
        """Takes one of so many places; None where all are held.

        Where the table has no room for the name, because eight others of its bucket are held, the place is not counted.
        """
        return self.hold_now(name, limit) or self._hold_under_lock(name, limit)

    def hold_now(self, name: bytes, limit: int) -> Place | None:
        """A place where more are free than there are workers, who could all take one at the same moment; asks for no lock.

        NOTE: a lock lets other threads of this process run, and waits for them. Between the look at the entry's key and the
        increase, another worker may have given the entry, which nobody seemed to hold, to another name: one request of that name
        is then counted too many, as long as this one lasts.
        """
        numbers = self._numbers
        found = self._found.get(name)
        if found is None:
            return None
        key, entry = found
        first = (entry + KEY_BYTES) // _NUMBER_BYTES
        index, high = first + self._column, numbers[_HIGH]
        if numbers[index] == _MOST:
            return None
        numbers[index] += 1
        if sum(numbers[first : first + high]) <= limit - high and self._table.data[entry : entry + KEY_BYTES] == key:
            return Place(name, index)
        numbers[index] -= 1
        return None

    def _hold_under_lock(self, name: bytes, limit: int) -> Place | None:
        table, numbers = self._table, self._numbers
        key = table.key_of(name)
        bucket = table.bucket_of(key)
        table.lock(bucket)
        try:
            entry = table.find(key, bucket)
            if entry < 0:
                entry = self._make(key, bucket)
                if entry < 0:
                    return Place(name)
            first = (entry + KEY_BYTES) // _NUMBER_BYTES
            index = first + self._column
            held = sum(numbers[first : first + numbers[_HIGH]])
            if held >= limit and self._emptied(first):
                held = sum(numbers[first : first + numbers[_HIGH]])
            if held >= limit or numbers[index] == _MOST:
                return None
            numbers[index] += 1
        finally:
            table.unlock()
        if len(self._found) >= _FOUND:
            self._found.clear()
        self._found[name] = key, entry
        return Place(name, index)

    def release(self, place: Place) -> None:
        """Gives a place back; its entry stays where it is as long as anybody holds one."""
        if place.is_held and place.index >= 0:
            place.is_held = False
            self._numbers[place.index] -= 1

    def close(self) -> None:
        """Gives back what this worker holds, and its column."""
        self._empty(self._column)
        self._numbers.release()
        self._table.close()
        os.close(self._alive)

    def _make(self, key: bytes, bucket: int) -> int:
        """Gives a key the first entry that nobody holds a place of; -1 where there is none."""
        high = self._numbers[_HIGH]
        for entry in range(bucket, bucket + self._table.bucket_bytes, self._table.entry_bytes):
            first = (entry + KEY_BYTES) // _NUMBER_BYTES
            if not any(self._numbers[first : first + high]):
                self._table.data[entry : entry + KEY_BYTES] = key
                return entry
        return -1

    def _take_column(self) -> tuple[int, int]:
        for column in range(WORKERS):
            if (file := self._locked(column)) is not None:
                self._empty(column)  # what a killed one left
                # NOTE: two may raise it at once; the bucket's lock is as good as any to keep them apart.
                self._table.lock(HEADER_BYTES)
                self._numbers[_HIGH] = max(self._numbers[_HIGH], column + 1)
                self._table.unlock()
                return column, file
        raise OSError(f"{self._workers} has {WORKERS} workers already")

    def _locked(self, column: int) -> int | None:
        """The file of a column, locked; None where its worker lives."""
        file = os.open(self._workers / f"{column}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        return file

    def _emptied(self, first: int) -> bool:
        """Empties the columns of dead workers that hold places here; whether there were any. Looks 20 times a second at most."""
        now = self._clock()
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        found = False
        for column in range(self._numbers[_HIGH]):
            if column == self._column or not self._numbers[first + column]:
                continue
            try:
                file = self._locked(column)
            except OSError as e:
                logger.warning("whether worker %d lives cannot be told: %s", column, e)
                continue
            if file is not None:
                self._empty(column)
                os.close(file)
                found = True
        return found

    def _empty(self, column: int) -> None:
        stride = self._table.entry_bytes // _NUMBER_BYTES
        first = (HEADER_BYTES + KEY_BYTES) // _NUMBER_BYTES + column
        self._numbers[first::stride] = memoryview(bytes(_BUCKETS * WAYS * _NUMBER_BYTES)).cast("H")
