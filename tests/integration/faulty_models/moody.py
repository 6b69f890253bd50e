"""Does what its rows' `f` asks for: 2 fails, 3 hangs, 4 takes a while, 5 crashes the process, 6 leaks 96 MB.

It writes down what it computes.
"""

import os
import signal
import time
from pathlib import Path

_leaked = []


def transform(columns):
    if file := os.environ.get("MOODY_LOG"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write("".join(f"{a:g}\n" for a in columns["a"].tolist()))
    time.sleep(0.002)  # longer than what may run in the event loop
    asked = set(columns["f"].tolist())
    if 2 in asked:
        raise ValueError("f is 2")
    if 3 in asked:
        time.sleep(6)
    if 4 in asked:
        time.sleep(0.6)
    if 5 in asked:
        os.kill(os.getpid(), signal.SIGSEGV)
    if 6 in asked:
        _leaked.append(bytearray(96 * 1024 * 1024))
    return columns
