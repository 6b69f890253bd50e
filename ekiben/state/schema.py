"""The tables of the control database, all of them; `ekiben.state.migrations` makes them.

Each part that workers follow (aliases, loads, routes, keys) has a row in ``generations``: whoever changes the part raises its number
in the same transaction, and a worker that sees the number it knows has nothing to read. The row is the part's lock too, and
events have one for that reason alone: with it they become visible in the order of their numbers.

What is queried has a column of its own; the rest of a thing is one column, so that a newer version's fields need no migration.
Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

HEAD: Final = "0005"
"""The newest revision in `ekiben.state.migrations`. They are four digits, so that text compares as the numbers do."""

REVISION_TABLE: Final = "ekiben_revision"
"""Alembic's own table, under a name that leaves other applications of the same database theirs."""

SCHEMA: Final = MetaData()

ALIASES_PART: Final = "aliases"
LOADS_PART: Final = "loads"
ROUTES_PART: Final = "routes"
EVENTS_PART: Final = "events"
KEYS_PART: Final = "keys"
PARTS: Final = (ALIASES_PART, LOADS_PART, ROUTES_PART, EVENTS_PART, KEYS_PART)

_GROWING = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only where they are INTEGER

GENERATIONS: Final = Table(
    "ekiben_generations",
    SCHEMA,
    Column("part", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

ALIASES: Final = Table(
    "ekiben_aliases",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("version", String(63), nullable=False),
    Column("changed_at", String(40), nullable=False),
)

LOADS: Final = Table(
    "ekiben_loads",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("loaded", Boolean, nullable=False),
    Column("changed_at", String(40), nullable=False),
)

ROUTES: Final = Table(
    "ekiben_routes",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("route", Text, nullable=False),
    Column("changed_at", String(40), nullable=False),
)

ROLLOUTS: Final = Table(
    "ekiben_rollouts",
    SCHEMA,
    Column("number", _GROWING, primary_key=True, autoincrement=True),
    Column("id", String(127), nullable=False, unique=True),
    Column("model", String(63), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("champion", String(63), nullable=False),
    Column("challenger", String(63), nullable=False),
    Column("status", String(20), nullable=False),
    Column("step", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("ekiben_rollouts_of_model", "model", "number"),
    Index("ekiben_rollouts_by_status", "status"),
)

STEPS: Final = Table(
    "ekiben_rollout_steps",
    SCHEMA,
    Column("rollout", String(127), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("body", Text, nullable=False),
)

MEASUREMENTS: Final = Table(
    "ekiben_measurements",
    SCHEMA,
    Column("id", _GROWING, primary_key=True, autoincrement=True),
    Column("rollout", String(127), nullable=False),
    Column("step", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("body", Text, nullable=False),
    Index("ekiben_measurements_of_rollout", "rollout", "id"),
)

EVENTS: Final = Table(
    "ekiben_events",
    SCHEMA,
    Column("id", _GROWING, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("model", String(63), nullable=False),
    Column("rollout", String(127), nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("details", Text, nullable=False),
    Index("ekiben_events_of_model", "model", "id"),
    Index("ekiben_events_of_rollout", "rollout", "id"),
    sqlite_autoincrement=True,
)

LEASES: Final = Table(
    "ekiben_leases",
    SCHEMA,
    Column("name", String(63), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Double, nullable=False),
)

WORKERS: Final = Table(
    "ekiben_workers",
    SCHEMA,
    Column("id", Text, primary_key=True),
    Column("seen_at", Double, nullable=False),
    Column("state", Text, nullable=False),
)

WINDOWS: Final = Table(
    "ekiben_windows",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("second", BigInteger, primary_key=True),
    Column("version", String(63), primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("stamp", Integer, nullable=False),  # another number each time it is written, see sql_windows
    Column("window", LargeBinary, nullable=False),
    Index("ekiben_windows_by_second", "second", "model", "stamp"),
)

EXPOSURES: Final = Table(
    "ekiben_exposures",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("version", String(63), primary_key=True),
    Column("arm", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("prediction", Text),  # JSON
    Column("score", Double),
    Index("ekiben_exposures_by_time", "time", "model"),
)

TRUTHS: Final = Table(
    "ekiben_truths",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("actual", Text),  # JSON
    Column("outcome", Double),
    Column("comment", Text),
    Index("ekiben_truths_by_time", "time"),
)

DELIVERIES: Final = Table(
    "ekiben_deliveries",
    SCHEMA,
    Column("event", BigInteger, primary_key=True, autoincrement=False),
    Column("url_digest", String(32), primary_key=True),  # a URL may be longer than what PostgreSQL indexes
    Column("state", String(20), nullable=False),
    Column("due", Double, nullable=False),
    Column("body", Text, nullable=False),
    Column("queue", String(20), nullable=False, server_default="rollouts"),  # what an older version writes is of that queue
    Index("ekiben_deliveries_by_due", "state", "due"),
)

CURSORS: Final = Table(
    "ekiben_cursors",
    SCHEMA,
    Column("name", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

CHECKS: Final = Table(
    "ekiben_checks",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("version", String(63), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("time", Double, primary_key=True),
    Column("outcome", String(20), nullable=False),
    Column("body", Text, nullable=False),
    Index("ekiben_checks_by_time", "model", "time"),
)

ALERTS: Final = Table(
    "ekiben_alerts",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

KEYS: Final = Table(
    "ekiben_keys",
    SCHEMA,
    Column("prefix", String(20), primary_key=True),
    Column("created", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
