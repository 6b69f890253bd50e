"""What a training run shows while it runs: one line a step, a bar where the end is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]


class Steps:
    """The steps of one run, as people follow them.

    Args:
        console: Where they are shown. The bars move on a terminal only; the line a step leaves is written anywhere.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    @contextmanager
    def step(self, what: str, *, total: int | None = None) -> Iterator[Step]:
        """One step: a moving bar meanwhile, then one line with what came of it and how long it took.

        Args:
            what: What is done, for example ``Read the flights``.
            total: How many units of work there are, if that is known.
        """
        started = self._clock()
        columns = [SpinnerColumn(), TextColumn("{task.description}"), *([BarColumn(), MofNCompleteColumn()] if total else [])]
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            step = Step(lambda units: bar.update(task, advance=units))
            yield step
        told = f": {step.told}" if step.told else ""
        taken = f"[dim]({self._clock() - started:.1f} s)[/dim]"
        self._console.print(f"[green]✓[/green] {escape(what + told)} {taken}", highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something people should know, on a line of its own."""
        self._console.print(f"[yellow]![/yellow] {escape(text)}", highlight=False, soft_wrap=True)


class Step:
    """A step under way.

    Attributes:
        told: What came of it.
    """

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.told = ""

    def tell(self, what: str) -> None:
        """Says what came of it."""
        self.told = what
