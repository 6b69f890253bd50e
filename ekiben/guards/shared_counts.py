"""Counters that all workers of a host share, in files mapped into memory: what is used where nothing else is set."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ekiben.guards.count_file import KEY_BYTES, WAYS, CountFile
from ekiben.guards.counts import COUNTERS, Counts, Place
from ekiben.guards.rates import EPOCH_S, FRESH, Rate, Standing, State, standing_of
from ekiben.guards.shared_places import SharedPlaces

_MAGIC: Final = b"EKCOUNT1"
_STATE: Final = struct.Struct("=ddd")
_LAST_USED: Final = struct.Struct("=d")
_LAST_USED_AT: Final = KEY_BYTES + 2 * _LAST_USED.size


class SharedCounts(Counts):
    """Counters in ``limits.counts``, places in ``limits.places``, exact over all workers: each step is done under a lock.

    Where a bucket of eight is full, the counter in it goes that was idle longest. What a worker that is killed was writing may be
    wrong by what it was about to take; everything else stays right, and so does the file.

    Args:
        folder: Where the files are: ``EKIBEN_HOME``.
        wall: Seconds since the epoch, the same for all workers.
        clock: Monotonic seconds.
        most: How many counters are kept.

    Raises:
        OSError: The files cannot be made.
    """

    def __init__(
        self, folder: Path, *, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic, most: int = COUNTERS
    ) -> None:
        self._wall = wall
        self._places = SharedPlaces(folder, clock=clock)
        try:
            self._table = CountFile(
                folder / "limits.counts", magic=_MAGIC, entry_bytes=KEY_BYTES + _STATE.size, buckets=max(1, most // WAYS)
            )
        except BaseException:
            self._places.close()
            raise

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """As `Counts.take` says."""
        return self._take_one(rates, names[0], cost) if len(names) == 1 else self._take_all(rates, names, cost)

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold` says."""
        return self._places.hold(name, limit)

    def hold_now(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold_now` says."""
        return self._places.hold_now(name, limit)

    def release(self, place: Place) -> None:
        """As `Counts.release` says."""
        self._places.release(place)

    async def close(self) -> None:
        """As `Counts.close` says."""
        self._places.close()
        self._table.close()

    def _take_one(self, rates: Sequence[Rate], name: bytes, cost: float) -> Standing:
        """What most models have is one rate of a kind: the same as `_take_all`, in two thirds of the time."""
        table = self._table
        key = table.key_of(name)
        bucket = table.bucket_of(key)
        table.lock(bucket)
        try:
            entry = table.find(key, bucket)
            outcome = rates[0].outcome(self._state(entry) if entry >= 0 else FRESH, self._wall() - EPOCH_S, cost)
            if outcome.allowed:
                self._write(entry, key, bucket, outcome.state)
        finally:
            table.unlock()
        return Standing(outcome.allowed, rates[0], outcome.left, outcome.reset_s, outcome.wait_s)

    def _take_all(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        table = self._table
        keys = [table.key_of(name) for name in names]
        buckets = [table.bucket_of(key) for key in keys]
        try:
            for bucket in sorted(set(buckets)):
                table.lock(bucket)
            now = self._wall() - EPOCH_S
            outcomes = []
            for n, rate in enumerate(rates):
                entry = table.find(keys[n], buckets[n])
                outcomes.append(rate.outcome(self._state(entry) if entry >= 0 else FRESH, now, cost))
            standing = standing_of(rates, outcomes)
            if standing.allowed:
                for n, outcome in enumerate(outcomes):
                    # Looked up again: the one before may have made its entry in the same bucket.
                    self._write(table.find(keys[n], buckets[n]), keys[n], buckets[n], outcome.state)
        finally:
            table.unlock()
        return standing

    def _state(self, entry: int) -> State:
        return _STATE.unpack_from(self._table.data, entry + KEY_BYTES)

    def _write(self, entry: int, key: bytes, bucket: int, state: State) -> None:
        data = self._table.data
        if entry >= 0:
            _STATE.pack_into(data, entry + KEY_BYTES, *state)
            return
        size = self._table.entry_bytes
        entry = min(
            range(bucket, bucket + self._table.bucket_bytes, size), key=lambda e: _LAST_USED.unpack_from(data, e + _LAST_USED_AT)[0]
        )
        data[entry : entry + size] = key + _STATE.pack(*state)
