"""What the demo prints at the end: what happened and why, what was counted, what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from load_tests.demo.record import METRICS, Counts, Promise, Record

_LEFT_OUT: Final = ("pause-over", "unloaded", "loaded")
_LONGEST: Final = 300
_MONTH: Final = 3


def print_record(record: Record, console: Console) -> None:
    """Prints all tables."""
    console.print(timeline_table(record))
    console.print(quality_table(record))
    console.print(drift_table(record))
    console.print(counts_table(record.counts))
    console.print(promises_table(record.promises))
    verdict = ("every promise held", "bold green") if record.kept_all else ("a promise did not hold", "bold red")
    console.print(Text.assemble(verdict, f", in {record.took_s:.0f} s"))


def timeline(record: Record) -> list[tuple[str, ...]]:
    """What happened, the oldest first: seconds since the begin, the month that was replayed, who, what and why."""
    told = [(e["time"], e["who"], e["kind"], _short(e)) for e in record.events if e["kind"] not in _LEFT_OUT]
    if record.killed:
        told.append((record.killed_at, "the demo", "killed", f"process {record.killed}, a worker, got SIGKILL"))
    told.sort(key=lambda line: line[0])
    return [(f"{time - record.began:.0f} s", record.month_at(time), *rest) for time, *rest in told]


def timeline_table(record: Record) -> Table:
    """What happened, and why."""
    table = _table("What happened", "at", "in", "who", "what", "why")
    for line in timeline(record):
        table.add_row(*line)
    return table


def quality_table(record: Record) -> Table:
    """How good each version's answers were, month by month."""
    table = _table("Quality by month, version and arm", "month", "version", "arm", "rows", "with truth", *METRICS)
    for month in record.months:
        for q in month.quality:
            figures = [f"{q.metrics[name][0]:.4f}" if name in q.metrics else "" for name in METRICS]
            table.add_row(month.name[:_MONTH], q.version, q.arm, f"{q.predictions:,}", f"{q.labelled:,}", *figures)
    return table


def drift_table(record: Record) -> Table:
    """What drifted, month by month."""
    table = _table("Drift by month and version", "month", "version", "rows", "outcome", "what")
    for month in record.months:
        for d in month.drift:
            table.add_row(month.name[:_MONTH], d.version, f"{d.rows:,}", d.outcome, d.summary)
    return table


def counts_table(counts: Counts) -> Table:
    """What was counted."""
    table = _table("What was counted", "what", "how many")
    for name, value in msgspec.structs.asdict(counts).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    return table


def promises_table(promises: list[Promise]) -> Table:
    """What was promised."""
    table = _table("What is promised", "", "promise", "found")
    for promise in promises:
        mark = Text("kept", style="green") if promise.holds else Text("broken", style="bold red")
        table.add_row(mark, promise.text, promise.found)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("rows", "with truth", "how many", *METRICS) else "left")
    return table


def _short(event: Mapping[str, Any]) -> str:
    message = str(event["message"])
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
