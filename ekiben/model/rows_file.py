"""Rows in a file: JSON as a client would send it, or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ekiben.errors import InvalidRequest


def read_rows(file: Path, *, limit: int | None = None) -> list[Any]:
    """Reads rows.

    Args:
        file: ``.parquet``, one row a row, or JSON: a list of rows, or ``{"instances": [rows]}``.
        limit: Rows to read at most.

    Raises:
        InvalidRequest: The file is missing, of another kind, or holds no rows.
    """
    try:
        rows = _parquet(file, limit) if file.suffix.lower() in (".parquet", ".pq") else rows_of_json(file.read_bytes(), str(file))
    except OSError as e:
        raise InvalidRequest(f"{file} cannot be read: {e.strerror or e}") from e
    if not rows:
        raise InvalidRequest(f"{file} holds no rows")
    return rows[:limit]


def rows_of_json(text: bytes, source: str) -> list[Any]:
    """The rows in a JSON text.

    Args:
        text: The JSON.
        source: Where it comes from, for the message.

    Raises:
        InvalidRequest: It is no JSON, or neither of the two forms.
    """
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as e:
        raise InvalidRequest(f'{source} is not JSON ({e}); give a list of rows, or {{"instances": [rows]}}') from e
    rows = found.get("instances") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise InvalidRequest(f'{source} holds no rows; give a list of rows, or {{"instances": [rows]}}')
    return rows


def _parquet(file: Path, limit: int | None) -> list[Any]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415  only those who have Parquet need it
    except ImportError as e:
        raise InvalidRequest(f"{file} needs pyarrow, which cannot be imported here ({e}); install it, or give the rows as JSON") from e
    if not file.is_file():
        raise InvalidRequest(f"{file} cannot be read: there is no such file")
    rows: list[Any] = []
    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=limit or 65_536):
                rows += batch.to_pylist()
                if limit is not None and len(rows) >= limit:
                    break
    except ArrowException as e:
        raise InvalidRequest(f"{file} is not Parquet: {e}") from e
    return rows
