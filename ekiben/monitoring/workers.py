"""Workers that are gone: what they showed as theirs at the moment must not be counted for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether there is a process of that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def forget_dead_workers(folder: Path, *, alive: Callable[[int], bool] = is_alive) -> None:
    """Removes what processes that are gone have left of their momentary values (gauges of a live mode).

    A worker that ends in order removes its own; one that was killed does not, and a sum over the live ones would go on
    counting it. Call it when a worker begins: a killed one is followed by another.

    Args:
        folder: Where prometheus_client's multiprocess mode keeps its files.
        alive: Whether there is a process of that id.
    """
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not alive(int(pid)):
            file.unlink(missing_ok=True)
