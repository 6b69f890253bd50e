"""``ekiben report``: an HTML file to look at, of what a version was asked and answered, and how right it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ekiben.cli.moments import moment_of
from ekiben.cli.printing import json_option, print_fields, print_json, print_note

if TYPE_CHECKING:
    from ekiben.monitoring.html_report import HtmlReport


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--html", "file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option("--version", metavar="V", help="A version, `latest` or an alias; left out, the champion.")
@click.option("--since", default="7d", show_default=True, help="A duration before --until, or a time: 2026-03-01, 2026-03-01T12:00Z.")
@click.option("--until", help="A time, or a duration ago; left out, now.")
@json_option
def report(name: str, *, file: Path, version: str | None, since: str, until: str | None, as_json: bool) -> None:
    """Write a report of MODEL with interactive charts into an HTML file.

    It shows how inputs, scores and classes are distributed, how they differ from the version's oldest rows in the inference log and,
    where the truth is known, how good the answers are. Made with Evidently, which `pip install 'ekiben[report]'` brings.
    """
    import time  # noqa: PLC0415  commands import what they need when they run

    end = time.time() if until is None else moment_of(until, time.time(), "--until")
    begin = moment_of(since, end, "--since")
    if begin >= end:
        raise click.UsageError("--since must be before --until")
    if not file.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(file.parent)!r}", param_hint="--html")
    made, problem = _made(name, version, begin, end)
    try:
        file.write_text(made.html, encoding="utf-8")
    except OSError as e:
        raise click.FileError(str(file), e.strerror) from e
    if problem:
        print_note(problem)
    _print(made, file, as_json=as_json)


def _made(name: str, version: str | None, since: float, until: float) -> tuple[HtmlReport, str]:
    """The report, and why rows may be missing in it."""
    from ekiben.monitoring.evidently_pages import EvidentlyPages  # noqa: PLC0415  as above
    from ekiben.monitoring.html_report import html_report  # noqa: PLC0415
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    from ekiben.monitoring.report_rows import ReportRows  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    found = open_registry(settings).resolve(name if version is None else f"{name}:{version}")
    manifest = found.artifact().manifest
    # First of all, as reading the log may take a while.
    pages, log = EvidentlyPages(), open_log(settings)
    rows = ReportRows(log, open_control(settings).truths, manifest.spec, found.version)
    made = html_report(rows, pages, manifest.spec, found.version, since=since, until=until, threshold=manifest.threshold)
    return made, log.problem


def _print(made: HtmlReport, file: Path, *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415  as above

    from ekiben.monitoring.html_report import facts_of  # noqa: PLC0415

    if as_json:
        about = {key: value for key, value in msgspec.to_builtins(made).items() if key != "html"}
        print_json({"file": str(file), **about})
        return
    print_fields([("file", str(file)), *facts_of(made)])
