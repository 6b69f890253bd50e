"""The raw ceiling: the session alone, in one process and one thread, without a server.

As a program: ``python -m load_tests.bench.raw_session MODEL.onnx ROWS.json SECONDS`` writes one `RawSpeed` as JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from load_tests.bench.figures import percentile
from load_tests.bench.graphs import Floats, open_session

BATCHES: Final = (1, 8, 32, 128)
_WARM_RUNS: Final = 3


class RawSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """What the session does.

    Attributes:
        rows_per_s: Batch size → rows a second.
        run_p50_ms: Median time of a run with one row.
    """

    rows_per_s: dict[int, float]
    run_p50_ms: float

    @property
    def best_rows_per_s(self) -> float:
        """At whatever batch size is fastest."""
        return max(self.rows_per_s.values())


def measure(run: Callable[[Floats], Any], rows: Floats, seconds: float, clock: Callable[[], float] = time.perf_counter) -> RawSpeed:
    """Times a session.

    Args:
        run: Runs it on a batch ``[n, features]``.
        rows: Rows to run, ``[m, features]``; repeated where a batch needs more.
        seconds: How long to measure each batch size.
        clock: Seconds, monotonic.
    """
    rates, run_p50_ms = {}, 0.0
    for batch in BATCHES:
        times = _run_times(run, _batches(rows, batch), seconds, clock)
        rates[batch] = round(len(times) * batch / sum(times), 1)
        if batch == 1:
            run_p50_ms = percentile(times, 50) * 1000
    return RawSpeed(rows_per_s=rates, run_p50_ms=run_p50_ms)


def _batches(rows: Floats, batch: int) -> list[Floats]:
    """The rows in batches of one size, as many as hold each row once at least."""
    count = -(-len(rows) // batch)
    repeated = np.tile(rows, (-(-count * batch // len(rows)), 1))
    return [np.ascontiguousarray(repeated[n * batch : (n + 1) * batch]) for n in range(count)]


def _run_times(run: Callable[[Floats], Any], batches: list[Floats], seconds: float, clock: Callable[[], float]) -> list[float]:
    for n in range(_WARM_RUNS):
        run(batches[n % len(batches)])
    times: list[float] = []
    end = clock() + seconds
    now = clock()
    while now < end:
        run(batches[len(times) % len(batches)])
        after = clock()
        times.append(after - now)
        now = after
    return times


def main() -> None:
    """Reads the arguments, measures, writes the result."""
    file, rows_file, seconds = sys.argv[1:]
    rows = np.asarray(msgspec.json.decode(Path(rows_file).read_bytes()), np.float32)
    session = open_session(Path(file))
    speed = measure(lambda batch: session.run(["y"], {"x": batch}), rows, float(seconds))
    sys.stdout.buffer.write(msgspec.json.encode(speed))


if __name__ == "__main__":
    main()
