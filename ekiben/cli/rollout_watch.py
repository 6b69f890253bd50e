"""Following a rollout: a live view on a terminal, a line for each change elsewhere, until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

import click

from ekiben.errors import StateError

if TYPE_CHECKING:
    from ekiben.rollout.views import StatusView

EXIT_CODE: Final = {"Completed": 0, "RolledBack": 3, "Aborted": 3}
"""How `ekiben rollout status --watch` ends, by the rollout's status."""

INTERRUPTED: Final = 130
_EVERY_S: Final = 0.5

Shows = Callable[["StatusView", str], None]
"""Shows a rollout, and what keeps it from being newer."""


def watch(ask: Callable[[], StatusView], *, as_json: bool, sleep: Callable[[float], None], again: str) -> int:
    """Shows a rollout until it ends or somebody presses Ctrl-C.

    Args:
        ask: The rollout now.
        as_json: Lines of JSON instead.
        sleep: Waits so many seconds.
        again: The command that shows it again.

    Returns:
        The exit code: 0 Completed, 3 RolledBack or Aborted, 130 interrupted.

    Raises:
        EkibenError: It cannot be asked for. Once it was shown, a database or server that does not answer is waited for.
    """
    try:
        view = ask()
        with _display(as_json=as_json) as show:
            problem = ""
            while True:
                show(view, problem)
                if view.ended:
                    return EXIT_CODE.get(view.status, 0)
                sleep(_EVERY_S)
                try:
                    view, problem = ask(), ""
                except StateError as e:
                    problem = str(e)
    except KeyboardInterrupt:
        click.echo(f"it goes on; `{again}` shows it again", err=True)
        return INTERRUPTED


def _display(*, as_json: bool) -> AbstractContextManager[Shows]:
    if as_json:
        return _json_lines()
    return _live() if sys.stdout.isatty() else _lines()


@contextmanager
def _json_lines() -> Iterator[Shows]:
    import msgspec  # noqa: PLC0415  `ekiben --help` prints none

    from ekiben.cli.rollout_view import state_of  # noqa: PLC0415

    last: object = None

    def show(view: StatusView, problem: str) -> None:
        nonlocal last
        if not problem and state_of(view) != last:
            last = state_of(view)
            click.echo(msgspec.json.encode(view))

    yield show


@contextmanager
def _lines() -> Iterator[Shows]:
    from ekiben.cli.rollout_view import line, state_of  # noqa: PLC0415

    last: object = None

    def show(view: StatusView, problem: str) -> None:
        nonlocal last
        now = problem or state_of(view)
        if now != last:
            last = now
            click.echo(f"waits: {problem}" if problem else line(view))

    yield show


@contextmanager
def _live() -> Iterator[Shows]:
    from rich.console import Console, Group  # noqa: PLC0415  only a terminal needs rich
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ekiben.cli.rollout_view import rendered  # noqa: PLC0415

    with Live(console=Console(highlight=False), auto_refresh=False) as live:

        def show(view: StatusView, problem: str) -> None:
            note = [Text(f"waits: {problem}", style="yellow")] if problem else []
            live.update(Group(*note, rendered(view)), refresh=True)

        yield show
