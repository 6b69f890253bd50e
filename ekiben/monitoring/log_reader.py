"""Reads the inference log: rows of a model and a time, wherever they are by now, each of them once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ekiben.errors import LogError
from ekiben.monitoring.log_folder import LogFile, open_folder
from ekiben.monitoring.log_parts import LogParts, Parts
from ekiben.monitoring.log_schema import HEAD_KEY, SHADOW_ARM
from ekiben.monitoring.log_segments import LogSegment
from ekiben.monitoring.log_storage import open_storage
from ekiben.monitoring.log_table import COMMON, table_of
from ekiben.monitoring.log_types import common_schema, fitted, leaves, narrowed
from ekiben.settings import Settings

_FILTERS: Final = ("time", "version", "arm")
_MICROSECONDS: Final = 1_000_000
_TIME: Final = pa.timestamp("us", tz="UTC")
_LARGEST: Final = 2**63 - 1


class LogReader:
    """Reads the log.

    Args:
        parts: What there is.

    Attributes:
        problem: Why rows may be missing in what was read last; empty where none are.
    """

    def __init__(self, parts: LogParts) -> None:
        self._parts = parts
        self.problem = ""

    def models(self) -> list[str]:
        """Models of which there are rows."""
        return self._parts.models()

    def read(
        self,
        model: str,
        *,
        since: float,
        until: float,
        columns: Sequence[str] | None = None,
        version: str | None = None,
        shadows: bool = False,
    ) -> pa.Table:
        """The rows of a time, by time.

        Args:
            model: The model.
            since: Rows answered then or later, seconds since the epoch.
            until: Rows answered before.
            columns: Columns in the order wanted; ``features.temp`` takes one input out of the struct, which then holds no others.
                What no row has is null. None for all there are.
            version: A version's rows alone.
            shadows: Whether rows are wanted too whose answers went nowhere.

        Returns:
            The columns that `ekiben.monitoring.log_schema` documents. Where versions differ, an input that a version does not
            have is null, and a type that changed is one that holds both.

        Raises:
            LogError: There is no such column, or a part of the log cannot be read.
        """
        self._check(columns)
        span = _span(since, until)
        parts = self._find(model, since, until)
        tables = [*self._files(parts, span, columns), *(self._segment(segment, columns) for segment in parts.segments)]
        chosen = [_chosen(table, span, version, shadows=shadows) for table in tables]
        schema = common_schema(table.schema for table in tables)
        wanted = schema if columns is None else narrowed(schema, columns)
        times = pa.chunked_array([chunk for table in chosen for chunk in table["time"].chunks], _TIME)
        found = pa.concat_tables([wanted.empty_table(), *(fitted(table, wanted) for table in chosen)])
        found = found.combine_chunks().take(pc.sort_indices(times))
        return found.replace_schema_metadata(_metadata(tables))

    def count(self, model: str, *, since: float, until: float) -> int:
        """How many rows were answered with since ≤ time < until, seconds since the epoch; shadows' are none of them.

        Raises:
            LogError: A part of the log cannot be read.
        """
        span = _span(since, until)
        parts = self._find(model, since, until, fields=("time", "arm"))
        counted = 0
        for segment in parts.segments:
            if segment.raw is not None:
                raw = pa.table({"time": segment.raw["time"].cast(_TIME), "arm": segment.raw["arm"]})
                counted += _chosen(raw, span, None, shadows=False).num_rows
        for table in self._files(parts, span, ("time",)):
            counted += _chosen(table, span, None, shadows=False).num_rows
        return counted

    def schema(self, model: str, *, since: float, until: float) -> pa.Schema:
        """The columns that `read` would give.

        Raises:
            LogError: A part of the log cannot be read.
        """
        parts = self._find(model, since, until)
        schemas = [table_of(s.raw.slice(0, 1), s.head).schema for s in parts.segments if s.raw is not None and s.head is not None]
        for file in (*parts.local, *parts.remote):
            with self.opened(file) as parquet:
                if parquet is not None:
                    schemas.append(parquet.schema_arrow)
        return common_schema(schemas)

    def find(self, model: str, *, since: float, until: float) -> tuple[Parts, LogParts]:
        """The parts themselves, for whoever reads them in another way.

        Raises:
            LogError: A segment cannot be read.
        """
        return self._find(model, since, until), self._parts

    @contextlib.contextmanager
    def opened(self, file: LogFile) -> Iterator[pq.ParquetFile | None]:
        """A file of the log; None where it has gone meanwhile.

        Raises:
            LogError: It cannot be read.
        """
        try:
            with self._parts.opened(file) as parquet:
                yield parquet
        except (OSError, pa.ArrowException) as e:
            raise LogError(f"{file.relative} of the inference log cannot be read: {e}") from e

    def _find(self, model: str, since: float, until: float, fields: Sequence[str] | None = None) -> Parts:
        parts = self._parts.find(model, since=since, until=until, fields=fields)
        self.problem = parts.problem
        return parts

    def _check(self, columns: Sequence[str] | None) -> None:
        try:
            narrowed(pa.schema([]), columns or ())
        except KeyError as e:
            there = ", ".join(field.name for field in COMMON)
            raise LogError(
                f"the log has no column {e.args[0]!r}; there are {there}, features and outputs, and their fields as features.NAME"
            ) from None

    def _files(self, parts: Parts, span: tuple[int, int], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        wanted = None if columns is None else [*_FILTERS, *columns]
        for file in (*parts.local, *parts.remote):
            with self.opened(file) as parquet:
                if parquet is not None:
                    schema = parquet.schema_arrow
                    yield parquet.read_row_groups(_row_groups(parquet, span), columns=leaves(schema, wanted))

    @staticmethod
    def _segment(segment: LogSegment, columns: Sequence[str] | None) -> pa.Table:
        assert segment.raw is not None
        assert segment.head is not None
        table = table_of(segment.raw, segment.head)
        if columns is None:
            return table
        some = fitted(table, narrowed(common_schema([table.schema]), [*_FILTERS, *columns]))
        return some.replace_schema_metadata(table.schema.metadata)


def open_log(settings: Settings) -> LogReader:
    """The reader of the log that the settings name.

    Raises:
        LogError: The library for the place it is shipped to is not installed.
    """
    return LogReader(LogParts(open_folder(settings), open_storage(settings.log_uri)))


def _span(since: float, until: float) -> tuple[int, int]:
    """Seconds as microseconds, rounded down as the times of rows are."""
    return _down(since), _down(until)


def _down(time_s: float) -> int:
    scaled = time_s * _MICROSECONDS
    if scaled >= _LARGEST or scaled <= -_LARGEST:
        return _LARGEST if scaled > 0 else -_LARGEST
    return math.floor(scaled)


def _row_groups(parquet: pq.ParquetFile, span: tuple[int, int]) -> list[int]:
    """The row groups that may have rows of the time, by their statistics."""
    names = [parquet.metadata.schema.column(n).path for n in range(parquet.metadata.num_columns)]
    if "time" not in names:
        return list(range(parquet.metadata.num_row_groups))
    at, chosen = names.index("time"), []
    for n in range(parquet.metadata.num_row_groups):
        found = parquet.metadata.row_group(n).column(at).statistics
        if found is None or not found.has_min_max or (_microseconds(found.max) >= span[0] and _microseconds(found.min) < span[1]):
            chosen.append(n)
    return chosen


def _microseconds(moment: Any) -> int:
    return int(pa.scalar(moment, _TIME).cast(pa.int64()).as_py())


def _chosen(table: pa.Table, span: tuple[int, int], version: str | None, *, shadows: bool) -> pa.Table:
    """The rows that were asked for."""
    time = table["time"].cast(pa.int64())
    wanted = pc.and_(pc.greater_equal(time, span[0]), pc.less(time, span[1]))
    if version is not None:
        wanted = pc.and_(wanted, pc.equal(table["version"], version))
    if not shadows:
        wanted = pc.and_(wanted, pc.not_equal(table["arm"], SHADOW_ARM))
    return table.filter(wanted)


def _metadata(tables: Sequence[pa.Table]) -> dict[bytes, bytes] | None:
    """What the schema says of itself where all rows agree on it."""
    heads = {(table.schema.metadata or {}).get(HEAD_KEY) for table in tables}
    head = heads.pop() if len(heads) == 1 else None
    return None if head is None else {HEAD_KEY: head}
