"""API keys, and a generation by which workers see that they changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ekiben.state.migrating import no_way_down

revision = "0005"
down_revision = "0004"
downgrade = no_way_down


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "ekiben_keys",
        sa.Column("prefix", sa.String(20), primary_key=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    generations = sa.table("ekiben_generations", sa.column("part", sa.String), sa.column("number", sa.BigInteger))
    op.bulk_insert(generations, [{"part": "keys", "number": 0}])
