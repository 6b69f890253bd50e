"""``ekiben log``: what models saw and said, asked in SQL, exported, looked at and compacted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ekiben.cli.moments import moment_of
from ekiben.cli.printing import json_option, print_json, print_note, print_table, size
from ekiben.shown_url import shown_url

if TYPE_CHECKING:
    from ekiben.model.monitor_spec import LogSpec
    from ekiben.monitoring.kept import Kept
    from ekiben.monitoring.log_status import LogStatus
    from ekiben.settings import Settings

_since = click.option("--since", help="Rows answered since then: a time, or a duration before now (7d).")
_until = click.option("--until", help="Rows answered before then; until now where it is left out.")


@click.group()
def log() -> None:
    """Look into the inference log: what models saw and said."""


@log.command()
@click.argument("sql")
@click.option("--model", help="Rows of this model alone.")
@_since
@_until
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def query(sql: str, model: str | None, since: str | None, until: str | None, *, as_json: bool, as_csv: bool) -> None:
    """Ask the log in SQL (DuckDB's).

    The views are predictions, shadows, ground_truth and joined (predictions with actual, outcome and truth_time). Inputs and
    outputs are structs: features.temp, outputs.prediction. The newest rows are in it at once. A query can change nothing.
    """
    from ekiben.cli.log_printing import print_answer  # noqa: PLC0415  commands import what they need when they run
    from ekiben.monitoring.log_query import LogQuery  # noqa: PLC0415
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    settings = load_settings()
    begin, end = _span(since, until)
    reader = open_log(settings)
    answer = LogQuery(reader, open_control(settings).truths).run(sql, model=model, since=begin, until=end)
    if reader.problem:
        print_note(f"rows that are nowhere but in {shown_url(settings.log_uri)} are missing: {reader.problem}")
    print_answer(answer, as_json=as_json, as_csv=as_csv)


@log.command()
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_since
@_until
@click.option("--shadows", is_flag=True, help="Rows too whose answers went nowhere.")
def export(model: str, file: Path, since: str | None, until: str | None, *, shadows: bool) -> None:
    """Write rows of MODEL into FILE: .parquet, .arrow or .csv; in .csv inputs are columns like features.temp."""
    from ekiben.monitoring.log_export import export as write  # noqa: PLC0415  commands import what they need when they run
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    begin, end = _span(since, until)
    reader = open_log(settings)
    rows = write(reader, model, file, since=begin, until=end, shadows=shadows)
    if reader.problem:
        print_note(f"rows that are nowhere but in {shown_url(settings.log_uri)} are missing: {reader.problem}")
    click.echo(f"{rows} rows of {model} are in {file}")


@log.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show what there is of each model."""
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415  commands import what they need when they run
    from ekiben.monitoring.log_status import status_of  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    reader = open_log(load_settings())
    found = [status_of(reader, model) for model in reader.models()]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("the log is empty")
        return
    headings = ("MODEL", "ROWS", "SIZE", "OLDEST", "NEWEST", "TAILS", "FILES", "NOT SHIPPED")
    print_table(headings, [_row(s) for s in found])
    for problem in {s.problem for s in found if s.problem}:
        print_note(problem)


@log.command()
@json_option
def compact(*, as_json: bool) -> None:
    """Turn finished parts of this host's log into Parquet, ship them, and delete what is too old; the monitor does so by itself.

    What other hosts shipped without pyarrow becomes Parquet too; without pyarrow here, finished parts are shipped as they are.
    """
    from ekiben.errors import LogError  # noqa: PLC0415  commands import what they need when they run
    from ekiben.monitoring.log_keeper import open_keeper  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    keeper = open_keeper(settings, _specs(settings))
    kept = keeper.run_once()
    if not kept.is_busy and not kept.problems:
        kept = kept.with_taken(keeper.take_in())
    if kept.is_busy:
        raise LogError("another process of this host is at it; a monitor does this by itself")
    if as_json:
        print_json(kept)
    else:
        _print_kept(kept)
    if kept.problems:
        raise LogError("; ".join(kept.problems))


def _print_kept(kept: Kept) -> None:
    made = kept.compacted
    click.echo(f"{made.segments} segments with {made.rows} rows are {made.files} files now")
    if kept.taken_in:
        click.echo(f"{kept.taken_in} of the segments were other hosts', and were shipped as they are")
    if kept.shipped_segments:
        click.echo(f"{kept.shipped_segments} segments were shipped as they are: a monitor elsewhere makes files of them")
    click.echo(f"{kept.shipped_files} files were shipped, {kept.expired_files} deleted ({size(kept.expired_bytes)})")
    for name in made.damaged:
        print_note(f"{name} cannot be read; it was moved aside as {name}.damaged")


def _span(since: str | None, until: str | None) -> tuple[float, float]:
    import time  # noqa: PLC0415  `ekiben --help` needs no clock

    now = time.time()
    begin = float("-inf") if since is None else moment_of(since, now, "--since")
    return begin, float("inf") if until is None else moment_of(until, now, "--until")


def _specs(settings: Settings) -> Callable[[str], LogSpec | None]:
    """What a model wants kept, by its champion's spec; None of one that left the store, whose rows stay for the default time."""
    from ekiben.errors import EkibenError  # noqa: PLC0415  commands import what they need when they run
    from ekiben.registry import open_registry  # noqa: PLC0415

    registry = open_registry(settings)

    def spec_of(model: str) -> LogSpec | None:
        try:
            return registry.resolve(model).artifact().spec.log
        except EkibenError:
            return None

    return spec_of


def _row(s: LogStatus) -> tuple[str, ...]:
    shipped = "" if s.unshipped_files is None else str(s.unshipped_files)
    files = str(s.files) + (f" + {s.remote_files} shipped" if s.remote_files else "")
    return (s.model, str(s.rows), size(s.size_bytes), _moment(s.oldest), _moment(s.newest), str(s.segments), files, shipped)


def _moment(time_s: float | None) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  `ekiben --help` reads no times

    return "" if time_s is None else datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
