"""Memory that was freed, back to the operating system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back_memory() -> None:
    """Collects garbage and has the C library return what is free; on Linux with glibc, elsewhere the collection alone.

    glibc keeps freed memory for itself, and with it most of what a model took.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
