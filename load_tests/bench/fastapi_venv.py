"""An environment of its own for FastAPI and orjson, which the project does not depend on; built once, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("fastapi", "orjson", "uvicorn[standard]", "onnxruntime", "numpy")
_INSTALL_S: Final = 600
_STAMP: Final = "ekiben-bench.sha256"


class InstallFailed(Exception):
    """The environment could not be built."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept: ``$XDG_CACHE_HOME/ekiben-bench/fastapi``, by default in ``~/.cache``."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ekiben-bench" / "fastapi"


def ensure_environment(folder: Path, constraints: Path) -> Path:
    """The interpreter of the environment; builds it where it is missing or was built from other pins.

    Args:
        folder: The environment's folder.
        constraints: The project's pins; used where the file exists.

    Raises:
        InstallFailed: pip could not install the packages; the message has the end of its output.
    """
    pins = constraints.read_bytes() if constraints.is_file() else b""
    wanted = sha256("\n".join([sys.version, *_PACKAGES]).encode() + pins).hexdigest()
    python = folder / "bin" / "python"
    stamp = folder / _STAMP
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pinned = ["-c", str(constraints)] if pins else []
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned, *_PACKAGES])
    # Written last: an environment without it was not finished.
    stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise InstallFailed(f"`{' '.join(command)}` failed: {e}") from e
    if done.returncode:
        raise InstallFailed(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-600:]}")
