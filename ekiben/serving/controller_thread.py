"""The controller of rollouts in a worker: a thread of its own, so that it never holds up a request."""

from __future__ import annotations

import threading
from typing import Final

from ekiben.rollout.controller import Controller

_PATIENCE_S: Final = 2.0


class ControllerThread:
    """Runs a controller beside the event loop.

    Args:
        controller: It works while it has the lease, and waits for it while another worker has it.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins."""
        # A daemon: a database that hangs must not keep the worker from ending. Nothing is ever half done.
        self._thread = threading.Thread(target=self._controller.run, args=(self._stop,), name="ekiben-controller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends, and gives the lease back; waits a moment for that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
