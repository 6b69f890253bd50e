"""The key of the admin API: a file that only its owner may read, made at first start, read again when it changes."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from ekiben.settings import Settings

logger = logging.getLogger("ekiben.admin")

Verdict = Literal["right", "wrong", "missing", "off"]

_KEY_BYTES: Final = 32
_SHORTEST: Final = 16
_LARGEST_FILE_BYTES: Final = 4096
_SETTLED_S: Final = 2.0
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class AdminKey:
    """A key in a file. It stands in no log, no error and no repr.

    The file is looked at with each request, and read again where it changed: a new key counts from the next request on.

    Args:
        file: The file.
        remedy: What would be right where there is no key.
        wall: Seconds since the epoch.

    Attributes:
        file: The file.
        problem: Why there is no key, and what would be right; empty where there is one.
    """

    def __init__(self, file: Path, *, remedy: str = "", wall: Callable[[], float] = time.time) -> None:
        self.file = file
        self.problem = ""
        self._remedy = remedy or f"write a key of {_SHORTEST} or more characters into it"
        self._wall = wall
        self._key = b""
        self._seen: tuple[int, ...] | None = None

    @classmethod
    def of(cls, settings: Settings) -> AdminKey:
        """The key of the settings: that in ``EKIBEN_ADMIN_KEY_FILE``, or one in ``EKIBEN_HOME``, made where there is none.

        Of several processes that make one at the same time, one wins, and all read the same. Where none can be made, every
        request is told so, until there is one.
        """
        if settings.admin_key_file is not None:
            return cls(settings.admin_key_file)
        file = settings.home / "admin.key"
        try:
            _make(file)
            _close(file)
        except OSError as e:
            logger.warning("%s cannot be made or kept to its owner: %s", file, e.strerror or e)
        return cls(file, remedy="set EKIBEN_ADMIN_KEY_FILE to a file with a key, or EKIBEN_HOME to a folder that can be written")

    def check(self, authorization: bytes | None) -> Verdict:
        """What a request's ``Authorization`` is worth.

        Returns:
            ``right``; ``missing``: there is none, or none of the form ``Bearer KEY``; ``wrong``: it is another key;
            ``off``: there is no key to compare it with, see `problem`.
        """
        self._refresh()
        if self.problem:
            return "off"
        scheme, _, given = (authorization or b"").strip().partition(b" ")
        if scheme.lower() != b"bearer" or not given.strip():
            return "missing"
        return "right" if hmac.compare_digest(given.strip(), self._key) else "wrong"

    def matches(self, given: bytes) -> bool:
        """Whether something is the key; nothing is while there is none."""
        self._refresh()
        return not self.problem and hmac.compare_digest(given, self._key)

    def _refresh(self) -> None:
        """Reads the file where it may have changed.

        A file that was written just now may change again within the resolution of its time, so it is not yet believed.
        """
        before = self.problem
        try:
            found = self.file.stat()
            seen = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
            if seen == self._seen:
                return
            with self.file.open("rb") as stream:
                self._take(stream.read(_LARGEST_FILE_BYTES).strip())
            self._seen = seen if abs(self._wall() - found.st_ctime) > _SETTLED_S else None
        except OSError as e:
            self._key, self._seen = b"", None
            self.problem = f"{self.file.name} cannot be read ({e.strerror or e}); {self._remedy}"
        if self.problem not in ("", before):
            logger.warning("the admin API is off: in %s, %s", self.file.parent, self.problem)

    def _take(self, key: bytes) -> None:
        is_key = len(key) >= _SHORTEST and key.isascii() and key.decode().isprintable() and b" " not in key
        self._key = key if is_key else b""
        self.problem = "" if is_key else f"{self.file.name} holds no key: it must be {_SHORTEST} or more characters of ASCII without spaces"


def _make(file: Path) -> None:
    """Makes a key, where there is none, in one step that either happened or did not.

    Raises:
        OSError: It cannot be written.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(secrets.token_urlsafe(_KEY_BYTES).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was first: its key is the key
            _publish(draft, file)
            logger.info("the key of the admin API is in %s", file)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, file: Path) -> None:
    """Gives the draft its name, and takes it from no file that has it.

    Raises:
        FileExistsError: There is one.
        OSError: It cannot be.
    """
    try:
        file.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links. Of two that come here at once, the later one's key counts, also for the earlier.
        draft.replace(file)


def _close(file: Path) -> None:
    """Takes a key that others may read away from them.

    Raises:
        OSError: It belongs to somebody else, or cannot be changed.
    """
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & _OPEN_TO_OTHERS:
        file.chmod(mode & ~_OPEN_TO_OTHERS)
        logger.warning("%s was open to others (mode %o) and is not any more; if they may have read the key, write another", file, mode)
