"""SQL over the inference log and its ground truth, with DuckDB.

| view | a row is | columns |
|---|---|---|
| ``predictions`` | a row that was answered | ``model``, then those of `ekiben.monitoring.log_schema` |
| ``shadows`` | an answer that went nowhere, beside an answered row | the same |
| ``ground_truth`` | what really happened | ``model``, ``request_id``, ``row``, ``time``, ``actual``, ``outcome``, ``comment`` |
| ``joined`` | a row that was answered | those of ``predictions``, then ``actual``, ``outcome``, ``truth_time``, null where unknown |

Parquet files are not loaded but scanned, what the query does not ask for is left unread. The query runs in a database of its own
in memory that can reach no file, no network and no extension: what it says cannot change anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from ekiben.errors import LogError
from ekiben.monitoring.log_folder import LogFile
from ekiben.monitoring.log_parts import LogParts
from ekiben.monitoring.log_reader import LogReader
from ekiben.monitoring.log_schema import SHADOW_ARM
from ekiben.monitoring.log_table import table_of
from ekiben.monitoring.log_types import common_schema, fitted
from ekiben.state.truth import Truth, Truths

if TYPE_CHECKING:
    import duckdb

_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}
_LOCKS: Final = ("SET TimeZone = 'UTC'", "SET enable_external_access = false", "SET lock_configuration = true")
_NEEDS_TRUTH: Final = re.compile(r"ground_truth|joined", re.IGNORECASE)
_ALWAYS: Final = (float("-inf"), float("inf"))


class _Source(msgspec.Struct):
    """Rows of one model and one schema: a table, or files that pyarrow scans."""

    model: str
    schema: pa.Schema
    rows: Any


class LogQuery:
    """Answers queries.

    Args:
        reader: Reads the log.
        truths: What really happened.
    """

    def __init__(self, reader: LogReader, truths: Truths) -> None:
        self._reader = reader
        self._truths = truths

    def run(self, sql: str, *, model: str | None = None, since: float | None = None, until: float | None = None) -> pa.Table:
        """What a query answers.

        Args:
            sql: One statement or several, of which the last one answers.
            model: A model's rows alone; None for all models', whose inputs are then null in rows of others.
            since: Rows of then or later, seconds since the epoch; of ground truth its own time counts, in ``joined`` the prediction's.
            until: Rows of before.

        Raises:
            LogError: The SQL is wrong, or wants what it may not; a part of the log cannot be read.
            StateError: The control database cannot be read.
        """
        import duckdb  # noqa: PLC0415  only where SQL is asked

        span = (_ALWAYS[0] if since is None else since, _ALWAYS[1] if until is None else until)
        models = self._reader.models() if model is None else [model]
        sources = [source for name in models for source in self._sources(name, span)]
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            self._add_predictions(connection, sources, span)
            if _NEEDS_TRUTH.search(sql):
                self._add_truth(connection, models, span)
            for lock in _LOCKS:
                connection.execute(lock)
            try:
                answer = connection.sql(sql)
                return pa.table({}) if answer is None else answer.to_arrow_table()
            except duckdb.Error as e:
                raise LogError(f"the query cannot be answered: {_one_line(e)}") from None

    def _sources(self, model: str, span: tuple[float, float]) -> Iterator[_Source]:
        parts, opener = self._reader.find(model, since=span[0], until=span[1])
        for segment in parts.segments:
            if segment.raw is not None and segment.head is not None:
                table = table_of(segment.raw, segment.head)
                table = fitted(table, common_schema([table.schema]))
                yield _Source(model, table.schema, table)
        for files, filesystem in ((parts.local, None), (parts.remote, opener.storage)):
            for schema, paths in _by_schema(files, opener, is_remote=filesystem is not None):
                yield _Source(model, common_schema([schema]), _dataset(paths, schema, filesystem))

    def _add_predictions(self, connection: duckdb.DuckDBPyConnection, sources: Sequence[_Source], span: tuple[float, float]) -> None:
        schema = common_schema(source.schema for source in sources)
        connection.register("log_columns", schema.empty_table())
        kinds = {str(name): str(kind) for name, kind, *_ in connection.execute("DESCRIBE log_columns").fetchall()}
        selects = [f"SELECT NULL::VARCHAR AS model, {', '.join(map(_quoted, kinds))} FROM log_columns"]  # noqa: S608  all names are quoted
        for n, source in enumerate(sources):
            connection.register(f"log_part_{n}", source.rows)
            columns = [_as(name, kind, source.schema, schema) for name, kind in kinds.items()]
            selects.append(f"SELECT {_text(source.model)} AS model, {', '.join(columns)} FROM log_part_{n}")  # noqa: S608  as above
        connection.execute(f"CREATE VIEW log_rows AS {' UNION ALL '.join(selects)}")
        when = _within(span)
        for view, sign in (("predictions", "<>"), ("shadows", "=")):
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM log_rows WHERE arm {sign} {_text(SHADOW_ARM)}{when}")  # noqa: S608  as above

    def _add_truth(self, connection: duckdb.DuckDBPyConnection, models: Sequence[str], span: tuple[float, float]) -> None:
        truths = [truth for model in models for truth in self._truths.find(model, *_ALWAYS)]
        connection.register("truths", truth_table(truths))
        connection.execute(f"CREATE VIEW ground_truth AS SELECT * FROM truths WHERE true{_within(span)}")  # noqa: S608  numbers alone
        connection.execute(
            "CREATE VIEW joined AS SELECT predictions.*, truths.actual, truths.outcome, truths.time AS truth_time"
            " FROM predictions LEFT JOIN truths USING (model, request_id, row)"
        )


def truth_table(truths: Sequence[Truth]) -> pa.Table:
    """Truths as a table; ``actual`` is of numbers, of booleans, or text where it is of both or neither."""
    actual = [truth.actual for truth in truths]
    kinds = {type(value) for value in actual if value is not None}
    if kinds and kinds <= {float, int}:
        column = pa.array([None if value is None else float(value) for value in actual], pa.float64())
    elif kinds == {bool}:
        column = pa.array(actual, pa.bool_())
    else:
        column = pa.array([_as_text(value) for value in actual], pa.string())
    return pa.table(
        {
            "model": pa.array([truth.model for truth in truths], pa.string()),
            "request_id": pa.array([truth.request_id for truth in truths], pa.string()),
            "row": pa.array([truth.row for truth in truths], pa.int32()),
            "time": pa.array([int(truth.time * 1_000_000) for truth in truths], pa.timestamp("us", tz="UTC")),
            "actual": column,
            "outcome": pa.array([truth.outcome for truth in truths], pa.float64()),
            "comment": pa.array([truth.comment for truth in truths], pa.string()),
        }
    )


def _by_schema(files: Sequence[LogFile], opener: LogParts, *, is_remote: bool) -> list[tuple[pa.Schema, list[str]]]:
    """Paths of files by what columns they have."""
    found: list[tuple[pa.Schema, list[str]]] = []
    for file in files:
        with opener.opened(file) as parquet:
            if parquet is None:
                continue
            schema = parquet.schema_arrow.remove_metadata()
        path = opener.storage.path(file) if is_remote and opener.storage is not None else str(opener.folder.file(file))
        same = next((paths for known, paths in found if known.equals(schema, check_metadata=True)), None)
        if same is None:
            found.append((schema, [path]))
        else:
            same.append(path)
    return found


def _dataset(paths: list[str], schema: pa.Schema, storage: Any) -> Any:
    import pyarrow.dataset  # noqa: PLC0415  only where SQL is asked
    import pyarrow.fs  # noqa: PLC0415

    filesystem = pyarrow.fs.LocalFileSystem() if storage is None else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(storage.fs))
    return pyarrow.dataset.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)


def _as(name: str, kind: str, schema: pa.Schema, wanted: pa.Schema) -> str:
    """A column in SQL as the type it has in the view; DuckDB casts structs by their fields' names."""
    at = schema.get_field_index(name)
    if at < 0:
        return f"NULL::{kind} AS {_quoted(name)}"
    is_same = schema.field(at).type.equals(wanted.field(name).type)
    return _quoted(name) if is_same else f"CAST({_quoted(name)} AS {kind}) AS {_quoted(name)}"


def _within(span: tuple[float, float]) -> str:
    """The condition on ``time``, with constants that scans of files can use."""
    since, until = span
    parts = []
    if since != _ALWAYS[0]:
        parts.append(f" AND time >= make_timestamptz({int(since * 1_000_000)}::BIGINT)")
    if until != _ALWAYS[1]:
        parts.append(f" AND time < make_timestamptz({int(until * 1_000_000)}::BIGINT)")
    return "".join(parts)


def _as_text(value: str | float | None) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _one_line(error: Exception) -> str:
    """DuckDB's message without the picture of where in the text it is."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())
