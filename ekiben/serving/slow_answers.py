"""An example, now and then, of an answer that took longer than the latency budget: which request, and where its time went."""

from __future__ import annotations

import logging
from typing import Final

from ekiben.serving.batch_run import Answer, BatchReport

logger = logging.getLogger("ekiben.latency")

EVERY_S: Final = 60.0


class SlowAnswers:
    """Writes a warning for a slow answer, at most one a minute.

    Args:
        model, version: Whose answers they are.
        budget_s: What an answer may take, seconds.
    """

    def __init__(self, model: str, version: str, budget_s: float) -> None:
        self._tag = f"{model}:{version}"
        self._budget_s = budget_s
        self._silent_until = 0.0

    def look(self, report: BatchReport) -> None:
        """Looks at the request of a batch that waited longest; called for every batch."""
        ended = report.ended
        members = report.members
        if not members or ended - members[0].received <= self._budget_s or ended < self._silent_until:
            return
        if not isinstance(report.results[0], Answer):
            return
        self._silent_until = ended + EVERY_S
        slow = members[0]
        total_s = ended - slow.received
        logger.warning(
            "%s answered request %s in %.1f ms, over its budget of %g ms: %.0f %% read and decoded, %.0f %% queued, "
            "%.0f %% computed in a batch of %d rows; the next example in %.0f s at the earliest",
            self._tag,
            slow.call.request_id if slow.call is not None else "(none)",
            total_s * 1000,
            self._budget_s * 1000,
            100 * (slow.queued - slow.received) / total_s,
            100 * (report.started - slow.queued) / total_s,
            100 * (ended - report.started) / total_s,
            report.rows,
            EVERY_S,
        )
