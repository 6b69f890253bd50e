"""Aliases, loads and their generations.

Databases were made before there were revisions, and the first of them without loads. So this one makes what is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ekiben.state.migrating import no_way_down

revision = "0001"
down_revision = None
downgrade = no_way_down


def upgrade() -> None:
    """Makes the tables that are not there, and a generation for each part."""
    generations = op.create_table(
        "ekiben_generations",
        sa.Column("part", sa.String(63), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "ekiben_aliases",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("alias", sa.String(63), primary_key=True),
        sa.Column("version", sa.String(63), nullable=False),
        sa.Column("changed_at", sa.String(40), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "ekiben_loads",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("loaded", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.String(40), nullable=False),
        if_not_exists=True,
    )
    connection = op.get_bind()
    there = set(connection.execute(sa.select(generations.c.part)).scalars())
    for part in ("aliases", "loads"):
        if part not in there:
            connection.execute(generations.insert().values(part=part, number=0))
