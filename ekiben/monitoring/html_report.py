"""A report to look at: one HTML file with interactive charts of what a version was asked and answered, and how right it was.

It is a page of our own that says what is shown, around pages of `ekiben.monitoring.evidently_pages`. It loads nothing from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from string import Template
from typing import Final, Protocol

import msgspec

from ekiben.errors import LogError
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.report_frames import Answers, Frames, answer_frames, data_frames
from ekiben.monitoring.report_rows import ReportRows

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font-family: system-ui, sans-serif; margin: 2em; color: #222 }
dt { float: left; clear: left; width: 9em; color: #666 }
dd { margin: 0 0 .3em 9em }
iframe { width: 100%; height: 90vh; border: 0 }
</style>
<script>
function fit(frame) {
  const body = frame.contentDocument.body
  body.style.margin = 0
  new ResizeObserver(() => { frame.style.height = body.scrollHeight + "px" }).observe(body)
}
</script>
</head>
<body>
<h1>$title</h1>
<dl>
$facts
</dl>
$sections
</body>
</html>
""")
_SECTION: Final = '<h2>{heading}</h2>\n<iframe title="{heading}" onload="fit(this)" srcdoc="{page}"></iframe>'


class Pages(Protocol):
    """What draws the charts; see `ekiben.monitoring.evidently_pages.EvidentlyPages`."""

    def of_data(self, frames: Frames) -> str:
        """A whole HTML page of what was asked and answered, or a `LogError`."""

    def of_answers(self, answers: Answers, spec: ModelSpec, threshold: float | None = None) -> str:
        """A whole HTML page of how good the answers are, or a `LogError`."""


class HtmlReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report, and what it shows.

    Attributes:
        model, version: Of which version.
        since, until: Rows answered in [since, until), seconds since the epoch.
        rows: How many were.
        shown: How many of them are shown.
        labelled: Of how many of those the truth is known.
        reference_since, reference_until: When the rows were answered that they are compared with; None where there are none.
        reference_rows: How many were.
        reference_shown: How many of them are shown.
        left_out: Column or part → why it is not shown.
        html: The page.
    """

    model: str
    version: str
    since: float
    until: float
    rows: int
    shown: int
    labelled: int
    reference_since: float | None = None
    reference_until: float | None = None
    reference_rows: int = 0
    reference_shown: int = 0
    left_out: dict[str, str] = {}
    html: str


def html_report(
    rows: ReportRows, pages: Pages, spec: ModelSpec, version: str, *, since: float, until: float, threshold: float | None = None
) -> HtmlReport:
    """Makes the report of the rows that a version answered in [since, until), seconds since the epoch.

    An artifact describes its training data and does not hold them; what the rows are compared with are the version's oldest ones.

    Args:
        rows: Where they are read.
        pages: What draws the charts.
        spec: The version's.
        version: Which one.
        since: When the rows were answered at the earliest.
        until: Before when they were.
        threshold: From which probability on a binary classifier predicts the positive class; None means 0.5.

    Raises:
        LogError: The version answered nothing in that time, or the log cannot be read.
        StateError: The control database cannot be read.
    """
    window = rows.window(since, until)
    if not window.answered:
        raise LogError(f"{spec.name}:{version} answered no row from {_time(since)} to {_time(until)}; --since and --until choose the time")
    reference = rows.oldest_before(since, until - since)
    table = None if reference is None else reference.table
    frames, answers = data_frames(window.table, table, spec), answer_frames(window.table, table, spec)
    left_out, sections = dict(frames.left_out), []
    try:
        sections.append(("Data", pages.of_data(frames)))
    except LogError as e:
        left_out["data"] = str(e)
    try:
        if isinstance(answers, str):
            left_out["performance"] = answers
        else:
            sections.append(("Performance", pages.of_answers(answers, spec, threshold)))
    except LogError as e:
        left_out["performance"] = str(e)
    if reference is None:
        left_out["drift"] = f"{spec.name}:{version} answered fewer than {spec.monitor.min_rows} rows before {_time(since)}"
    report = HtmlReport(
        model=spec.name,
        version=version,
        since=since,
        until=until,
        rows=window.answered,
        shown=window.table.num_rows,
        labelled=window.table.num_rows - window.table["actual"].null_count,
        reference_since=None if reference is None else reference.since,
        reference_until=None if reference is None else reference.until,
        reference_rows=0 if reference is None else reference.answered,
        reference_shown=0 if reference is None else reference.table.num_rows,
        left_out=left_out,
        html="",
    )
    return msgspec.structs.replace(report, html=_page(report, sections))


def facts_of(report: HtmlReport) -> Iterator[tuple[str, str]]:
    """What the report shows, in words: name and text."""
    yield "version", f"{report.model}:{report.version}"
    yield "rows", _span(report.rows, report.shown, report.since, report.until)
    if report.reference_since is None or report.reference_until is None:
        yield "compared with", "nothing"
    else:
        rows = _span(report.reference_rows, report.reference_shown, report.reference_since, report.reference_until)
        yield "compared with", f"the version's oldest rows in the log: {rows}"
    yield "truth", f"known of {report.labelled:,} of the {report.shown:,} rows shown"
    for name, why in report.left_out.items():
        yield "not shown", f"{name}: {why}"


def _page(report: HtmlReport, sections: list[tuple[str, str]]) -> str:
    facts = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts_of(report))
    drawn = "\n".join(_SECTION.format(heading=escape(heading), page=escape(page)) for heading, page in sections)
    return _PAGE.substitute(title=escape(f"{report.model}:{report.version}"), facts=facts, sections=drawn)


def _span(answered: int, shown: int, since: float, until: float) -> str:
    thinned = "" if shown == answered else f", {shown:,} of them shown"
    return f"{answered:,}, answered from {_time(since)} to {_time(until)}{thinned}"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
