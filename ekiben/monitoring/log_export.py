"""Rows of the inference log in one file for other tools."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ekiben.errors import LogError
from ekiben.monitoring.log_reader import LogReader
from ekiben.monitoring.log_types import fitted

_DAY_S: Final = 86_400
KINDS: Final = (".parquet", ".arrow", ".csv")


def export(reader: LogReader, model: str, file: Path, *, since: float, until: float, shadows: bool = False) -> int:
    """Writes rows, a day at a time, so that memory suffices for a long log.

    Args:
        reader: Reads the log.
        model: The model.
        file: ``.parquet``, ``.arrow`` (an IPC file) or ``.csv``, where structs become columns like ``features.temp`` and lists JSON. It
            appears when it is whole; one that is there is replaced.
        since: Rows answered then or later, seconds since the epoch.
        until: Rows answered before.
        shadows: Whether rows are wanted too whose answers went nowhere.

    Returns:
        How many rows.

    Raises:
        LogError: The file is of another kind or cannot be written, or a part of the log cannot be read.
    """
    if file.suffix not in KINDS:
        raise LogError(f"{file} is of a kind that is not written; give a file that ends in {', '.join(KINDS)}")
    schema = reader.schema(model, since=since, until=until)
    made = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    rows = 0
    try:
        with _writer(made, file.suffix, schema) as write:
            for begin, end in _days(reader, model, since, until):
                table = reader.read(model, since=begin, until=end, shadows=shadows)
                write(fitted(table, schema))
                rows += table.num_rows
        made.replace(file)
    except OSError as e:
        raise LogError(f"{file} cannot be written: {os.strerror(e.errno) if e.errno else e}") from e
    finally:
        with contextlib.suppress(OSError):
            made.unlink()
    return rows


def _days(reader: LogReader, model: str, since: float, until: float) -> Iterator[tuple[float, float]]:
    """The time in pieces of a day, those without files or segments left out."""
    parts, _ = reader.find(model, since=since, until=until)
    dates = {file.date for file in (*parts.local, *parts.remote)} | {segment.name[: len("YYYY-MM-DD")] for segment in parts.segments}
    days = {day for date in dates for day in range(_day(date) - 1, _day(date) + 2)}  # rows of midnight are with their neighbours
    for day in sorted(days):
        begin, end = max(since, day * _DAY_S), min(until, (day + 1) * _DAY_S)
        if begin < end:
            yield begin, end


def _day(date: str) -> int:
    """How many days after the epoch a date is."""
    return dt.date.fromisoformat(date).toordinal() - dt.date(1970, 1, 1).toordinal()


@contextlib.contextmanager
def _writer(file: Path, suffix: str, schema: pa.Schema) -> Iterator[Any]:
    """What takes tables of the schema."""
    if suffix == ".parquet":
        with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield parquet.write_table
    elif suffix == ".arrow":
        with pa.ipc.new_file(str(file), schema) as arrow:
            yield arrow.write_table
    else:
        from pyarrow import csv  # noqa: PLC0415  only what is CSV

        with csv.CSVWriter(str(file), flat(schema.empty_table()).schema) as text:
            yield lambda table: text.write_table(flat(table))


def flat(table: pa.Table) -> pa.Table:
    """A table whose structs are columns of their own, and whose lists are JSON."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    for n, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else msgspec.json.encode(value).decode() for value in table[field.name].to_pylist()]
            table = table.set_column(n, field.name, pa.array(texts, pa.string()))
    return table
