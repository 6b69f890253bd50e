"""Rollouts in the control database, and the transactions that change them."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, or_, select, update

from ekiben.state.database import Database
from ekiben.state.generations import hold_generation, raise_generation
from ekiben.state.rollouts import ACTIVE, Change, Rollout, Rollouts, StepRecord, check_revision
from ekiben.state.schema import ALIASES_PART, ROLLOUTS, ROUTES_PART, STEPS
from ekiben.state.sql_aliases import write_alias
from ekiben.state.sql_events import append_events
from ekiben.state.sql_measurements import append_measurements
from ekiben.state.sql_routes import write_route
from ekiben.state.stored import decoded, encoded, merged
from ekiben.state.upsert import upsert


class SqlRollouts(Rollouts):
    """Rollouts in the control database, shared by all processes that use it.

    Args:
        database: The control database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, rollout: str) -> Rollout | None:
        """See `Rollouts`."""
        rows = self._database.read(select(ROLLOUTS.c.body).where(ROLLOUTS.c.id == rollout))
        return decoded(rows[0].body, Rollout) if rows else None

    def find(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """See `Rollouts`."""
        query = select(ROLLOUTS.c.body).order_by(ROLLOUTS.c.number.desc()).limit(max(0, limit))
        if model is not None:
            query = query.where(ROLLOUTS.c.model == model)
        if active is not None:
            query = query.where(ROLLOUTS.c.status.in_(ACTIVE) if active else ROLLOUTS.c.status.not_in(ACTIVE))
        return [decoded(row.body, Rollout) for row in self._database.read(query)]

    def steps(self, rollout: str) -> list[StepRecord]:
        """See `Rollouts`."""
        rows = self._database.read(select(STEPS.c.body).where(STEPS.c.rollout == rollout).order_by(STEPS.c.step))
        return [decoded(row.body, StepRecord) for row in rows]

    def commit(self, change: Change) -> Change:
        """See `Rollouts`."""
        with self._database.writing() as connection:
            # One lock for all rollouts, always the first: two changes of one model, or of two with an alias each, never cross.
            hold_generation(connection, ROUTES_PART)
            rollout = None if change.rollout is None else _write_rollout(connection, change.rollout)
            upsert(connection, STEPS, ({"rollout": s.rollout, "step": s.step, "body": encoded(s)} for s in change.steps))
            append_measurements(connection, change.measurements)
            if change.aliases:
                hold_generation(connection, ALIASES_PART)
                for alias, version in change.aliases.items():
                    if write_alias(connection, change.model, alias, version):
                        raise_generation(connection, ALIASES_PART)
            if change.route is not msgspec.UNSET:
                write_route(connection, change.model, change.route)
            events = tuple(append_events(connection, change.events))
        return msgspec.structs.replace(change, rollout=rollout, events=events)


def _write_rollout(connection: Connection, wanted: Rollout) -> Rollout:
    """Keeps a rollout with its next revision.

    Raises:
        RolloutChanged: Its revision is another one by now, or another rollout of its model is active.
    """
    is_of_interest = or_(ROLLOUTS.c.id == wanted.id, (ROLLOUTS.c.model == wanted.model) & ROLLOUTS.c.status.in_(ACTIVE))
    bodies = connection.execute(select(ROLLOUTS.c.id, ROLLOUTS.c.body).where(is_of_interest)).all()
    there = {row.id: decoded(row.body, Rollout) for row in bodies}
    check_revision(wanted, there.get(wanted.id), list(there.values()))
    rollout = msgspec.structs.replace(wanted, revision=wanted.revision + 1)
    if wanted.id in there:
        former = next(row.body for row in bodies if row.id == wanted.id)
        connection.execute(update(ROLLOUTS).where(ROLLOUTS.c.id == wanted.id).values(_columns(rollout, merged(former, rollout))))
    else:
        connection.execute(insert(ROLLOUTS).values(_columns(rollout, encoded(rollout))))
    return rollout


def _columns(rollout: Rollout, body: str) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "model": rollout.model,
        "kind": rollout.kind,
        "champion": rollout.champion,
        "challenger": rollout.challenger,
        "status": rollout.status,
        "step": rollout.step,
        "created": rollout.created,
        "ended": rollout.ended,
        "revision": rollout.revision,
        "body": body,
    }
