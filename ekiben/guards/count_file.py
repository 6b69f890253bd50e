"""A file of fixed size that the workers of a host map into their memory, with locks on its parts that no dead worker keeps."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from pathlib import Path
from typing import Final

from xxhash import xxh3_128_digest

HEADER_BYTES: Final = 4096
KEY_BYTES: Final = 16
WAYS: Final = 8
"""Entries of a bucket: a key is in one of these, and they share a lock."""

_HEADER: Final = struct.Struct("<8sIIQ")
_TRIES: Final = 100


class CountFile:
    """Buckets of entries that begin with a key, mapped into memory.

    The lock of a bucket is a record lock of the kernel's on a byte range of the file: it goes with its process, whatever ends that,
    and workers that want other buckets do not meet. NOTE: it keeps processes apart, not the threads of one, and a process loses
    its locks when it closes the file a second time; so a process opens a file once and uses it from one thread.

    What the workers write may be torn where one is killed. Nothing here needs more than that each entry stays within its own bytes.

    Args:
        path: The file, made where there is none, and made anew where it is none of ours.
        magic: Names its kind and layout, 8 bytes.
        entry_bytes: Size of an entry, with its key.
        buckets: How many buckets.

    Attributes:
        data: The file's bytes.

    Raises:
        OSError: It cannot be made, or there is no room for it.
    """

    def __init__(self, path: Path, *, magic: bytes, entry_bytes: int, buckets: int) -> None:
        self.bucket_bytes = entry_bytes * WAYS
        self.entry_bytes = entry_bytes
        self.size_bytes = HEADER_BYTES + self.bucket_bytes * buckets
        self._buckets = buckets
        self._magic = magic
        self._file = self._open(path)
        try:
            self.data = mmap.mmap(self._file, self.size_bytes)
        except BaseException:
            os.close(self._file)
            raise
        self._seed = _HEADER.unpack_from(self.data)[3]

    def key_of(self, name: bytes) -> bytes:
        """The key of a name: a hash, seeded so that nobody who chooses names can choose which of them share a bucket."""
        return xxh3_128_digest(name, seed=self._seed)

    def bucket_of(self, key: bytes) -> int:
        """Where the bucket of a key begins."""
        return HEADER_BYTES + int.from_bytes(key[:4], "little") % self._buckets * self.bucket_bytes

    def find(self, key: bytes, bucket: int) -> int:
        """Where the entry of a key begins; -1 where it has none. Its bucket is locked."""
        place = self.data.find(key, bucket, bucket + self.bucket_bytes)
        while place >= 0 and (place - bucket) % self.entry_bytes:  # bytes of something else that look like it
            place = self.data.find(key, place + 1, bucket + self.bucket_bytes)
        return place

    def lock(self, bucket: int) -> None:
        """Locks a bucket. Whoever locks several does so in ascending order."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, bucket)

    def unlock(self) -> None:
        """Unlocks what this process has locked."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unmaps it."""
        self.data.close()
        os.close(self._file)

    def _open(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # of two that make it, one comes first
                if self._is_at(path, file) and self._prepared(path, file):
                    fcntl.flock(file, fcntl.LOCK_UN)
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise OSError(f"{path} is made anew by others again and again")

    def _is_at(self, path: Path, file: int) -> bool:
        try:
            return path.stat().st_ino == os.fstat(file).st_ino
        except FileNotFoundError:
            return False

    def _prepared(self, path: Path, file: int) -> bool:
        """Whether it can be used. One that is not ours is taken away: others may have it mapped, so it is not made shorter."""
        size = os.fstat(file).st_size
        head = os.pread(file, _HEADER.size, 0)
        if size == self.size_bytes and head.strip(b"\0"):
            magic, entry_bytes, buckets, _ = _HEADER.unpack(head)
            if (magic, entry_bytes, buckets) == (self._magic, self.entry_bytes, self._buckets):
                return True
        elif size == 0 or not head.strip(b"\0"):
            # Room for all of it now: a page that the disk has no room for later would end the worker.
            os.pwrite(file, bytes(self.size_bytes), 0)
            if os.fstat(file).st_size == self.size_bytes:
                os.pwrite(file, _HEADER.pack(self._magic, self.entry_bytes, self._buckets, secrets.randbits(64)), 0)
                return True
        path.unlink(missing_ok=True)
        return False
