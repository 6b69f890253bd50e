"""Checks of drift and quality, alerts, and a queue of their own for what tells of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ekiben.state.migrating import no_way_down

revision = "0004"
down_revision = "0003"
downgrade = no_way_down


def upgrade() -> None:
    """Makes the tables, and a column."""
    op.create_table(
        "ekiben_checks",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("version", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("time", sa.Double, primary_key=True),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ekiben_checks_by_time", "ekiben_checks", ["model", "time"])
    op.create_table(
        "ekiben_alerts",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.add_column("ekiben_deliveries", sa.Column("queue", sa.String(20), nullable=False, server_default="rollouts"))
