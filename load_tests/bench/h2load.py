"""The closed-loop load generator for gRPC: h2load, one thread, so many streams on eight connections.

h2load knows HTTP/2 and nothing of gRPC: an error comes with status 200 and no message. So answers are counted by the bytes of their
messages, all of which are as long as the one given before the load.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from load_tests.bench.figures import percentile
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.results import Load

_CONNECTIONS: Final = 8
_GRACE_S: Final = 30
_PREFIX_BYTES: Final = 5
_OK: Final = "200"
_DATA: Final = re.compile(r"\((\d+)\) data")
GRPC_ERROR: Final = "grpc error"


def framed(message: bytes) -> bytes:
    """A message as it goes over the wire: behind a byte that says it is not compressed, and its length."""
    return b"\0" + len(message).to_bytes(_PREFIX_BYTES - 1, "big") + message


def run_h2load(h2load: str, url: str, message: bytes, *, folder: Path, answer_bytes: int, calls: int, seconds: float) -> Load:
    """Loads a server with one message over and over.

    Args:
        h2load: The program.
        url: The method's address, ``http://host:port/package.Service/Method``.
        message: The encoded request.
        folder: Where its files go, which are removed.
        answer_bytes: Length of the encoded answer to this message.
        calls: Calls in flight; rounded up to a multiple of 8 where it is above that.
        seconds: How long; whole seconds, at least one.

    Raises:
        LoadGeneratorFailed: h2load ended badly or printed no result.
    """
    whole = max(1, round(seconds))
    connections = min(_CONNECTIONS, calls)
    body, log = folder / "h2load.body", folder / "h2load.log"
    body.write_bytes(framed(message))
    log.unlink(missing_ok=True)
    command = [h2load, "-t1", f"-c{connections}", f"-m{-(-calls // connections)}", "-D", str(whole), "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + _GRACE_S, check=False)
        if done.returncode:
            raise LoadGeneratorFailed(f"h2load ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        answers = log.read_text() if log.exists() else ""
    except subprocess.TimeoutExpired as e:
        raise LoadGeneratorFailed(f"h2load did not end {_GRACE_S} s after its time") from e
    finally:
        body.unlink()
        log.unlink(missing_ok=True)
    return parse_result(done.stdout, answers, answer_bytes=answer_bytes + _PREFIX_BYTES, seconds=whole)


def parse_result(output: str, log: str, *, answer_bytes: int, seconds: float) -> Load:
    """Counts what came.

    Args:
        output: What h2load printed.
        log: Its log: the time of the start, the status and the microseconds of each answer.
        answer_bytes: Length of a good answer's body.
        seconds: How long the load took.

    Raises:
        LoadGeneratorFailed: Its output does not say how many bytes came.
    """
    data = _DATA.search(output)
    if data is None:
        raise LoadGeneratorFailed(f"h2load printed no result: {output.strip()[-300:]}")
    latencies_ms: list[float] = []
    errors: dict[str, int] = {}
    for line in log.splitlines():
        _, status, microseconds = line.split("\t")
        if status == _OK:
            latencies_ms.append(int(microseconds) / 1e3)
        else:
            kind = "failed" if status == "-1" else status
            errors[kind] = errors.get(kind, 0) + 1
    answered = min(len(latencies_ms), int(data[1]) // answer_bytes)
    if answered < len(latencies_ms):
        errors[GRPC_ERROR] = len(latencies_ms) - answered
    return Load(
        seconds=seconds,
        answered=answered,
        rps=round(answered / seconds, 1),
        p50_ms=percentile(latencies_ms, 50) if latencies_ms else 0.0,
        p99_ms=percentile(latencies_ms, 99) if latencies_ms else 0.0,
        max_ms=max(latencies_ms, default=0.0),
        errors=errors,
    )
