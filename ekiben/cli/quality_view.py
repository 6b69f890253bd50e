"""Quality as people read it: a line for each slice, and all metrics of a version's rows as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from ekiben.cli.printing import print_note, print_table

if TYPE_CHECKING:
    from ekiben.monitoring.ground_truth import Coverage
    from ekiben.monitoring.quality import QualityReport
    from ekiben.monitoring.resampling import Estimate

_HEADINGS: Final = ("VERSION", "ARM", "SEGMENT", "FROM", "TO", "ROWS", "TRUTH", "DUE", "METRIC", "VALUE", "HELD OUT", "OUTCOME")
_METRICS: Final = ("METRIC", "VALUE", "HELD OUT")


def print_quality(reports: Sequence[QualityReport]) -> None:
    """Prints reports; at least one."""
    print_table(_HEADINGS, [_line(report) for report in reports])
    for report in reports:
        if report.arm or report.segment is not None:
            continue
        title = f"{report.model}:{report.version}, {_day(report.since)} to {_day(report.until)}: {report.outcome}"
        click.echo()
        if report.metrics:
            print_table(_METRICS, list(_metrics(report)), title=title)
        else:
            click.echo(title)
        click.echo(report.summary)
        for name, reason in report.reasons.items():
            print_note(f"{report.version} has no {name}: {reason}")


def _line(report: QualityReport) -> tuple[str, ...]:
    segment = "" if report.segment is None else f"{report.segment.field} {report.segment.value}"
    estimate = report.metrics.get(report.metric)
    return (
        report.version,
        report.arm or "all",
        segment or "all",
        _day(report.since),
        _day(report.until),
        f"{report.predictions:,}",
        _share(report.labelled, report.predictions),
        _due(report.coverage),
        report.metric,
        "-" if estimate is None else _estimate(estimate),
        _held_out(report, report.metric),
        report.outcome,
    )


def _metrics(report: QualityReport) -> Iterator[tuple[str, str, str]]:
    for name, estimate in report.metrics.items():
        yield name, _estimate(estimate), _held_out(report, name)


def _held_out(report: QualityReport, name: str) -> str:
    value = report.holdout.get(name)
    return "-" if value is None else f"{value:.4g}"


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _due(coverage: Coverage) -> str:
    return _share(coverage.due_labelled, coverage.due)


def _share(k: int, n: int) -> str:
    return f"{100 * k / n:.3g} %" if n else "-"


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
