"""The control database: what all workers and commands agree on. Importing it loads no SQLAlchemy; `sql_…` modules do."""

from ekiben.state.aliases import Aliases, MemoryAliases
from ekiben.state.control import Control, memory_control
from ekiben.state.loads import Loads, MemoryLoads

__all__ = ["Aliases", "Control", "Loads", "MemoryAliases", "MemoryLoads", "memory_control"]
