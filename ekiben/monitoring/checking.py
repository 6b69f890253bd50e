"""Checking: looks at the drift and the quality of a model's versions when that is due, and keeps what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ekiben.model.rollout_spec import seconds
from ekiben.monitoring.check_due import AT_MOST_EVERY_S, FIRST_LOOK_S, Count, Due, due_of, quality_window_of, window_of
from ekiben.monitoring.watched import Watched
from ekiben.state.checks import Check, Checks, Kind
from ekiben.state.truth import Truths

if TYPE_CHECKING:
    import pyarrow as pa

    from ekiben.monitoring.drift_check import LogRows
    from ekiben.monitoring.ground_truth import Joined
    from ekiben.monitoring.quality import QualityReport

SETTLE_S: Final = 2.0
"""Younger rows are left to the next check: their batch may not be in the log yet."""

_SEGMENTS: Final = 20
_NEEDED: Final = ("pyarrow", "scipy", "sklearn")


class Checker:
    """Checks versions.

    Args:
        log: The inference log.
        checks: Where checks are kept.
        truths: Ground truth.

    Attributes:
        missing: Libraries that checks need and that are not installed here.
    """

    def __init__(self, log: LogRows, checks: Checks, truths: Truths) -> None:
        self.missing = [name for name in _NEEDED if find_spec(name) is None]
        self._log = log
        self._checks = checks
        self._truths = truths
        self._tried: dict[str, float] = {}

    def due(self, champion: Watched, now: float) -> Due:
        """Whether a model's checks are due.

        Args:
            champion: Its champion.
            now: Seconds since the epoch.

        Raises:
            StateError: The control database does not answer.
            LogError: The log cannot be read.
        """
        last = self._last(champion, "drift")
        until = now - SETTLE_S
        since = min(last.until if last is not None else until - FIRST_LOOK_S, until)
        rows = self._log.count(champion.model, since=since, until=until)
        return due_of(champion.spec.monitor, last=last, rows=rows, newest_truth=self._truths.newest(champion.model), now=now)

    def check_if_due(self, versions: Sequence[Watched], now: float) -> list[Check]:
        """Checks a model's versions, its champion first, if that is due; returns what was found and kept.

        What failed is not tried again for a minute.

        Raises:
            StateError, LogError, ArtifactError: As of `check`.
        """
        model = versions[0].model
        if now - self._tried.get(model, float("-inf")) < AT_MOST_EVERY_S or not self.due(versions[0], now).is_due:
            return []
        self._tried[model] = now
        return self.check(versions, now)

    def check(self, versions: Sequence[Watched], now: float) -> list[Check]:
        """Checks versions of one model now; returns what was found and kept.

        Raises:
            StateError: The control database does not answer.
            LogError: The log cannot be read.
            ArtifactError: A version's profile cannot be read.
        """
        found = []
        for watched in versions:
            for check in (self._drift(watched, now), *self._quality(watched, now)):
                self._checks.add(check)
                found.append(check)
        return found

    def _last(self, watched: Watched, kind: Kind) -> Check | None:
        return next(iter(self._checks.find(watched.model, kind=kind, version=watched.version, limit=1)), None)

    def _count(self, model: str) -> Count:
        return lambda since, until: self._log.count(model, since=since, until=until)

    def _drift(self, watched: Watched, now: float) -> Check:
        from ekiben.monitoring.drift_check import check_drift  # noqa: PLC0415  who checks nothing need not have pyarrow

        last = self._last(watched, "drift")
        since, until = window_of(watched.spec.monitor, last=last, until=now - SETTLE_S, count=self._count(watched.model))
        log = _WithShadows(self._log) if watched.is_shadow else self._log
        report = check_drift(log, watched.spec, watched.artifact.profile(), watched.version, since=since, until=until)
        return Check(
            model=watched.model,
            version=watched.version,
            kind="drift",
            time=now,
            since=since,
            until=until,
            rows=report.rows,
            outcome=report.outcome,
            summary=report.summary,
            report=msgspec.to_builtins(report),
        )

    def _quality(self, watched: Watched, now: float) -> list[Check]:
        """The quality of all answers of a version, with its segments, and where it has several arms that of each."""
        from ekiben.monitoring.ground_truth import joined  # noqa: PLC0415  as above

        spec = watched.spec
        since, until = quality_window_of(spec.monitor, until=now - SETTLE_S, count=self._count(watched.model))
        found = joined(
            self._log,
            self._truths,
            watched.model,
            since=since,
            until=until,
            version=watched.version,
            columns=["version", "arm", "outputs", *(f"features.{name}" for name in spec.monitor.segments)],
            shadows=watched.is_shadow,
            truth_within_s=seconds(spec.monitor.truth_within),
            now=now,
        )
        arms = sorted(set(found.table["arm"].drop_null().unique().to_pylist())) if found.table.num_rows else []
        reports = [self._quality_of(watched, found, since, until, arm) for arm in ("", *(arms if len(arms) > 1 else ()))]
        segments = self._segments(watched, found, since, until)
        return [_quality_check(report, now, segments if not report.arm else []) for report in reports]

    @staticmethod
    def _quality_of(watched: Watched, found: Joined, since: float, until: float, arm: str) -> QualityReport:
        from ekiben.monitoring.quality import quality_of  # noqa: PLC0415  as above

        holdout = watched.artifact.manifest.metrics
        return quality_of(found, watched.spec, since=since, until=until, version=watched.version, arm=arm, holdout=holdout)

    @staticmethod
    def _segments(watched: Watched, found: Joined, since: float, until: float) -> list[Any]:
        """Reports of the segments that the spec names."""
        from ekiben.monitoring.quality import quality_of  # noqa: PLC0415  as above
        from ekiben.monitoring.segments import segments_of  # noqa: PLC0415

        version, spec = watched.version, watched.spec
        segments = [segment for field in spec.monitor.segments for segment in segments_of(found.table, field)[:_SEGMENTS]]
        return [
            msgspec.to_builtins(quality_of(found, spec, since=since, until=until, version=version, segment=segment)) for segment in segments
        ]


def _quality_check(report: QualityReport, now: float, segments: list[Any]) -> Check:
    figures: dict[str, Any] = msgspec.to_builtins(report)
    return Check(
        model=report.model,
        version=report.version,
        kind="quality",
        arm=report.arm,
        time=now,
        since=report.since,
        until=report.until,
        rows=report.predictions,
        outcome=report.outcome,
        summary=report.summary,
        report=figures | ({"segments": segments} if segments else {}),
    )


class _WithShadows:
    """The log with the rows that shadows computed: those of a version that nobody else is answered by."""

    def __init__(self, log: LogRows) -> None:
        self._log = log

    def read(
        self,
        model: str,
        *,
        since: float,
        until: float,
        columns: Sequence[str] | None = None,
        version: str | None = None,
        shadows: bool = False,  # noqa: ARG002  they are wanted in any case
    ) -> pa.Table:
        """See `LogRows`."""
        return self._log.read(model, since=since, until=until, columns=columns, version=version, shadows=True)

    def count(self, model: str, *, since: float, until: float) -> int:
        """See `LogRows`."""
        return self._log.count(model, since=since, until=until)
