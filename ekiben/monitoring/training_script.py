"""A model's training script, run as a process of its own.

It is called as ``python -m MODULE --data FILE --json``. FILE is what `ekiben.monitoring.training_rows` describes; the script
registers one version and prints one JSON object with its ``tag`` on standard output. What it prints on standard error is shown.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import IO, Final

import msgspec

from ekiben.errors import RetrainingError

_KEPT_LINES: Final = 30
_STOP_S: Final = 10.0


class _Printed(msgspec.Struct):
    tag: str


def run_script(module: str, data: Path, *, tell: Callable[[str], None]) -> str:
    """Trains a version.

    Args:
        module: The script, as ``python -m`` takes it, from the working directory.
        data: The rows.
        tell: Gets each line of its progress.

    Returns:
        The version's tag.

    Raises:
        RetrainingError: It failed, or printed no tag.
    """
    command = [sys.executable, "-m", module, "--data", str(data), "--json"]
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")  # noqa: S603  our own Python
    assert process.stdout is not None  # both are pipes
    assert process.stderr is not None
    # Both pipes are read at once: a script that fills one would wait for ever.
    reader = Thread(target=_follow, args=(process.stderr, last, tell), daemon=True)
    try:
        reader.start()
        printed = process.stdout.read()
        code = process.wait()
        reader.join()
    finally:
        _end(process)
    if code != 0:
        raise RetrainingError(f"{module} failed: {_why(module, list(last), code)}")
    try:
        return msgspec.json.decode(printed, type=_Printed).tag
    except msgspec.MsgspecError as e:
        raise RetrainingError(
            f"{module} --json must print one JSON object with the version's tag; it printed {printed[:200]!r}: {e}"
        ) from e


def _follow(stream: IO[str], last: deque[str], tell: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            text = line.rstrip()
            if text:
                last.append(text)
                tell(text)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the script where this process is stopped before it; whatever it had done is no version yet."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _why(module: str, lines: list[str], code: int) -> str:
    """What went wrong, of the last that it said."""
    said = lines[-1] if lines else ""
    absent = re.search(r"No module named '?([\w.]+)'?", said)
    if absent is not None:
        name = absent[1]
        if f"{module}.".startswith(f"{name}."):
            return "there is no such module; run this in the project's folder, or say which it is in monitor.retrain.module"
        return f"the package {name} is not installed; `pip install 'ekiben[train]'`"
    if "--data" in said and "option" in said.lower():
        return "it takes no --data FILE; docs/85-retraining.md says what a training script must take"
    return said.removeprefix("Error: ") or f"exit code {code}, and it said nothing"
