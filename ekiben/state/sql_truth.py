"""Exposures and truths in the control database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Row, Select, String, and_, bindparam, delete, distinct, func, select
from sqlalchemy.dialects import postgresql

from ekiben.state.database import Database
from ekiben.state.schema import EXPOSURES, TRUTHS
from ekiben.state.stored import bounded, encoded, plain
from ekiben.state.truth import Exposure, Truth, TruthColumns, Truths, Value
from ekiben.state.upsert import insert_many_missing, inserting

_PRUNING_S: Final = 60.0
_KEY: Final = ("model", "request_id", "row")
_IDS_AT_ONCE: Final = 50_000
_FEW_TIMES: Final = 4


class SqlTruths(Truths):
    """Exposures and truths in the control database, shared by all processes that use it.

    Request ids and routing keys come from clients. Long ones are kept shortened, in both tables alike.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_complete = False

    def expose(self, exposures: Sequence[Exposure]) -> None:
        """See `Truths`."""
        if exposures:
            with self._database.writing(durable=False) as connection:
                insert_many_missing(connection, EXPOSURES, [_exposed(e) for e in exposures])

    def report(self, truths: Sequence[Truth]) -> None:
        """See `Truths`."""
        if not truths:
            return
        with self._database.writing() as connection:
            statement = inserting(connection, TRUTHS)
            new = statement.excluded
            statement = statement.on_conflict_do_update(
                index_elements=list(TRUTHS.primary_key.columns),
                set_={
                    "time": new.time,
                    "actual": func.coalesce(new.actual, TRUTHS.c.actual),
                    "outcome": func.coalesce(new.outcome, TRUTHS.c.outcome),
                    "comment": func.coalesce(new.comment, TRUTHS.c.comment),
                },
            )
            connection.execute(statement, _in_order([_reported(t) for t in truths], _KEY))

    def joined(self, model: str, since: float, until: float) -> list[tuple[Exposure, Truth]]:
        """See `Truths`."""
        self._complete()
        is_same_row = and_(*(EXPOSURES.c[name] == TRUTHS.c[name] for name in _KEY))
        of_truth = (TRUTHS.c.time.label("truth_time"), TRUTHS.c.actual, TRUTHS.c.outcome, TRUTHS.c.comment)
        query = select(EXPOSURES, *of_truth).join_from(EXPOSURES, TRUTHS, is_same_row)
        query = query.where(EXPOSURES.c.model == model, EXPOSURES.c.time >= since, EXPOSURES.c.time < until)
        query = query.order_by(EXPOSURES.c.time, EXPOSURES.c.request_id, EXPOSURES.c.row, EXPOSURES.c.version)
        return [(_exposure(row), _truth(row)) for row in self._database.read(query)]

    def exposed(self, model: str, since: float, until: float) -> dict[tuple[str, str], tuple[int, int]]:
        """See `Truths`."""
        numbers = (func.count().label("n"), func.count(distinct(EXPOSURES.c.key)).label("n_keys"))
        query = select(EXPOSURES.c.version, EXPOSURES.c.arm, *numbers).group_by(EXPOSURES.c.version, EXPOSURES.c.arm)
        query = query.where(EXPOSURES.c.model == model, EXPOSURES.c.time >= since, EXPOSURES.c.time < until)
        return {(row.version, row.arm): (row.n, row.n_keys) for row in self._database.read(query)}

    def find(self, model: str, since: float, until: float) -> list[Truth]:
        """See `Truths`."""
        self._complete()
        query = select(TRUTHS, TRUTHS.c.time.label("truth_time"))
        query = _within(query, model, since, until).order_by(TRUTHS.c.time, TRUTHS.c.request_id, TRUTHS.c.row)
        return [_truth(row) for row in self._database.read(query)]

    def of(self, model: str, request_ids: Collection[str]) -> TruthColumns:
        """See `Truths`."""
        wanted = {bounded(request_id): request_id for request_id in request_ids}
        if not wanted:
            return TruthColumns()
        self._complete()
        query = select(*(TRUTHS.c[name] for name in TruthColumns.__struct_fields__)).where(TRUTHS.c.model == model)
        total = self._number(select(func.count()).select_from(TRUTHS).where(TRUTHS.c.model == model)) or 0
        if total <= _FEW_TIMES * len(wanted):  # to read all and leave out a few is faster than to look up each
            found = [row for row in self._database.read(query) if row[0] in wanted]
        else:
            ids = sorted(wanted)  # neighbours in the index are looked up together
            found = []
            for start in range(0, len(ids), _IDS_AT_ONCE):
                found += self._database.read(query.where(self._is_one_of(ids[start : start + _IDS_AT_ONCE])))
        return _columns(found, wanted)

    def count(self, model: str, since: float, until: float) -> int:
        """See `Truths`."""
        return int(self._number(_within(select(func.count()).select_from(TRUTHS), model, since, until)) or 0)

    def newest(self, model: str) -> float | None:
        """See `Truths`."""
        return self._number(select(func.max(TRUTHS.c.time)).where(TRUTHS.c.model == model))

    def prune(self, exposures_before: float, truths_before: float) -> int:
        """See `Truths`."""
        with self._database.writing(durable=False, limit_s=_PRUNING_S) as connection:
            before = ((EXPOSURES, exposures_before), (TRUTHS, truths_before))
            return sum(connection.execute(delete(table).where(table.c.time < time)).rowcount for table, time in before)

    def _complete(self) -> None:
        """Adds what a database of an older revision lacks: reading alone would not, and its truths have no comments."""
        if not self._is_complete and TRUTHS.name in self._database.tables():
            self._database.upgrade()
            self._is_complete = True

    def _number(self, query: Select[Any]) -> float | None:
        """The one number that a query gives; None where there is none, or no table yet."""
        found = self._database.read(query)
        return found[0][0] if found else None

    def _is_one_of(self, ids: list[str]) -> ColumnElement[bool]:
        """Whether the request is one of many, which are one parameter: neither database takes as many parameters as there may be ids."""
        if self._database.backend == "postgresql":
            return TRUTHS.c.request_id == func.any(bindparam("ids", ids, type_=postgresql.ARRAY(String)))
        listed = func.json_each(bindparam("ids", encoded(ids), type_=String)).table_valued("value")
        return TRUTHS.c.request_id.in_(select(listed.c.value))


