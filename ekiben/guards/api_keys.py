"""API keys, as requests bring them: ``ek_PREFIX_SECRET``. A worker checks them in memory.

The prefix finds the key, the secret proves it. Kept is the secret's SHA-256: of 256 random bits nobody can try enough to
find them, so that a hash made slow on purpose would only cost each request its time.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import string
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Final

import msgspec

from ekiben.errors import StateError, Unauthenticated
from ekiben.guards.principal import Principal
from ekiben.state.keys import ApiKey, Keys

logger = logging.getLogger("ekiben.auth")

MARK: Final = "ek_"
"""What each key begins with, so that those who search for leaked secrets know one when they see it."""

POLL_S: Final = 0.5
_PREFIX_CHARS: Final = 8
_SECRET_BYTES: Final = 32
_LETTERS: Final = string.ascii_lowercase + string.digits
_PREFIX_FROM: Final = len(MARK)
_PREFIX_TO: Final = _PREFIX_FROM + _PREFIX_CHARS
_SECRET_FROM: Final = _PREFIX_TO + 1


class NewKey(msgspec.Struct, frozen=True):
    """A key that was made just now, the only time that its secret is known.

    Attributes:
        text: The key, as requests bring it.
        prefix: What names it.
        digest: What is kept of its secret.
    """

    text: str
    prefix: str
    digest: str

    def __repr__(self) -> str:
        return f"NewKey({self.prefix})"  # the secret stands in no log and in no traceback


def new_key() -> NewKey:
    """Makes a key of 256 random bits."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX_CHARS))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return NewKey(f"{MARK}{prefix}_{secret}", prefix, digest_of(secret.encode()))


def digest_of(secret: bytes) -> str:
    """What is kept of a secret: its SHA-256, hexadecimal."""
    return sha256(secret).hexdigest()


def prefix_of(text: str) -> str:
    """The prefix, of a prefix or of a whole key: who revokes a leaked key has it at hand, and need not send it."""
    return text[_PREFIX_FROM:_PREFIX_TO] if text.startswith(MARK) else text


class _Entry(msgspec.Struct, frozen=True):
    digest: bytes
    expires: float
    principal: Principal | None


_RIGHT: Final = 4096


class KeyRing:
    """The keys as this worker knows them: a snapshot, made anew when they change.

    While the control database is away, the last known keys count. Before the first that was read there are none.

    Args:
        keys: All keys.
        wall: Seconds since the epoch.
        poll_s: Seconds between two looks whether they changed.
    """

    def __init__(self, keys: Keys, *, wall: Callable[[], float] = time.time, poll_s: float = POLL_S) -> None:
        self._keys = keys
        self._wall = wall
        self._poll_s = poll_s
        self._entries: dict[bytes, _Entry] = {}
        # Keys that were found right, until any changes. A look-up compares their hashes, which are seeded, and not the secrets:
        # how long it takes says nothing of how much of a secret is right.
        self._right: dict[bytes, _Entry] = {}
        self._nobody = _Entry(secrets.token_bytes(_SECRET_BYTES), 0.0, None)
        self._generation = -1
        self._is_away = False
        self._task: asyncio.Task[None] | None = None
        self.is_used = False

    def find(self, given: bytes) -> Principal | None:
        """Whose key it is; None for what is no key of this server, or was revoked.

        Where no key has the prefix, the secret is compared all the same, with one that fits none: how long it takes does not
        say which prefixes there are.

        Raises:
            Unauthenticated: The key is right, and its time is over.
        """
        entry = self._right.get(given)
        if entry is None:
            entry = self._entries.get(given[_PREFIX_FROM:_PREFIX_TO], self._nobody)
            # What stands before the secret found the entry, but for two marks; with them a key has one way to be written.
            is_right = hmac.compare_digest(sha256(given[_SECRET_FROM:]).digest(), entry.digest)
            if not is_right or given[_PREFIX_TO:_SECRET_FROM] != b"_":
                return None
            if len(self._right) < _RIGHT:
                self._right[given] = entry
        if entry.expires and entry.expires <= self._wall():
            raise Unauthenticated("the API key has expired; ask for another")
        return entry.principal

    def refresh(self) -> None:
        """Makes the snapshot anew where the keys have changed. It blocks.

        Raises:
            StateError: The control database cannot be read; the snapshot stays as it is.
        """
        # Read first: what changes while the keys are read is seen next time.
        generation = self._keys.generation()
        if generation == self._generation:
            return
        kept = self._keys.all()
        self._entries, self._right = _entries_of(kept), {}
        self.is_used = bool(kept)
        self._generation = generation

    async def start(self) -> None:
        """Reads the keys, and follows them until `stop`."""
        await self._refresh()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Follows them no more; what is known stays good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        except StateError as e:
            if not self._is_away:
                logger.warning("the API keys cannot be read, the last known ones count: %s", e)
            self._is_away = True
        except Exception:
            logger.exception("the API keys cannot be read, the last known ones count")
        else:
            self._is_away = False


def _entries_of(keys: Sequence[ApiKey]) -> dict[bytes, _Entry]:
    """Those that may count, by prefix. A revoked one is as unknown as one that never was."""
    return {
        key.prefix.encode(): _Entry(bytes.fromhex(key.digest), key.expires, Principal(f"key:{key.prefix}", frozenset(key.scopes)))
        for key in keys
        if not key.revoked
    }
