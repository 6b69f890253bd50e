"""What Alembic runs: the migrations, over the connection and in the transaction that it was given. Logging stays as it is."""

from __future__ import annotations

from alembic import context

from ekiben.state.schema import REVISION_TABLE, SCHEMA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SCHEMA, version_table=REVISION_TABLE, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
