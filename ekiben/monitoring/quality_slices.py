"""Quality apart: by time, by arm, by segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import pyarrow.compute as pc

from ekiben.model.spec import ModelSpec
from ekiben.monitoring.ground_truth import Joined
from ekiben.monitoring.quality import QualityReport, quality_of
from ekiben.monitoring.segments import segments_of

By = Literal["day", "week", "month"]

_DECEMBER: Final = 12


def windows_of(since: float, until: float, by: By | None) -> Iterator[tuple[float, float]]:
    """A time cut where days, weeks (on Mondays) or months begin, UTC; whole where it is not to be cut."""
    start = since
    while by is not None:
        end = _next(datetime.fromtimestamp(start, UTC), by).timestamp()
        if end >= until:
            break
        yield start, end
        start = end
    yield start, until


def quality_slices(
    found: Joined,
    spec: ModelSpec,
    *,
    since: float,
    until: float,
    version: str,
    by: By | None = None,
    segments: Sequence[str] = (),
    holdout: Mapping[str, float] | None = None,
) -> list[QualityReport]:
    """The quality of a version in each window of time: of all its rows, of each arm where it answered for several, of each segment.

    Windows without a row are left out.

    Args:
        found: The log joined with ground truth.
        spec: The version's spec.
        since: Rows answered from then on, seconds since the epoch.
        until: Rows answered before.
        version: The version.
        by: How time is cut.
        segments: Inputs by whose values it is measured apart.
        holdout: The version's metrics on held-out rows.
    """
    table = found.table.filter(pc.equal(found.table["version"], version))
    own = Joined(table, found.coverage, found.now, found.truth_within_s)
    arms = sorted(pc.unique(table["arm"]).drop_null().to_pylist())
    apart = [segment for field in segments for segment in segments_of(table, field)]
    reports = []
    for start, end in windows_of(since, until, by):
        whole = quality_of(own, spec, since=start, until=end, version=version, holdout=holdout)
        if not whole.predictions:
            continue
        parts = [quality_of(own, spec, since=start, until=end, version=version, arm=arm, holdout=holdout) for arm in arms if len(arms) > 1]
        parts += [quality_of(own, spec, since=start, until=end, version=version, segment=s, holdout=holdout) for s in apart]
        reports += [whole, *(part for part in parts if part.predictions)]
    return reports


def _next(moment: datetime, by: By) -> datetime:
    """When the next day, week or month begins."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if by == "day":
        return midnight + timedelta(days=1)
    if by == "week":
        return midnight + timedelta(days=7 - midnight.weekday())
    year, month = (midnight.year + 1, 1) if midnight.month == _DECEMBER else (midnight.year, midnight.month + 1)
    return midnight.replace(year=year, month=month, day=1)
