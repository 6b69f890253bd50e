"""What of a batch, or of a remembered answer, goes into the inference log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ekiben.monitoring.log_rows import LoggedRows
from ekiben.serving.batch_run import Answer, BatchReport, Pending


def logged_rows(report: BatchReport, arms: Sequence[str], time: float, *, is_shadow: bool = False) -> list[LoggedRows]:
    """The answered rows of a batch: at once where it was answered whole, else a part for each run that it took.

    Args:
        report: The batch.
        arms: For which arm, a request each.
        time: When it was answered, seconds since the epoch.
        is_shadow: Whether nobody waited for it.
    """
    ended = math.nan if is_shadow else report.ended
    first = report.results[0]
    if report.is_whole and isinstance(first, Answer):
        whole = _of(report.members, first, ended, time)
        if whole is None:
            return []
        whole.arms += arms
        return [whole]
    of_run: dict[int, list[int]] = {}
    for n, result in enumerate(report.results):
        if isinstance(result, Answer):
            of_run.setdefault(id(result.outputs), []).append(n)
    parts = []
    for places in of_run.values():
        answers = [answer for n in places if isinstance(answer := report.results[n], Answer)]
        part = _of([report.members[n] for n in places], answers[0], ended, time)
        if part is not None:
            part.arms += [arms[n] for n in places]
            parts.append(_without_others(part, answers))
    return parts


def _of(members: list[Pending], answer: Answer, ended: float, time: float) -> LoggedRows | None:
    """Requests that were answered by one run, one of whose answers this is; their arms are to be said yet."""
    batch, outputs = answer.batch, answer.outputs
    if batch is None:
        return None
    calls = [pending.call for pending in members]
    return LoggedRows(
        batch=batch,
        outputs=outputs,
        request_ids=["" if call is None else call.request_id for call in calls],
        arms=[],
        # Where the request's id is the routing key, it is said already.
        keys=["" if call is None or (key := call.key) is None or key is call.request_id else key for call in calls],
        latencies=[ended - pending.received for pending in members],
        rows=[pending.n for pending in members] if outputs.n > len(members) else None,
        time=time,
    )


def reused_rows(call: Any, answer: Answer, latency_s: float, time: float) -> LoggedRows:
    """The rows of a request that was answered without being computed.

    Args:
        call: The request.
        answer: All rows of its outputs, with what was asked.
        latency_s: From its arrival to its answer, seconds.
        time: When it was answered, seconds since the epoch.
    """
    assert answer.batch is not None  # what was looked up is there
    return LoggedRows(
        batch=answer.batch,
        outputs=answer.outputs,
        request_ids=[call.request_id],
        arms=[call.record.name],
        keys=["" if call.key is None or call.key is call.request_id else call.key],
        latencies=[latency_s],
        rows=[answer.outputs.n] if answer.outputs.n > 1 else None,
        time=time,
        is_cached=True,
    )


def _without_others(part: LoggedRows, answers: list[Answer]) -> LoggedRows:
    """Without rows of the run that answer nobody: their request was answered at its deadline."""
    rows = np.concatenate([np.arange(answer.start, answer.stop) for answer in answers])
    if len(rows) < part.outputs.n:
        part.batch, part.outputs = part.batch.take(rows), part.outputs.pick(rows)
        part.rows = [answer.stop - answer.start for answer in answers]
    return part
