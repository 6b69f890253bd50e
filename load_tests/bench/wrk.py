"""The closed-loop load generator for HTTP/1.1: wrk, one thread, a Lua script that counts answers by status."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.results import Load

_SCRIPT: Final = Path(__file__).with_name("post.lua")
_GRACE_S: Final = 30
_OK: Final = 200


def write_bodies(file: Path, bodies: Iterable[bytes]) -> None:
    """Writes the bodies as the script reads them: each behind its length in decimal and a line feed."""
    file.write_bytes(b"".join(b"%d\n%b" % (len(body), body) for body in bodies))


def run_wrk(wrk: str, url: str, bodies: Path, *, connections: int, seconds: float, headers: Mapping[str, str] | None = None) -> Load:
    """Loads a server.

    Args:
        wrk: The program.
        url: Where to post.
        bodies: A file that `write_bodies` wrote; they are sent in turn.
        connections: Requests in flight.
        seconds: How long; whole seconds, at least one.
        headers: Request headers on top of the content type, which is JSON unless they say otherwise.

    Raises:
        LoadGeneratorFailed: wrk ended badly or printed no result.
    """
    whole = max(1, round(seconds))
    command = _command(wrk, url, bodies, connections=connections, seconds=whole, headers=headers)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + _GRACE_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise LoadGeneratorFailed(f"wrk did not end {_GRACE_S} s after its time") from e
    return _result(done.returncode, done.stdout, done.stderr)


class LastingLoad:
    """A load that goes on until it is stopped.

    Args:
        wrk: The program.
        url: Where to post.
        bodies: A file that `write_bodies` wrote; they are sent in turn.
        connections: Requests in flight.
        at_most_s: When it ends by itself, for whoever loses sight of it; whole seconds.
    """

    def __init__(self, wrk: str, url: str, bodies: Path, *, connections: int, at_most_s: int) -> None:
        command = _command(wrk, url, bodies, connections=connections, seconds=at_most_s, headers=None)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def check_under_way(self) -> None:
        """Makes sure that it still goes on.

        Raises:
            LoadGeneratorFailed: It has ended.
        """
        if self._process.poll() is not None:
            output, problem = self._process.communicate()
            _result(self._process.returncode, output, problem)
            raise LoadGeneratorFailed("wrk ended before its load was needed no more")

    def stop(self) -> Load:
        """Ends it; returns all that it gave.

        Raises:
            LoadGeneratorFailed: It had ended already, does not end, ended badly or printed no result.
        """
        self.check_under_way()
        # wrk ends at this signal as it does when its time is over, and prints its result.
        self._process.send_signal(signal.SIGINT)
        try:
            output, problem = self._process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired as e:
            raise LoadGeneratorFailed(f"wrk did not end {_GRACE_S} s after it was told to") from e
        return _result(self._process.returncode, output, problem)


def _command(wrk: str, url: str, bodies: Path, *, connections: int, seconds: int, headers: Mapping[str, str] | None) -> list[str]:
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT), url, "--", str(bodies)]
    return command + [f"{name}:{value}" for name, value in (headers or {}).items()]


def _result(code: int, output: str, problem: str) -> Load:
    """What wrk printed.

    Raises:
        LoadGeneratorFailed: wrk ended badly or printed no result.
    """
    if code:
        raise LoadGeneratorFailed(f"wrk ended with code {code}: {(problem or output).strip()[-300:]}")
    return parse_result(output)


def parse_result(output: str) -> Load:
    """Reads the script's line in wrk's output.

    Raises:
        LoadGeneratorFailed: There is none.
    """
    line = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if line is None:
        raise LoadGeneratorFailed(f"wrk printed no result: {output.strip()[-300:]}")
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
