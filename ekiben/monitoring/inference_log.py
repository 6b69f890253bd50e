"""The inference log's writer: each answered row of a worker, handed to the operating system before its answer leaves.

Rows go to tail segments, Arrow IPC streams under ``EKIBEN_HOME/inference_log/tail/model=<model>/``, one a worker and version. A
segment that is written is locked; one whose lock can be had is finished, or its worker is dead. What becomes of them says
`ekiben.monitoring.log_folder`.

When a segment cannot be written, say because the disk is full, rows are counted as dropped and serving goes on; every ten
seconds it is tried again. What the operating system took of a batch that did not fit is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from ekiben.model.spec import ModelSpec
from ekiben.monitoring.log_rows import LoggedRows, RowEncoder
from ekiben.monitoring.log_schema import head_for
from ekiben.settings import Settings

logger = logging.getLogger("ekiben.log")

TAIL: Final = "tail"
SEGMENT_BYTES: Final = 64 * 2**20
SEGMENT_S: Final = 300.0
_RETRY_S: Final = 10.0
_KEY_BYTES: Final = 32
_DAY_S: Final = 86_400


def log_folder(settings: Settings) -> Path:
    """Where the inference log of this machine is."""
    return settings.home / "inference_log"


class Tally(msgspec.Struct):
    """What became of rows since somebody asked last."""

    kept: int = 0
    sampled_out: int = 0
    dropped: int = 0
    size_bytes: int = 0


class InferenceLog:
    """The segments of one worker.

    Args:
        folder: The log's folder, ``EKIBEN_HOME/inference_log``.
        worker: The worker's name. Another one may have had it before, on a machine that gives process ids anew.
        wall: Seconds since the epoch.
        clock: Monotonic seconds.

    Attributes:
        problem: Why nothing can be written; empty where it can.
    """

    def __init__(
        self, folder: Path, worker: str, *, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self.problem = ""
        self.wall = wall
        self.clock = clock
        self._worker = "".join(c if c.isalnum() else "-" for c in worker) + "-" + os.urandom(8).hex()
        self._numbers = count(1)
        self._retry_at = 0.0
        self._key: bytes | None = None

    def of(self, spec: ModelSpec, version: str) -> VersionLog | None:
        """The log of a version; None where its spec wants none."""
        return VersionLog(self, spec, version) if spec.log.enabled else None

    def new_file(self, model: str, day: int) -> Path:
        """Where the next segment of a model goes; ``day`` is counted from the epoch."""
        date = time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_S))
        return self.folder / TAIL / f"model={model}" / f"{date}-{self._worker}-{next(self._numbers)}.arrows"

    @property
    def may_write(self) -> bool:
        """Whether it is worth a try."""
        return not self.problem or self.clock() >= self._retry_at

    def failed(self, error: OSError) -> None:
        """A segment could not be written."""
        self._retry_at = self.clock() + _RETRY_S
        if not self.problem:
            logger.error("the inference log cannot be written, rows are dropped until it can: %s", error)
        self.problem = str(error)

    def wrote(self) -> None:
        """A segment was written."""
        if self.problem:
            logger.warning("the inference log is written again")
            self.problem = ""

    def hash_key(self) -> bytes:
        """The secret that values are hashed with; made when it is first needed, the same for all workers.

        Raises:
            OSError: It cannot be read or made.
        """
        if self._key is None:
            file = self.folder.parent / "log.key"
            file.parent.mkdir(parents=True, exist_ok=True)
            made = file.with_name(f"log.key.{os.getpid()}")
            if not file.exists():
                with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
                    f.write(os.urandom(_KEY_BYTES))
                with contextlib.suppress(FileExistsError):
                    os.link(made, file)  # the first worker's is everybody's
                made.unlink()
            self._key = file.read_bytes()
        return self._key


class VersionLog:
    """The segments of one version in one worker; all of it in the event loop.

    Args:
        log: The worker's log.
        spec: The version's spec.
        version: The version.
    """

    def __init__(self, log: InferenceLog, spec: ModelSpec, version: str) -> None:
        self._log = log
        self._spec = spec
        self._version = version
        self._sample_below = round(spec.log.sample * 2**64)
        self._writer: _Segment | None = None
        self._encoder: RowEncoder | None = None
        self._tally = Tally()
        self._has_complained = False

    def append(self, rows: LoggedRows) -> None:
        """Writes rows; what cannot be written is counted."""
        if self._spec.log.sample < 1:
            rows = self._sampled(rows)
            if not rows.outputs.n:
                return
        n = rows.outputs.n
        if not self._log.may_write:
            self._tally.dropped += n
            return
        try:
            self._tally.size_bytes += self._segment(rows).write(self._encoder_for(rows).encoded(rows))
        except OSError as e:
            self._tally.dropped += n
            self._log.failed(e)
            self.close()
        except Exception:  # whatever is wrong with a row, its answer leaves
            self._tally.dropped += n
            if not self._has_complained:
                logger.exception("%s:%s: rows cannot be logged", self._spec.name, self._version)
                self._has_complained = True
        else:
            self._tally.kept += n
            self._log.wrote()

    def tick(self) -> None:
        """Ends a segment that is old enough, so that others may have it; called now and then."""
        if self._writer is not None and self._writer.is_over(self._log.clock(), self._log.wall()):
            self.close()

    def close(self) -> None:
        """Ends the segment; what is appended later begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def take(self) -> Tally:
        """What became of the rows since this was asked last."""
        tally, self._tally = self._tally, Tally()
        return tally

    def _encoder_for(self, rows: LoggedRows) -> RowEncoder:
        if self._encoder is None:
            prediction = rows.outputs.arrays["prediction"].shape[1:] if self._spec.task == "regression" else ()
            self._encoder = RowEncoder(head_for(self._spec, self._version, prediction), self._log.hash_key)
        return self._encoder

    def _segment(self, rows: LoggedRows) -> _Segment:
        """The segment that is open, or a new one.

        Raises:
            OSError: There can be none.
        """
        if self._writer is not None and self._writer.is_over(self._log.clock(), rows.time):
            self.close()
        if self._writer is None:
            day = int(rows.time // _DAY_S)
            file = self._log.new_file(self._spec.name, day)
            self._writer = _Segment(file, self._encoder_for(rows).head, day=day, until=self._log.clock() + SEGMENT_S)
        return self._writer

    def _sampled(self, rows: LoggedRows) -> LoggedRows:
        """The rows of the requests that are in the sample, by their ids."""
        from xxhash import xxh3_64_intdigest  # noqa: PLC0415  only where a sample is wanted

        below = self._sample_below
        chosen = [n for n, i in enumerate(rows.request_ids) if xxh3_64_intdigest(i.encode("utf-8", "replace")) < below]
        self._tally.sampled_out += rows.outputs.n
        sizes = rows.rows or [1] * len(rows.request_ids)
        starts = np.cumsum([0, *sizes])
        picked = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in chosen]) if chosen else np.zeros(0, np.intp)
        self._tally.sampled_out -= len(picked)
        return LoggedRows(
            rows.batch.take(picked), rows.outputs.pick(picked),
            [rows.request_ids[n] for n in chosen], [rows.arms[n] for n in chosen], [rows.keys[n] for n in chosen],
            [rows.latencies[n] for n in chosen], [sizes[n] for n in chosen], rows.time, rows.is_cached,
        )  # fmt: skip


class _Segment:
    """One file, open for writing and locked."""

    def __init__(self, file: Path, head: bytes, *, day: int, until: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._day = day
        self._until = until
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._size = 0
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.write(head)
        except OSError:
            os.close(self._file)
            with contextlib.suppress(OSError):
                file.unlink()
            raise

    def write(self, message: bytes) -> int:
        """Hands a message to the operating system, whole or not at all; returns its bytes.

        Raises:
            OSError: It does not take it.
        """
        written = 0
        try:
            while written < len(message):
                written += os.write(self._file, message[written:] if written else message)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += written
        return written

    def is_over(self, now: float, wall: float) -> bool:
        """Whether it is large, old, or of another day."""
        return self._size >= SEGMENT_BYTES or now >= self._until or int(wall // _DAY_S) != self._day

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)
