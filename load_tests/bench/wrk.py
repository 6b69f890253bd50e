"""The closed-loop load generator: wrk, one thread, a Lua script that counts answers by status."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

_SCRIPT: Final = Path(__file__).with_name("post.lua")
_INSTALL_S: Final = 300
_GRACE_S: Final = 30
_OK: Final = 200
_ADVICE: Final = (
    "the benchmark's load generator wrk is not installed, and {why}; install it (Debian, Ubuntu: `apt-get install wrk` as root; "
    "macOS: `brew install wrk`) and run this again"
)


class WrkFailed(Exception):
    """wrk is missing, or did not do its work."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a closed-loop load gave.

    Attributes:
        seconds: How long it took.
        answered: Requests answered with 200.
        rps: The same a second.
        p50_ms: Median latency of all answers.
        p99_ms: 99th percentile of the same.
        max_ms: The longest.
        errors: What was not answered with 200: status, or ``connect``, ``read``, ``write``, ``timeout`` → how many.
    """

    seconds: float
    answered: int
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]


def ensure_wrk() -> str:
    """The path of wrk; installs Debian's package where there is none.

    Raises:
        WrkFailed: It is not there and could not be installed; the message says what to do.
    """
    found = shutil.which("wrk")
    if found:
        return found
    if shutil.which("apt-get") is None:
        raise WrkFailed(_ADVICE.format(why="this system has no apt-get"))
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for action in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
        command = [*as_root, "apt-get", "-q", *action]
        try:
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise WrkFailed(_ADVICE.format(why=f"`{' '.join(command)}` failed: {e}")) from e
        # A list of packages that could not be refreshed may still be good enough to install from.
        if done.returncode and action[0] == "install":
            raise WrkFailed(_ADVICE.format(why=f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}"))
    found = shutil.which("wrk")
    if found is None:
        raise WrkFailed(_ADVICE.format(why="it is not on the PATH after apt-get installed it"))
    return found


def run_wrk(wrk: str, url: str, bodies: Path, *, connections: int, seconds: float, headers: Mapping[str, str] | None = None) -> Load:
    """Loads a server.

    Args:
        wrk: The program.
        url: Where to post.
        bodies: A file with one body a line; they are sent in turn.
        connections: Requests in flight.
        seconds: How long; whole seconds, at least one.
        headers: Request headers on top of the content type.

    Raises:
        WrkFailed: wrk ended badly or printed no result.
    """
    whole = max(1, round(seconds))
    command = [wrk, "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "10s", "-s", str(_SCRIPT), url, "--", str(bodies)]
    command += [f"{name}:{value}" for name, value in (headers or {}).items()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + _GRACE_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise WrkFailed(f"wrk did not end {_GRACE_S} s after its time") from e
    if done.returncode:
        raise WrkFailed(f"wrk ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return parse_result(done.stdout)


def parse_result(output: str) -> Load:
    """Reads the script's line in wrk's output.

    Raises:
        WrkFailed: There is none.
    """
    line = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if line is None:
        raise WrkFailed(f"wrk printed no result: {output.strip()[-300:]}")
    values = {name: int(value) for name, _, value in (pair.partition("=") for pair in line[1].split())}
    statuses = {int(name.removeprefix("status_")): count for name, count in values.items() if name.startswith("status_")}
    answered = statuses.pop(_OK, 0)
    errors = {str(status): count for status, count in sorted(statuses.items())}
    errors |= {name: values[name] for name in ("connect", "read", "write", "timeout") if values[name]}
    seconds = values["duration_us"] / 1e6
    return Load(
        seconds=seconds,
        answered=answered,
        rps=round(answered / seconds, 1),
        p50_ms=values["p50_us"] / 1e3,
        p99_ms=values["p99_us"] / 1e3,
        max_ms=values["max_us"] / 1e3,
        errors=errors,
    )
