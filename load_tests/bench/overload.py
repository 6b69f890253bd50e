"""Overload: the capacity of a server in a closed loop, then a constant rate of several times as much."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import msgspec

from load_tests.bench.contestants import PROJECT
from load_tests.bench.figures import percentile
from load_tests.bench.open_loop import Outcome, Plan
from load_tests.bench.procfs import CpuUse
from load_tests.bench.results import OverloadRecord

DEADLINE_MS: Final = 250.0
DEADLINE_HEADER: Final = "X-Request-Timeout-Ms"
CAPACITY_CONNECTIONS: Final = 16
TIMES_CAPACITY: Final = (0.5, 4.0)
_REFUSALS: Final = ("429", "503")
_START_S: Final = 30


def open_loop_plan(url: str, bodies: list[bytes], headers: dict[str, str], *, rate: float, seconds: float, timer_ms: float = 0.0) -> Plan:
    """A plan that goes where a closed loop went: to the same address, with the same bodies and headers."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    return Plan(
        host=host,
        port=int(port),
        path=f"/{path}",
        bodies=[b.decode() for b in bodies],
        headers=headers,
        rate=rate,
        seconds=seconds,
        timer_ms=timer_ms,
    )


class GeneratorFailed(Exception):
    """The open-loop generator did not do its work."""


def run_open_loop(plan: Plan) -> Outcome:
    """Runs a plan in a process of its own.

    Raises:
        GeneratorFailed: It ended badly or not in time.
    """
    command = [sys.executable, "-m", "load_tests.bench.open_loop"]
    limit = plan.seconds + plan.grace_s + _START_S
    try:
        done = subprocess.run(command, input=msgspec.json.encode(plan), capture_output=True, timeout=limit, cwd=PROJECT, check=False)
    except subprocess.TimeoutExpired as e:
        raise GeneratorFailed(f"the open-loop generator did not end within {limit:g} s") from e
    if done.returncode:
        raise GeneratorFailed(f"the open-loop generator ended with code {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(done.stdout, type=Outcome)


def overload_record(
    outcome: Outcome, cpu: CpuUse, *, peer: str, workers: int, round_: int, times: float, capacity_rps: float, deadline_ms: float
) -> OverloadRecord:
    """Sums up what came of an open-loop load."""
    # What is answered after the last request was due came from a queue, not from what the server does in that time.
    in_time = sum(1 for done_s, latency_ms in outcome.accepted if done_s <= outcome.seconds and latency_ms <= deadline_ms)
    accepted = [latency_ms for _, latency_ms in outcome.accepted]
    refused = sum(outcome.statuses.get(status, 0) for status in _REFUSALS)
    said_when = sum(outcome.with_retry_after.get(status, 0) for status in _REFUSALS)
    return OverloadRecord(
        peer=peer,
        workers=workers,
        round=round_,
        times_capacity=times,
        capacity_rps=capacity_rps,
        rate=round(outcome.scheduled / outcome.seconds, 1),
        deadline_ms=deadline_ms,
        scheduled=outcome.scheduled,
        goodput_rps=round(in_time / outcome.seconds, 1),
        accepted=len(accepted),
        p50_ms=round(percentile(accepted, 50), 2) if accepted else None,
        p99_ms=round(percentile(accepted, 99), 2) if accepted else None,
        statuses=dict(sorted(outcome.statuses.items())),
        without_retry_after=refused - said_when,
        late_ms=round(outcome.late_ms, 2),
        cpu=cpu,
    )
