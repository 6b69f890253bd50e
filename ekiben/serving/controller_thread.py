"""What a worker does beside requests, the controller of rollouts above all: a thread of its own, so that it never holds one up."""

from __future__ import annotations

import threading
from typing import Final, Protocol

_PATIENCE_S: Final = 2.0


class Runs(Protocol):
    """What works until it is told to stop."""

    def run(self, stop: threading.Event) -> None:
        """Works."""


class ControllerThread:
    """Runs a controller, or something like it, beside the event loop.

    Args:
        controller: It works while it has the lease, and waits for it while another worker has it.
        name: The thread's.
    """

    def __init__(self, controller: Runs, name: str = "ekiben-controller") -> None:
        self._controller = controller
        self._name = name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins."""
        # A daemon: a database that hangs must not keep the worker from ending. Nothing is ever half done.
        self._thread = threading.Thread(target=self._controller.run, args=(self._stop,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends, and gives the lease back; waits a moment for that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
