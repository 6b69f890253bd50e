"""Rows for a report: those of a version and a time joined with ground truth, and the version's oldest ones to compare them with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.spec import ModelSpec
from ekiben.monitoring.ground_truth import ReadsLog, with_truth
from ekiben.state.truth import Truths

MOST_ROWS: Final = 50_000
"""Beyond that, every second, third … row is shown: charts of more look the same, and take a browser minutes."""

_COLUMNS: Final = ("request_id", "row", "time", "features", "outputs")
_ROWS_A_PIECE: Final = 500_000
_MICROSECOND_S: Final = 1e-6


@dataclass(frozen=True)
class Span:
    """Rows of a time.

    Attributes:
        since, until: They were answered in [since, until), seconds since the epoch.
        answered: How many there are.
        table: Those of them that are shown, evenly thinned, with ``actual`` and ``outcome`` beside them.
    """

    since: float
    until: float
    answered: int
    table: pa.Table


class ReportRows:
    """Reads the rows of one version.

    Args:
        log: The inference log.
        truths: Ground truth.
        spec: The version's.
        version: Which one.
        most_rows: How many rows are shown at most, of the window and of those it is compared with.
    """

    def __init__(self, log: ReadsLog, truths: Truths, spec: ModelSpec, version: str, *, most_rows: int = MOST_ROWS) -> None:
        self._log = log
        self._truths = truths
        self._spec = spec
        self._version = version
        self._most_rows = most_rows

    def window(self, since: float, until: float) -> Span:
        """The rows that were answered in [since, until), seconds since the epoch.

        Raises:
            LogError: The log cannot be read.
            StateError: The control database cannot be read.
        """
        answered = len(self._times(since, until))
        step = max(ceil(answered / self._most_rows), 1)
        # The rows of a long time are read piece by piece, as all of them might not fit into memory.
        ends = np.linspace(since, until, max(ceil(answered / _ROWS_A_PIECE), 1) + 1).tolist()
        pieces, seen = [], 0
        for begin, end in pairwise(ends):
            piece = self._log.read(self._spec.name, since=begin, until=end, columns=list(_COLUMNS), version=self._version)
            pieces.append(piece.take(np.arange(-seen % step, piece.num_rows, step)) if step > 1 else piece)
            seen += piece.num_rows
        kept = [piece for piece in pieces if piece.num_rows] or pieces[:1]
        table = pa.concat_tables(kept, promote_options="permissive")
        ids = pc.unique(table["request_id"]).to_pylist()
        return Span(since, until, answered, with_truth(table, self._truths.of(self._spec.name, ids)))

    def oldest_before(self, since: float, length_s: float) -> Span | None:
        """The version's oldest rows, as much time of them as the window has, and none of the window's.

        None where there are fewer than ``monitor.min_rows``.

        Args:
            since: When the window begins, seconds since the epoch.
            length_s: How long it is.

        Raises:
            LogError: The log cannot be read.
            StateError: The control database cannot be read.
        """
        times = self._times(0.0, since)
        if not len(times):
            return None
        first = int(times[0]) * _MICROSECOND_S
        found = self.window(first, min(first + length_s, since))
        return found if found.answered >= self._spec.monitor.min_rows else None

    def _times(self, since: float, until: float) -> Any:
        """When the version's rows were answered, in microseconds, rising."""
        found = self._log.read(self._spec.name, since=since, until=until, columns=["time", "version"], version=self._version)
        return pc.cast(found["time"], pa.int64()).to_numpy()
