"""Routes, rollouts and what they are judged by: windows, measurements, truths; events, leases, workers, deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ekiben.state.migrating import no_way_down

revision = "0002"
down_revision = "0001"
downgrade = no_way_down

_growing = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes the tables."""
    _routes_and_rollouts()
    _events()
    _workers()
    _truths()
    generations = sa.table("ekiben_generations", sa.column("part", sa.String), sa.column("number", sa.BigInteger))
    op.bulk_insert(generations, [{"part": "routes", "number": 0}, {"part": "events", "number": 0}])


def _routes_and_rollouts() -> None:
    op.create_table(
        "ekiben_routes",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("changed_at", sa.String(40), nullable=False),
    )
    op.create_table(
        "ekiben_rollouts",
        sa.Column("number", _growing, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(127), nullable=False, unique=True),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("champion", sa.String(63), nullable=False),
        sa.Column("challenger", sa.String(63), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("ended", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ekiben_rollouts_of_model", "ekiben_rollouts", ["model", "number"])
    op.create_index("ekiben_rollouts_by_status", "ekiben_rollouts", ["status"])
    op.create_table(
        "ekiben_rollout_steps",
        sa.Column("rollout", sa.String(127), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "ekiben_measurements",
        sa.Column("id", _growing, primary_key=True, autoincrement=True),
        sa.Column("rollout", sa.String(127), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ekiben_measurements_of_rollout", "ekiben_measurements", ["rollout", "id"])


def _events() -> None:
    op.create_table(
        "ekiben_events",
        sa.Column("id", _growing, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("rollout", sa.String(127), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ekiben_events_of_model", "ekiben_events", ["model", "id"])
    op.create_index("ekiben_events_of_rollout", "ekiben_events", ["rollout", "id"])
    op.create_table(
        "ekiben_deliveries",
        sa.Column("event", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("url_digest", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ekiben_deliveries_by_due", "ekiben_deliveries", ["state", "due"])
    op.create_table(
        "ekiben_cursors",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


def _workers() -> None:
    op.create_table(
        "ekiben_leases",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_table(
        "ekiben_workers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "ekiben_windows",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("second", sa.BigInteger, primary_key=True),
        sa.Column("version", sa.String(63), primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("stamp", sa.Integer, nullable=False),
        sa.Column("window", sa.LargeBinary, nullable=False),
    )
    op.create_index("ekiben_windows_by_second", "ekiben_windows", ["second", "model", "stamp"])


def _truths() -> None:
    op.create_table(
        "ekiben_exposures",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(63), primary_key=True),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("prediction", sa.Text),
        sa.Column("score", sa.Double),
    )
    op.create_index("ekiben_exposures_by_time", "ekiben_exposures", ["time", "model"])
    op.create_table(
        "ekiben_truths",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("actual", sa.Text),
        sa.Column("outcome", sa.Double),
    )
    op.create_index("ekiben_truths_by_time", "ekiben_truths", ["time"])
