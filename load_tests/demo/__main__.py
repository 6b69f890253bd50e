"""``python -m load_tests.demo``: the demo from start to end; exit code 1 where a promise did not hold."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Final

import click
import msgspec
from rich.console import Console

from load_tests.bench.servers import ServerFailed
from load_tests.demo.project import REPOSITORY, CommandFailed, Project
from load_tests.demo.record import Record
from load_tests.demo.report import write_report
from load_tests.demo.scenario import SHORT, WHOLE
from load_tests.demo.screen import Screen
from load_tests.demo.story import Story
from load_tests.demo.tables import print_record
from training.datasets import DataError

_STOPPED: Final = 130
_FAILED: Final = 2
_WIDTH: Final = 160


@click.command(help="Replays a year of flights against a real server, in minutes; ends with 1 where a promise did not hold.")
@click.option("--short", is_flag=True, help="Fewer months and flights.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there too.")
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "demo-report",
    help="Where charts and the page go. Default: demo-report in the project.",
)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="An empty folder to work in, which is kept.")
def main(*, short: bool, json_file: Path | None, folder: Path, work: Path | None) -> None:
    """The command."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    former = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    screen = Screen(console)
    try:
        with tempfile.TemporaryDirectory(prefix="ekiben-demo-") as temporary:
            root = work if work is not None else Path(temporary)
            record = _play(root, screen, short=short, folder=folder, console=console)
    except KeyboardInterrupt:
        console.print("stopped; nothing is left running")
        sys.exit(_STOPPED)
    except (CommandFailed, ServerFailed, DataError) as e:
        console.print(f"the demo cannot go on: {e}", style="red", markup=False, soft_wrap=True)
        sys.exit(_FAILED)
    finally:
        screen.close()
        for number, handler in former.items():
            signal.signal(number, handler)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    sys.exit(0 if record.kept_all else 1)


def _play(root: Path, screen: Screen, *, short: bool, folder: Path, console: Console) -> Record:
    scenario, form = (SHORT, "short") if short else (WHOLE, "whole")
    story = Story(scenario, form, Project(root, scenario), screen)
    record = asyncio.run(story.play())
    screen.step(f"Write {folder}")
    write_report(record, story.answers, folder)
    print_record(record, console)
    return record


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ends it as Ctrl-C does: with everything it started."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
