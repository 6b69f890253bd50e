"""The page of the report: what was promised, what happened, the charts and the figures, in one file beside the charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

import msgspec

from load_tests.demo.record import METRICS, Record
from load_tests.demo.tables import timeline

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1f2933; }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e1e6eb; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% } .kept { color: #22763c } .broken { color: #b3261e; font-weight: 600 }
"""
_NUMBER: Final = frozenset("0123456789.,")


def page(record: Record) -> str:
    """The page as HTML."""
    began = f"{datetime.fromtimestamp(record.began, UTC):%Y-%m-%d %H:%M} UTC"
    verdict = "every promise held" if record.kept_all else "a promise did not hold"
    counts = record.counts
    months = f"{record.months[0].name} to {record.months[-1].name}" if record.months else "no month"
    lead = (
        f"{counts.asked:,} flights, {months} 2013, in {record.took_s:.0f} s; {counts.failures} requests failed; process "
        f"{record.killed} was killed on the way."
    )
    kept = [("kept" if p.holds else "broken", p.text, p.found) for p in record.promises]
    quality = [
        (m.name, q.version, q.arm, f"{q.predictions:,}", f"{q.labelled:,}", *(_figure(q.metrics.get(name)) for name in METRICS))
        for m in record.months
        for q in m.quality
    ]
    drift = [(m.name, d.version, f"{d.rows:,}", d.outcome, d.summary) for m in record.months for d in m.drift]
    parts = [
        f"<h1>flight_delay: {escape(verdict)}</h1><p>{escape(lead)}</p><p>{escape(began)}</p>",
        _section("What was promised", ("", "promise", "found"), kept),
        '<h2>Who answered</h2><img src="activity.png" alt="Answers a second by version, with what happened">',
        _section("What happened, and why", ("at", "in", "who", "what", "why"), timeline(record)),
        '<h2>Quality</h2><img src="quality.png" alt="Metrics by month and version">',
        _section("", ("month", "version", "arm", "rows", "with truth", *METRICS), quality),
        '<h2>Drift</h2><img src="drift.png" alt="Population stability index by column and month">',
        _section("", ("month", "version", "rows", "outcome", "what"), drift),
        _section("What was counted", ("what", "how many"), [(n, f"{v:,}") for n, v in msgspec.structs.asdict(counts).items()]),
    ]
    head = f'<meta charset="utf-8"><title>flight_delay: {escape(verdict)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _section(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"{f'<h2>{escape(title)}</h2>' if title else ''}<table><tr>{head}</tr>{body}</table>"


def _cell(text: str) -> str:
    kind = ' class="n"' if text and set(text) <= _NUMBER else f' class="{text}"' if text in ("kept", "broken") else ""
    return f"<td{kind}>{escape(text)}</td>"


def _figure(found: tuple[float, float | None, float | None] | None) -> str:
    return "" if found is None else f"{found[0]:.4f}"
