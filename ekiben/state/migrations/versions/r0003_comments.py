"""What users wrote about an answer, beside its truth."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ekiben.state.migrating import no_way_down

revision = "0003"
down_revision = "0002"
downgrade = no_way_down


def upgrade() -> None:
    """Adds the column."""
    op.add_column("ekiben_truths", sa.Column("comment", sa.Text))
