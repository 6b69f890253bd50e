"""The peers' environments: the project depends on none of them, so each gets its own, built once with uv and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

DEBIANS_PYTHON: Final = "/usr/bin/python3.11"
_INSTALL_S: Final = 900
_STAMP: Final = "ekiben-bench.sha256"
_SHARED: Final = "onnxruntime"


class InstallFailed(Exception):
    """The environment could not be built."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer needs.

    Attributes:
        name: Of the environment, which is its folder's as well.
        packages: What to install, as for pip. ``onnxruntime`` is always installed in the project's version.
        python: The interpreter to make it from; empty for the one that runs this.
        pinned: Whether all of the project's pins hold in it, and not that of onnxruntime alone.
    """

    name: str
    packages: tuple[str, ...]
    python: str = ""
    pinned: bool = False


ENVIRONMENTS: Final = {
    environment.name: environment
    for environment in (
        Environment(name="fastapi", packages=("fastapi", "orjson", "uvicorn[standard]", "numpy"), pinned=True),
        Environment(name="litserve", packages=("litserve==0.2.19", "uvloop", "httptools")),
        # Its parallel workers die with uvloop 0.22 and later: "There is no current event loop in thread 'MainThread'".
        Environment(name="mlserver", packages=("mlserver==1.7.1", "uvloop<0.22", "httptools")),
        Environment(name="kserve", packages=("kserve==0.21.0", "uvloop", "httptools")),
        # The process in which Triton runs a Python model links the system's libpython 3.11 and cannot use another one's library.
        Environment(name="triton", packages=("nvidia-pytriton==0.7.0",), python=DEBIANS_PYTHON),
    )
}


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where they are kept: ``$XDG_CACHE_HOME/ekiben-bench``, by default in ``~/.cache``."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ekiben-bench"


def ensure_environment(environment: Environment, cache: Path, constraints: Path) -> Path:
    """The interpreter of an environment; builds it where it is missing, or was built of other packages.

    Args:
        environment: What must be in it.
        cache: The folder of all environments.
        constraints: The project's pins; used where the file exists.

    Raises:
        InstallFailed: Its interpreter is missing, or uv could not install the packages; the message has the end of its output.
    """
    base = environment.python or sys.executable
    if not Path(base).exists():
        raise InstallFailed(
            f"{environment.name} needs the interpreter {base}, which is not there (Debian 12: `apt-get install python3.11`)"
        )
    pins = constraints.read_text() if constraints.is_file() else ""
    packages = [*environment.packages, _pin_of(_SHARED, pins)]
    wanted = sha256("\n".join([base, sys.version, *packages, pins if environment.pinned else ""]).encode()).hexdigest()
    folder = cache / environment.name
    python = folder / "bin" / "python"
    stamp = folder / _STAMP
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "--quiet", "--python", base, str(folder)])
    pinned = ["--constraint", str(constraints)] if environment.pinned and pins else []
    _run([*uv, "pip", "install", "--quiet", "--python", str(python), *pinned, *packages])
    # Written last: an environment without it was not finished.
    stamp.write_text(wanted)
    return python


def _pin_of(package: str, pins: str) -> str:
    lines = (line.strip() for line in pins.splitlines())
    return next((line for line in lines if line.partition("==")[0] == package), package)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise InstallFailed(f"`{' '.join(command)}` failed: {e}") from e
    if done.returncode:
        raise InstallFailed(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-600:]}")
