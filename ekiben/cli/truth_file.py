"""Ground truth in a file: JSON lines, JSON, CSV or Parquet; a record a predicted row."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec

from ekiben.errors import InvalidRequest

_PARQUET = (".parquet", ".pq")
_JSON_LINES = (".jsonl", ".ndjson")
_RIGHT = "give a .jsonl, .json, .csv or .parquet file with request_id, row, actual, outcome, feedback, comment, time"


class Records(msgspec.Struct, frozen=True):
    """What a file holds.

    Attributes:
        items: A record each, without the fields that are empty.
        is_text: Whether numbers stand in it as text.
    """

    items: list[Any]
    is_text: bool = False


def read_records(file: Path) -> Records:
    """Reads a file of ground truth by its suffix.

    Raises:
        InvalidRequest: It is missing, of another kind, or not what its suffix says.
    """
    suffix = file.suffix.lower()
    if suffix in _PARQUET:
        from ekiben.model.rows_file import read_rows  # noqa: PLC0415  only what is Parquet

        return Records([_filled(item) for item in read_rows(file)])
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise InvalidRequest(f"{file} cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise InvalidRequest(f"{file} is not UTF-8 text ({e}); {_RIGHT}") from e
    if suffix == ".csv":
        return Records(_csv(text, file), is_text=True)
    if suffix in _JSON_LINES:
        return Records([_filled(_json(line, f"{file}, line {n}")) for n, line in enumerate(text.split("\n"), 1) if line.strip()])
    if suffix == ".json":
        return Records([_filled(item) for item in _listed(_json(text, str(file)), file)])
    raise InvalidRequest(f"{file} is of a kind that is not read; {_RIGHT}")


def _json(text: str, source: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as e:
        raise InvalidRequest(f"{source} is not JSON: {e}") from e


def _listed(found: Any, file: Path) -> list[Any]:
    items = found.get("ground_truth") if isinstance(found, dict) else found
    if not isinstance(items, list):
        raise InvalidRequest(f'{file} holds no ground truth; give a list of objects, or {{"ground_truth": [objects]}}')
    return items


def _csv(text: str, file: Path) -> list[Any]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except csv.Error as e:
        raise InvalidRequest(f"{file} is not CSV: {e}") from e
    if "request_id" not in (reader.fieldnames or ()):
        raise InvalidRequest(f"{file} has no column request_id in its first line; {_RIGHT}")
    too_long = next((n for n, row in enumerate(rows, 1) if None in row), None)
    if too_long is not None:
        raise InvalidRequest(f"{file}: record {too_long} has more fields than the first line names")
    return [{name: value for name, value in row.items() if value} for row in rows]


def _filled(item: Any) -> Any:
    """An object without what a table has instead of nothing: null and NaN."""
    if not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if value is not None and value == value}  # noqa: PLR0124  NaN
