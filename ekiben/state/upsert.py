"""Insert or update, in the dialects of both databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that can say what happens ``ON CONFLICT``."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts rows; of one whose key is there already, all else is replaced."""
    statement = inserting(connection, table)
    others = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    _run(connection, statement.on_conflict_do_update(index_elements=_key(table), set_=others), rows)


def insert_missing(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Inserts rows; one whose key is there already stays as it is."""
    _run(connection, inserting(connection, table).on_conflict_do_nothing(index_elements=_key(table)), rows)


def _key(table: Table) -> list[ColumnElement[Any]]:
    return list(table.primary_key.columns)


def _run(connection: Connection, statement: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = [dict(row) for row in rows]
    if listed:
        connection.execute(statement, listed)
