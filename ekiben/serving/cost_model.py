"""How long the model takes for b rows, learned from its own runs.

A straight line, ``seconds(b) = fixed + b · per_row``, fitted by least squares with exponentially fading weights, so that
it follows a machine that becomes slower or faster. A line is enough for what the batcher decides with it: whether a run is
short enough for the event loop, how long the queue is in seconds, and whether waiting for one more row pays.
"""

from __future__ import annotations

import math

WORTHWHILE = 0.02
_HANDOVER_S = 0.00005
"""What each batch costs outside the model: metrics, the event loop, perhaps a thread."""

_FADE = 0.99
_SPREAD = 1e-9


class CostModel:
    """The learned line.

    Attributes:
        fixed_s: Seconds a run costs whatever its rows.
        per_row_s: Seconds each row adds.
    """

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.per_row_s = 0.0
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learns from one run of so many rows."""
        n = self._n = self._n * _FADE + 1.0
        x = self._x = self._x * _FADE + rows
        y = self._y = self._y * _FADE + seconds
        xx = self._xx = self._xx * _FADE + rows * rows
        xy = self._xy = self._xy * _FADE + rows * seconds
        spread = xx - x * x / n
        # All runs of one size say nothing of the slope: keep it within what the mean allows.
        slope = (xy - x * y / n) / spread if spread > _SPREAD * xx else min(self.per_row_s, y / x)
        self.per_row_s = min(max(slope, 0.0), y / x)
        self.fixed_s = max(0.0, (y - self.per_row_s * x) / n)

    def seconds(self, rows: int) -> float:
        """Predicted seconds of one run of so many rows."""
        return self.fixed_s + rows * self.per_row_s

    def useful_rows(self, most: int) -> int:
        """Rows from which on a larger batch saves less than `WORTHWHILE` of a row's time, ``most`` at most.

        Gathering more would only make the batch's first rows wait for its last. A model that gains nothing from
        batches is run row by row.
        """
        saved, worthwhile = self.fixed_s + _HANDOVER_S, WORTHWHILE * self.per_row_s
        # Not by the quotient: a row may cost nothing, or so little that it overflows.
        return most if saved >= most * worthwhile else max(1, math.ceil(saved / worthwhile))

    def queue_seconds(self, rows: int, max_batch_size: int) -> float:
        """Predicted seconds to work off so many rows in batches of the size given."""
        return math.ceil(rows / max_batch_size) * self.fixed_s + rows * self.per_row_s
