"""Exposures and truths in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, and_, delete, distinct, func, select

from ekiben.state.database import Database
from ekiben.state.schema import EXPOSURES, TRUTHS
from ekiben.state.stored import bounded, encoded
from ekiben.state.truth import Exposure, Truth, Truths
from ekiben.state.upsert import insert_missing, inserting

_PRUNING_S: Final = 60.0
_KEY: Final = ("model", "request_id", "row")


class SqlTruths(Truths):
    """Exposures and truths in the control database, shared by all processes that use it.

    Request ids and routing keys come from clients. Long ones are kept shortened, in both tables alike.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def expose(self, exposures: Sequence[Exposure]) -> None:
        """See `Truths`."""
        if exposures:
            with self._database.writing(durable=False) as connection:
                insert_missing(connection, EXPOSURES, _in_order([_exposed(e) for e in exposures], (*_KEY, "version")))

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
                },
            )
            connection.execute(statement, _in_order([_reported(t) for t in truths], _KEY))

    def joined(self, model: str, since: float, until: float) -> list[tuple[Exposure, Truth]]:
        """See `Truths`."""
        is_same_row = and_(*(EXPOSURES.c[name] == TRUTHS.c[name] for name in _KEY))
        of_truth = (TRUTHS.c.time.label("truth_time"), TRUTHS.c.actual, TRUTHS.c.outcome)
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

    def prune(self, before: float) -> int:
        """See `Truths`."""
        with self._database.writing(durable=False, limit_s=_PRUNING_S) as connection:
            return sum(connection.execute(delete(table).where(table.c.time < before)).rowcount for table in (EXPOSURES, TRUTHS))


def _in_order(rows: list[dict[str, Any]], key: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows by their keys: two that write the same rows then wait for each other one way only."""
    return sorted(rows, key=lambda row: tuple(row[name] for name in key))


def _exposed(e: Exposure) -> dict[str, Any]:
    return {
        "model": e.model,
        "request_id": bounded(e.request_id),
        "row": e.row,
        "version": e.version,
        "arm": e.arm,
        "key": bounded(e.key),
        "time": e.time,
        "prediction": None if e.prediction is None else encoded(e.prediction),
        "score": e.score,
    }


def _reported(t: Truth) -> dict[str, Any]:
    return {
        "model": t.model,
        "request_id": bounded(t.request_id),
        "row": t.row,
        "time": t.time,
        "actual": None if t.actual is None else encoded(t.actual),
        "outcome": t.outcome,
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
    return Truth(model=row.model, request_id=row.request_id, row=row.row, time=row.truth_time, actual=actual, outcome=row.outcome)
