"""What commands print: tables for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import click

from ekiben.errors import EkibenError, RequestError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Prints a value as JSON, indented; NaN becomes null."""
    import msgspec  # noqa: PLC0415  `ekiben --help` prints none

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", styles: Mapping[str, str] | None = None
) -> None:
    """Prints a table: on a terminal with colours and lines that fit, into a file or pipe plain columns with nothing cut.

    Args:
        headings: One a column; none prints no line of headings.
        rows: The cells.
        title: A line above.
        styles: Cell → how a terminal shows it.
    """
    if not sys.stdout.isatty():
        click.echo("\n".join(_plain_lines(headings, rows, title)))
        return
    from rich.box import SIMPLE  # noqa: PLC0415  `ekiben --help` prints none
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*headings, box=SIMPLE, pad_edge=False, header_style="bold", show_header=bool(headings), title=title or None)
    for row in rows:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, ""), overflow="fold") for cell in row))
    Console(highlight=False).print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Prints names with their values, those that are empty left out."""
    print_table((), [(name, value) for name, value in fields if value])


def print_note(text: str) -> None:
    """Prints something worth knowing, on stderr, where it disturbs no program that reads the answer."""
    click.echo(f"note: {text}", err=True)


def print_error(error: EkibenError, file: IO[str] | None = None) -> None:
    """Prints an error as one line, and one more for each row where several are wrong."""
    stream = file or sys.stderr
    details = error.details if isinstance(error, RequestError) else []
    click.echo(f"error: {_one_line(str(error))}", file=stream)
    for detail in details if len(details) > 1 else ():
        click.echo(f"  {_one_line(str(detail))}", file=stream)


def size(n_bytes: int) -> str:
    """A number of bytes for people."""
    value, unit = float(n_bytes), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def _plain_lines(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> list[str]:
    lines = [*([headings] if headings else []), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [*([title] if title else []), *padded]


def _one_line(text: str) -> str:
    return " ".join(text.split())
