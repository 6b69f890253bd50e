"""The registry that the settings describe."""

from __future__ import annotations

from ekiben.registry.store import Registry
from ekiben.settings import Settings


def open_registry(settings: Settings) -> Registry:
    """The BentoML store with aliases in the control database.

    Nothing is created, and neither BentoML nor the database is touched before the first question.

    Raises:
        StateError: The URL of the control database is of no use.
    """
    from ekiben.registry.bento import BentoRegistry  # noqa: PLC0415  SQLAlchemy takes a quarter of a second to import
    from ekiben.state.database import Database  # noqa: PLC0415
    from ekiben.state.sql_aliases import SqlAliases  # noqa: PLC0415

    return BentoRegistry(SqlAliases(Database(settings.database_url)))
