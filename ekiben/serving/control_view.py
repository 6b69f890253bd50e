"""What the control database says of versions and routes, read at once; and the last that was known, for when it is away.

A worker that starts while the database is away goes on with what a worker before it wrote beside the database's file, in
``EKIBEN_HOME``.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from ekiben.registry import Registry
from ekiben.state import Control
from ekiben.state.routes import Route

logger = logging.getLogger("ekiben.control")

_FILE: Final = "last_known_routes.json"


class ControlView(msgspec.Struct, frozen=True):
    """Aliases, loads and routes at one moment.

    Attributes:
        generation: Their generation, read first: what changed while the rest was read is seen next time.
        aliases: Model → alias → version.
        loads: Model → whether somebody wants it loaded.
        routes: Model → its route.
    """

    generation: tuple[int, ...] = ()
    aliases: dict[str, dict[str, str]] = {}
    loads: dict[str, bool] = {}
    routes: dict[str, Route] = {}


def read_view(control: Control, registry: Registry) -> ControlView:
    """Reads what is known now.

    Raises:
        StateError: The control database cannot be read.
    """
    return ControlView(control.generation(), registry.aliases.all(), registry.loads.all(), control.routes.all())


class LastKnown:
    """Keeps a view on the worker's own disk.

    Args:
        home: The folder, ``EKIBEN_HOME``.
        database: Which database it is of; another's is not used.
    """

    def __init__(self, home: Path, database: str) -> None:
        self._file = home / _FILE
        self._database = database

    def write(self, view: ControlView) -> None:
        """Keeps a view; where that cannot be, there will be none."""
        content = msgspec.json.encode({"database": self._database, "view": view})
        made = self._file.with_name(f"{_FILE}.{os.getpid()}")
        try:
            if not self._file.parent.is_dir():
                return  # nothing is kept where nothing else is, as in a container with a read-only root
            made.write_bytes(content)
            made.replace(self._file)
        except OSError as e:
            logger.debug("the last known routes cannot be kept: %s", e)

    def read(self) -> ControlView | None:
        """The view kept last; None where there is none of this database."""
        try:
            kept = msgspec.json.decode(self._file.read_bytes())
            return msgspec.convert(kept["view"], ControlView) if kept["database"] == self._database else None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            return None
