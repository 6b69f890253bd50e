"""The control database: what all workers and commands agree on. Importing it loads no SQLAlchemy; `sql_aliases` does."""

from ekiben.state.aliases import Aliases, MemoryAliases

__all__ = ["Aliases", "MemoryAliases"]
