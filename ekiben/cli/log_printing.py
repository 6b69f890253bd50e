"""How answers to SQL are printed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec
import pyarrow as pa

from ekiben.cli.printing import print_json, print_table


def print_answer(answer: pa.Table, *, as_json: bool, as_csv: bool) -> None:
    """Prints a table.

    Args:
        answer: The table.
        as_json: As a list of JSON objects.
        as_csv: As CSV with all digits; structs and lists are JSON in it. Neither prints a table for people.
    """
    if as_json:
        print_json(answer.to_pylist())
    elif as_csv:
        _print_csv(answer)
    elif answer.num_columns:
        print_table(answer.column_names, [[_cell(value, ".6g") for value in row] for row in _rows(answer)])


def _print_csv(answer: pa.Table) -> None:
    import csv  # noqa: PLC0415  only what is CSV
    import io  # noqa: PLC0415

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.column_names)
    writer.writerows([_cell(value, "") for value in row] for row in _rows(answer))
    click.echo(text.getvalue(), nl=False)


def _rows(answer: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in answer.columns), strict=True))


def _cell(value: Any, digits: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return format(value, digits)
    return msgspec.json.encode(value).decode()
