"""What of the inference log goes, and when: rows older than a model keeps them, and the oldest beyond its budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.log_folder import LogPart, TailSegment, date_of

_DAY_S: Final = 86_400
_MEGABYTE: Final = 1_000_000


def oldest_date(spec: LogSpec, *, now: float) -> str:
    """The first date whose rows stay; ``now`` is seconds since the epoch."""
    return date_of(now - spec.retention_days * _DAY_S)


def outlived(parts: Sequence[LogPart], spec: LogSpec, *, now: float) -> list[LogPart]:
    """The files and segments that must go, the oldest first.

    A partition is as old as its last moment, so that no row goes before its time. Of one date, files go by name, which
    begins with the time of day, and then segments by when they were written last: they hold what is in no file yet.

    Args:
        parts: Those of a model, wherever they are.
        spec: How long and how much the model keeps.
        now: Seconds since the epoch.
    """
    first = oldest_date(spec, now=now)
    in_order = sorted(parts, key=_age)
    gone = [part for part in in_order if part.date < first]
    excess = sum(part.size_bytes for part in in_order[len(gone) :]) - spec.max_mb * _MEGABYTE
    for part in in_order[len(gone) :]:
        if excess <= 0:
            break
        gone.append(part)
        excess -= part.size_bytes
    return gone


def _age(part: LogPart) -> tuple[str, bool, float, str]:
    if isinstance(part, TailSegment):
        return part.date, True, part.time, part.name
    return part.date, False, 0.0, part.name
