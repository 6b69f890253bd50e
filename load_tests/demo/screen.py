"""What the demo shows while it runs: each step, each event as it happens, each month's figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from load_tests.demo.record import METRICS, Month

_VERDICTS: Final = {"ok": "green", "bad": "bold red", "unknown": "yellow"}
_LONGEST: Final = 200
_COLUMNS: Final = 4
# Pauses that end, and steps of which the next line tells, would bury what matters.
_LEFT_OUT: Final = ("pause-over", "unloaded")


class Screen:
    """Shows it.

    Args:
        console: Where.
        clock: Monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        bar = BarColumn(bar_width=30)
        self._progress = Progress(TextColumn("{task.description}"), bar, MofNCompleteColumn(), TimeElapsedColumn(), console=console)
        self._task: TaskID | None = None

    def step(self, text: str) -> None:
        """Something begins."""
        self._say(text, "bold")

    def event(self, event: Mapping[str, Any]) -> None:
        """Something happened to the model."""
        if event["kind"] not in _LEFT_OUT:
            self._say(f"  {event['kind']}: {event['message']}"[:_LONGEST], "cyan")

    def month_begins(self, month: int, flights: int) -> None:
        """A month is replayed."""
        self._task = self._progress.add_task(f"{month:02}/2013", total=flights)
        self._progress.start()

    def asked(self, flights: int) -> None:
        """So many of the month's flights were asked."""
        if self._task is not None:
            self._progress.update(self._task, completed=flights)

    def month_ends(self, month: Month) -> None:
        """A month is over, and was checked."""
        self.close()
        self._console.print(month_table(month))
        for drift in month.drift:
            self._say(f"  drift of {drift.version}: {drift.summary}"[:_LONGEST], _VERDICTS[drift.outcome])

    def close(self) -> None:
        """Takes the progress away."""
        self._progress.stop()
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _say(self, text: str, style: str) -> None:
        at = f"{self._clock() - self._began:5.0f} s  "
        self._console.print(Text.assemble((at, "dim"), (text, style)), soft_wrap=True)


def month_table(month: Month) -> Table:
    """The figures of a month."""
    words = [f"{month.asked:,} flights", f"{month.failures} failed", f"p95 {month.p95_ms:g} ms"]
    said = Text(month.said, style=_VERDICTS[month.verdict])
    table = Table(title=f"{month.name}: {', '.join(words)}", caption=said, title_justify="left", caption_justify="left")
    for heading in ("version", "arm", "rows", "with truth", *METRICS):
        table.add_column(heading, justify="left" if heading in ("version", "arm") else "right")
    for found in month.quality:
        figures = [_estimate(found.metrics.get(name)) for name in METRICS]
        table.add_row(found.version, found.arm or "all", f"{found.predictions:,}", f"{found.labelled:,}", *figures)
    return table


def _estimate(found: tuple[float, float | None, float | None] | None) -> str:
    if found is None:
        return ""
    value, low, high = found
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ± {max(high - value, value - low):.3f}"
