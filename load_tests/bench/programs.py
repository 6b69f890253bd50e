"""The load generators: found on the PATH, or installed from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

PACKAGE_OF: Final = {"wrk": "wrk", "h2load": "nghttp2-client"}
_INSTALL_S: Final = 300
_ADVICE: Final = (
    "the benchmark's load generator {program} is not installed, and {why}; install it "
    "(Debian, Ubuntu: `apt-get install {package}` as root; macOS: `brew install {brew}`) and run this again"
)


class LoadGeneratorMissing(Exception):
    """A load generator is not there and could not be installed."""


class LoadGeneratorFailed(Exception):
    """A load generator did not do its work."""


def ensure_program(program: str) -> str:
    """The path of a load generator; installs Debian's package where there is none.

    Args:
        program: ``wrk`` or ``h2load``.

    Raises:
        LoadGeneratorMissing: It is not there and could not be installed; the message says what to do.
    """
    found = shutil.which(program)
    if found:
        return found
    package = PACKAGE_OF[program]
    if shutil.which("apt-get") is None:
        raise LoadGeneratorMissing(_advice(program, "this system has no apt-get"))
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for action in (["update"], ["install", "-y", "--no-install-recommends", package]):
        command = [*as_root, "apt-get", "-q", *action]
        try:
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise LoadGeneratorMissing(_advice(program, f"`{' '.join(command)}` failed: {e}")) from e
        # A list of packages that could not be refreshed may still be good enough to install from.
        if done.returncode and action[0] == "install":
            raise LoadGeneratorMissing(_advice(program, f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}"))
    found = shutil.which(program)
    if found is None:
        raise LoadGeneratorMissing(_advice(program, "it is not on the PATH after apt-get installed it"))
    return found


def _advice(program: str, why: str) -> str:
    brew = "wrk" if program == "wrk" else "nghttp2"
    return _ADVICE.format(program=program, why=why, package=PACKAGE_OF[program], brew=brew)
