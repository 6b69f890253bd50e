"""What the collector of garbage need not look at again and again, and memory that was freed, back to the operating system."""

from __future__ import annotations

import ctypes
import gc
import sys

THRESHOLD = 10_000
"""So many new objects have the collector look at the youngest; with Python's 700 a busy worker would stop dozens of times a second."""


def keep_for_good() -> None:
    """Collects garbage once more, and has the collector leave alone what is there now: imported code, loaded models.

    Walking all of that takes tens of milliseconds, for which every request waits. What is unloaded later goes all the same, as
    soon as nothing refers to it.
    """
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Collects garbage and has the C library return what is free; on Linux with glibc, elsewhere the collection alone.

    glibc keeps freed memory for itself, and with it most of what a model took.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
