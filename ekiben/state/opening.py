"""The control database that the settings name."""

from __future__ import annotations

from ekiben.settings import Settings
from ekiben.state.control import Control


def open_control(settings: Settings) -> Control:
    """The control database. Nothing is created or connected to before the first question.

    Raises:
        StateError: Its URL is of no use.
    """
    from ekiben.state.database import Database  # noqa: PLC0415  SQLAlchemy takes a quarter of a second to import
    from ekiben.state.sql_control import sql_control  # noqa: PLC0415

    return sql_control(Database(settings.database_url))
