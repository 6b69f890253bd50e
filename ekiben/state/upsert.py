"""Insert or update, in the dialects of both databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, bindparam, cast, func, select, true
from sqlalchemy.dialects import postgresql, sqlite


def inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that can say what happens ``ON CONFLICT``."""
    return _new(connection.dialect.name, table)


def upsert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts rows; of one whose key is there already, all else is replaced."""
    _run(connection, _upserting(connection.dialect.name, table), rows)


def insert_missing(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts rows; one whose key is there already stays as it is."""
    _run(connection, _new(connection.dialect.name, table).on_conflict_do_nothing(index_elements=_key(table)), rows)


def insert_many_missing(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """As `insert_missing`, of many rows: they travel as one JSON text, which the database takes apart without the interpreter.

    Rows are written in the order of their keys: two that write the same ones then wait for each other one way only.

    Args:
        connection: In a transaction.
        table: Where they go.
        rows: Each with the values of all columns, in the table's order; NaN becomes NULL.
    """
    connection.execute(_inserting_many(connection.dialect.name, table), {"rows": msgspec.json.encode(rows).decode()})


# Statements are built once: to build one takes longer than to run it.


@cache
def _upserting(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    statement = _new(dialect, table)
    others = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=_key(table), set_=others)


@cache
def _inserting_many(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    text: ColumnElement[Any] = bindparam("rows")
    values: list[ColumnElement[Any]]
    element: ColumnElement[Any]
    if dialect == "postgresql":
        element = func.jsonb_array_elements(cast(text, postgresql.JSONB)).column_valued("element")
        values = [cast(element.op("->>")(n), column.type) for n, column in enumerate(table.columns)]
    else:
        element = func.json_each(text).table_valued("value").c.value
        values = [func.json_extract(element, f"$[{n}]") for n in range(len(table.columns))]
    key = [value for value, column in zip(values, table.columns, strict=True) if column.primary_key]
    # SQLite wants a WHERE between a SELECT and the ON of the insert.
    statement = _new(dialect, table).from_select(table.columns.keys(), select(*values).where(true()).order_by(*key))
    return statement.on_conflict_do_nothing(index_elements=_key(table))


def _new(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _key(table: Table) -> list[ColumnElement[Any]]:
    return list(table.primary_key.columns)


def _run(connection: Connection, statement: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = [dict(row) for row in rows]
    if listed:
        connection.execute(statement, listed)
