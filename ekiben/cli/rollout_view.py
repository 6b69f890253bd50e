"""A rollout for people: its tables, the same for a terminal and for a file, and the line of what has changed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from ekiben.cli.printing import print_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ekiben.rollout.views import ArmView, Interval, ShadowView, StatusView, StepView, WorkerView
    from ekiben.state.measurements import Measurement

_STYLES: Final = {
    "Successful": "green",
    "Completed": "green",
    "Failed": "bold red",
    "RolledBack": "bold red",
    "Aborted": "red",
    "Error": "magenta",
    "Inconclusive": "yellow",
    "Paused": "yellow",
    "Progressing": "cyan",
    "done": "green",
    "current": "bold cyan",
    "rolled-back": "bold red",
    "aborted": "red",
    "skipped": "yellow",
}
_ARM: Final = ("ARM", "VERSION", "WEIGHT", "REQ/S", "REQUESTS", "ERRORS", "ERROR RATE", "P50", "P95")
_MEASUREMENT: Final = ("METRIC", "OUTCOME", "CHALLENGER", "CHAMPION", "LIMIT", "N")
_SHOWN_WORKERS: Final = 8
_SHORT: Final = 12
_NUMBERS: Final = re.compile(r"\d+(\.\d+)?\s*(ms|[smhd%]\b)?\s*")


class Section(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
        headings: One a column; none for names and values.
        rows: The cells.
        title: A line above.
    """

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


def sections(view: StatusView) -> Iterator[Section]:
    """All there is to show of a rollout, what matters most first."""
    yield Section((), [(name, value) for name, value in _head(view) if value])
    if view.steps:
        yield Section(("", "STEP", "STATE", "BEGAN", "LASTED"), [_step(step, view.now) for step in view.steps])
    if view.arms:
        yield Section(_ARM, [_arm(arm) for arm in view.arms])
        errors = [(arm.arm, kind, str(n)) for arm in view.arms for kind, n in sorted(arm.errors_by_kind.items(), key=lambda e: -e[1])]
        if errors:
            yield Section(("ARM", "ERROR", "REQUESTS"), errors)
    if view.shadow is not None:
        yield Section((), [(name, value) for name, value in _shadow(view.shadow) if value], title=f"shadow {view.shadow.version}")
    if view.measurements:
        yield Section(_MEASUREMENT, [_measurement(m) for m in view.measurements])
        reasons = [(m.metric, m.message) for m in view.measurements if m.outcome != "Successful"]
        if reasons:
            yield Section((), reasons)
    odd = [w for w in view.workers if not w.follows or w.problems]
    if odd:
        yield Section(("WORKER", "FOLLOWS", "LOADED", "PROBLEM"), [_worker(w) for w in odd[:_SHOWN_WORKERS]])


def rendered(view: StatusView) -> RenderableType:
    """The tables for a terminal."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  only a terminal needs rich
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    tables = []
    for section in sections(view):
        table = Table(
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
            show_header=bool(section.headings),
            title=section.title or None,
            title_justify="left",
        )
        headings = section.headings or ("",) * len(section.rows[0])
        for heading, *column in zip(headings, *section.rows, strict=True):
            table.add_column(
                heading, no_wrap=max(map(len, column)) <= _SHORT, min_width=min(_SHORT - 4, max(map(len, column)))
            )  # what is long gives way first
        for row in section.rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell.split(":", 1)[0], ""), overflow="fold") for cell in row))
        tables.append(table)
    return Group(*tables)


def print_status(view: StatusView) -> None:
    """Prints the tables: with colours on a terminal, plain elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415  only a terminal needs rich

        Console(highlight=False).print(rendered(view))
        return
    for section in sections(view):
        print_table(section.headings, section.rows, title=section.title)
        click.echo()


def line(view: StatusView) -> str:
    """Where a rollout stands, in a line."""
    shares = ", ".join(f"{arm.arm} {percent(arm.weight / 100)}" for arm in view.arms)
    current = next((f"step {s.index + 1} of {len(view.steps)}, {s.what}" for s in view.steps if s.state == "current"), "")
    outcomes = ", ".join(f"{m.metric} {m.outcome}" for m in view.measurements)
    parts = (view.status, current, shares, outcomes, view.message, f"next: {view.next}" if view.next else "")
    return f"{_clock(view.now)}  {'; '.join(part for part in parts if part)}"