def _within(query: Select[Any], model: str, since: float, until: float) -> Select[Any]:
    return query.where(TRUTHS.c.model == model, TRUTHS.c.time >= since, TRUTHS.c.time < until)


def _columns(found: Sequence[Row[Any]], wanted: dict[str, str]) -> TruthColumns:
    """The columns of rows, under the request ids as they were asked for."""
    if not found:
        return TruthColumns()
    rows = sorted((wanted[row[0]], *row[1:]) for row in found)
    request_id, row, time, actual, outcome, comment = zip(*rows, strict=True)
    values: dict[str | None, Value | None] = {text: None if text is None else msgspec.json.decode(text) for text in set(actual)}
    return TruthColumns(request_id, row, time, [values[text] for text in actual], outcome, comment)


def _in_order(rows: list[dict[str, Any]], key: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows by their keys: two that write the same rows then wait for each other one way only."""
    return sorted(rows, key=lambda row: tuple(row[name] for name in key))


def _exposed(e: Exposure) -> tuple[Any, ...]:
    """The table's columns."""
    prediction = None if e.prediction is None else encoded(e.prediction)
    return (e.model, bounded(e.request_id), e.row, e.version, e.arm, bounded(e.key), e.time, prediction, e.score)


def _reported(t: Truth) -> dict[str, Any]:
    return {
        "model": t.model,
        "request_id": bounded(t.request_id),
        "row": t.row,
        "time": t.time,
        "actual": None if t.actual is None else encoded(t.actual),
        "outcome": t.outcome,
        "comment": None if t.comment is None else plain(t.comment),
    }


def _exposure(row: Row[Any]) -> Exposure:
    return Exposure(
        model=row.model,
        request_id=row.request_id,
        row=row.row,
        version=row.version,
        arm=row.arm,
        key=row.key,
        time=row.time,
        prediction=None if row.prediction is None else msgspec.json.decode(row.prediction),
        score=row.score,
    )


def _truth(row: Row[Any]) -> Truth:
    actual = None if row.actual is None else msgspec.json.decode(row.actual)
    return Truth(
        model=row.model,
        request_id=row.request_id,
        row=row.row,
        time=row.truth_time,
        actual=actual,
        outcome=row.outcome,
        comment=row.comment,
    )
