"""Brings a control database to the newest revision. Importing this imports Alembic: only who has to migrate does so."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from ekiben.errors import StateError


def migrate(connection: Connection) -> None:
    """Runs the migrations that are missing, in the transaction of a connection; whoever calls it keeps others out meanwhile."""
    config = Config()
    # NOTE: Alembic reads options as ConfigParser does, where % begins a reference.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def no_way_down() -> None:
    """The downgrade of every revision.

    Raises:
        StateError: Always.
    """
    raise StateError("the control database does not go back to an older revision; an older Ekiben uses it as it is")