def state_of(view: StatusView) -> tuple[object, ...]:
    """What makes a new line worth its place: everything in it but the numbers that always move."""
    return (
        view.status,
        view.message,
        view.step,
        tuple(s.state for s in view.steps),
        tuple((a.arm, a.weight) for a in view.arms),
        tuple((m.metric, m.outcome) for m in view.measurements),
        _NUMBERS.sub("", view.next),
    )


def percent(share: float) -> str:
    """A share for people."""
    return f"{share * 100:.4g} %"


def _head(view: StatusView) -> Iterator[tuple[str, str]]:
    yield "rollout", view.id
    yield "versions", f"{view.model}: {view.champion} → {view.challenger}" if view.challenger else f"{view.model}: {view.champion}"
    yield "status", f"{view.status}: {view.message}" if view.message else view.status
    yield "next", view.next
    yield "started", f"{_date(view.created)} by {view.created_by}"
    yield "ended", f"{_date(view.ended)}, after {lasted(view.ended - view.created)}" if view.ended else ""
    yield "controller", view.controller or ("" if view.ended else "none")
    yield "workers", _workers(view.workers)


def _workers(workers: tuple[WorkerView, ...]) -> str:
    if not workers:
        return "none"
    slowest = max((w.in_force_s for w in workers if w.in_force_s is not None), default=None)
    after = f"; in force {lasted(slowest)} after the change" if slowest is not None else ""
    return f"{sum(w.follows for w in workers)} of {len(workers)} follow{after}"


def _step(step: StepView, now: float) -> tuple[str, ...]:
    time_s = (step.ended or now) - step.began if step.began else 0.0
    mark = {"current": "▶", "done": "✓", "rolled-back": "✗", "aborted": "✗"}.get(step.state, "")
    return mark, step.what, step.state, _clock(step.began), lasted(time_s) if step.began else ""


def _arm(arm: ArmView) -> tuple[str, ...]:
    return (
        arm.arm,
        arm.version,
        percent(arm.weight / 100),
        f"{arm.requests_per_s:.4g}",
        str(arm.requests),
        str(arm.errors),
        _interval(arm.error_rate, 100, "%"),
        _ms(arm.p50_s),
        _interval(arm.p95_s, 1000, "ms"),
    )


def _shadow(shadow: ShadowView) -> Iterator[tuple[str, str]]:
    yield "rate", percent(shadow.rate)
    yield "rows", f"{shadow.compared} compared, {shadow.dropped} left out"
    yield "agreement", _interval(shadow.agreement, 100, "%")
    if shadow.mean_difference is not None:
        tail = f", 95 % below {shadow.p95_difference:.4g}" if shadow.p95_difference is not None else ""
        yield "difference", f"{shadow.mean_difference:.4g} on average{tail}"
    yield "errors", str(shadow.errors) if shadow.errors else ""
    if shadow.p95_compute_s is not None:
        champion = f" (champion {_ms(shadow.champion_p95_compute_s)})" if shadow.champion_p95_compute_s is not None else ""
        yield "p95 of a batch", _ms(shadow.p95_compute_s) + champion


def _measurement(m: Measurement) -> tuple[str, ...]:
    return (
        f"{m.metric} (dry run)" if m.dry_run else m.metric,
        m.outcome,
        _numbers(m.value, m.low, m.high),
        _numbers(m.champion_value, m.champion_low, m.champion_high),
        "" if m.limit is None else f"{m.limit:.4g}",
        str(m.n),
    )


def _worker(worker: WorkerView) -> tuple[str, ...]:
    return worker.id, "yes" if worker.follows else "not yet", ", ".join(worker.loaded), "; ".join(worker.problems)


def _interval(interval: Interval, factor: float, unit: str) -> str:
    if interval.value is None:
        return ""
    value = f"{interval.value * factor:.3g} {unit}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low * factor:.3g} to {interval.high * factor:.3g})"


def _numbers(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} ({low:.4g} to {high:.4g})"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.3g} ms"


def lasted(seconds: float) -> str:
    """How long something took, for people."""
    if seconds < 1:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")) if n]
    return " ".join(parts[:2])


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) if at else ""


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
