"""``ekiben drift``: whether what a model is asked and answers has moved away from what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from ekiben.cli.moments import moment_of
from ekiben.cli.printing import json_option, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from ekiben.monitoring.drift import DriftReport
    from ekiben.monitoring.drift_columns import ColumnDrift

_HEADINGS: Final = ("COLUMN", "KIND", "TEST", "P (ADJ.)", "PSI", "MOVED", "MISSING", "UNSEEN", "DRIFTED")
_STYLES: Final = {"yes": "bold red", "no": "green", "ignored": "yellow", "bad": "bold red", "ok": "green", "unknown": "yellow"}


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--version", metavar="V", help="A version, `latest` or an alias; left out, the champion.")
@click.option("--since", default="7d", show_default=True, help="A duration before --until, or a time: 2026-03-01, 2026-03-01T12:00Z.")
@click.option("--until", help="A time, or a duration ago; left out, now.")
@click.option("--reference", type=click.Choice(["training", "season", "trailing"]), help="Left out, what model.yaml says.")
@json_option
def drift(name: str, *, version: str | None, since: str, until: str | None, reference: Any, as_json: bool) -> None:
    """Show how far the inputs, scores and classes of MODEL have drifted.

    Rows of the inference log are compared with the training data (training), with the same months of former years (season) or with
    the days before (trailing). A column has drifted when the difference is no chance, and large.
    """
    import time  # noqa: PLC0415  commands import what they need when they run

    from ekiben.monitoring.drift_check import check_drift  # noqa: PLC0415
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    end = time.time() if until is None else moment_of(until, time.time(), "--until")
    begin = moment_of(since, end, "--since")
    if begin >= end:
        raise click.UsageError("--since must be before --until")
    settings = load_settings()
    found = open_registry(settings).resolve(name if version is None else f"{name}:{version}")
    artifact = found.artifact()
    report = check_drift(open_log(settings), artifact.spec, artifact.profile(), found.version, since=begin, until=end, kind=reference)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: DriftReport) -> None:
    print_fields(
        [
            ("version", f"{report.model}:{report.version}"),
            ("rows", f"{report.rows}, answered from {_time(report.since)} to {_time(report.until)}"),
            ("reference", f"{report.reference}, {report.reference_rows} rows"),
            ("outcome", report.outcome),
            ("summary", report.summary),
        ]
    )
    if report.columns:
        click.echo()
        print_table(_HEADINGS, _lines(report), styles=_STYLES)
    for column, reason in report.not_compared.items():
        print_note(f"{column} is not compared: {reason}")


def _lines(report: DriftReport) -> Iterator[tuple[str, ...]]:
    for column in report.columns:
        yield (
            column.name,
            column.kind,
            column.test,
            f"{column.p_adjusted:.2g}",
            f"{column.psi:.3f}",
            "" if column.wasserstein is None else f"{column.wasserstein:.2f} sd",
            _missing(column),
            "" if column.unseen is None else _percent(column.unseen),
            "no" if not column.drifted else "ignored" if column.ignored else "yes",
        )


def _missing(column: ColumnDrift) -> str:
    if not column.missing and not column.missing_reference:
        return ""
    return f"{_percent(column.missing)} (was {_percent(column.missing_reference)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _time(moment: float) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  as above

    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
