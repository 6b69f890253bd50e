"""Who may listen on a port that several processes share.

Workers of one server share a port by SO_REUSEPORT, and so would any other program of the same user: two servers on one
machine would each get half of the other's requests, without an error. So the workers of one server hold a lock together, named by
the port; a worker of another server finds it held and is told by whom. The kernel lets go of it when its holders end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from ekiben.errors import SettingError

_WAIT_S = 5.0
_LOOK_S = 0.05


class PortLock:
    """A lock on one port, shared by the processes of one family.

    Args:
        port: The port.
        family: Names the processes that share it: the id of the process that started them.
        folder: Where the lock's file is.
    """

    def __init__(self, port: int, family: int, folder: Path | None = None) -> None:
        self._port = port
        self._family = str(family)
        self._path = (folder or Path(tempfile.gettempdir())) / f"ekiben-{os.getuid()}-{port}.lock"
        self._file: IO[str] | None = None

    def acquire(self, *, wait_s: float = _WAIT_S) -> None:
        """Takes the lock, waiting a little for a server that is just ending.

        Raises:
            SettingError: Another server holds it, or its file cannot be made.
        """
        end = time.monotonic() + wait_s
        try:
            # NOTE: the folder is everybody's; what a link of somebody else's leads to is not opened.
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "a+")
        except OSError as e:
            raise SettingError(f"port {self._port} needs the lock file {self._path}, which cannot be opened: {e.strerror}") from e
        while not self._take(file):
            if time.monotonic() > end:
                file.seek(0)
                holder = file.read().strip()
                file.close()
                raise SettingError(
                    f"port {self._port} is another server's (started by process {holder}); "
                    "set EKIBEN_DATA_PORT to a free port, or to 0 for none"
                )
            time.sleep(_LOOK_S)
        self._file = file

    def _take(self, file: IO[str]) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(self._family)
            file.flush()
        with contextlib.suppress(BlockingIOError):
            # NOTE: an exclusive lock becomes a shared one in two steps, between which another server may write its name.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            file.seek(0)
            if file.read().strip() == self._family:
                return True
            fcntl.flock(file, fcntl.LOCK_UN)
        return False

    def release(self) -> None:
        """Lets go of it."""
        if self._file is not None:
            self._file.close()
            self._file = None
