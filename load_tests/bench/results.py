"""What a run found: the records that the tables are made of and that go into the JSON file."""

from __future__ import annotations

from typing import Any

import msgspec

from load_tests.bench.procfs import CpuUse
from load_tests.bench.raw_session import RawSpeed

QUIET_PERCENT = 15.0
"""Above this share of the machine used by anything else, a figure says more about the neighbours than about the server."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a closed-loop load gave.

    Attributes:
        seconds: How long it took.
        answered: Requests answered well: with 200, over gRPC with OK.
        rps: The same a second.
        p50_ms: Median latency of all answers.
        p99_ms: 99th percentile of the same.
        max_ms: The longest.
        errors: What was not answered well: status, or ``connect``, ``read``, ``write``, ``timeout``, ``grpc error`` → how many.
    """

    seconds: float
    answered: int
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One closed-loop load on one server.

    Attributes:
        rows_each: Rows in each request.
        protocol: How it was asked; see `protocols`.
        repeats_percent: Requests that asked what was asked before, where that was looked at.
    """

    peer: str
    model: str
    workers: int
    connections: int
    round: int
    load: Load
    cpu: CpuUse
    rows_each: int = 1
    protocol: str = "rest"
    repeats_percent: int | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether the machine was as good as the benchmark's alone."""
        return self.cpu.noise_percent <= QUIET_PERCENT


class RawRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of the raw session."""

    model: str
    round: int
    speed: RawSpeed


class OverloadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One open-loop load on one server.

    Attributes:
        times_capacity: Arrival rate over the capacity.
        capacity_rps: Answers a second in a closed loop just before.
        rate: Requests a second.
        deadline_ms: The deadline each request carried.
        scheduled: Requests that were due.
        goodput_rps: Answers with 200 within their deadline, a second; only those that came while requests were still due.
        accepted: Answers with 200, late ones too.
        p50_ms, p99_ms: Latency of the accepted, from the scheduled time; None where none was.
        statuses: Status, or ``connection``, ``no answer``, ``unsent`` → how many.
        without_retry_after: Refusals (429, 503) that do not say when to try again.
        late_ms: How late the generator itself was at worst.
    """

    peer: str
    workers: int
    round: int
    times_capacity: float
    capacity_rps: float
    rate: float
    deadline_ms: float
    scheduled: int
    goodput_rps: float
    accepted: int
    p50_ms: float | None
    p99_ms: float | None
    statuses: dict[str, int]
    without_retry_after: int
    late_ms: float
    cpu: CpuUse


class ShadowRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One open-loop load on one worker, without a shadow or with one.

    Attributes:
        side: ``ekiben`` without, ``ekiben-shadow`` with.
        capacity_rps: Answers a second in a closed loop just before, without.
        rate: Requests a second.
        scheduled: Requests that were due.
        p50_ms: Median latency of the answers with 200, without the first second's.
        p99_ms: 99th percentile of the same.
        statuses: As in `Outcome`.
        late_ms: How late the generator itself was at worst.
        computed_percent: Rows that the shadow computed and compared, percent of those answered; None without one.
    """

    side: str
    model: str
    round: int
    capacity_rps: float
    rate: float
    scheduled: int
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]
    late_ms: float
    cpu: CpuUse
    computed_percent: float | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether the machine was as good as the benchmark's alone."""
        return self.cpu.noise_percent <= QUIET_PERCENT


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A server that did not start, gave a wrong answer, or ended under load."""

    peer: str
    model: str
    workers: int
    round: int
    problem: str


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What was promised and what was found.

    Attributes:
        promise: In words.
        where: Workers and connections.
        found: The figure; None where it was not measured.
        target: What it must be.
        unit: ``x``, ``%``, ``ms`` or empty.
        at_most: True where less is better.
    """

    promise: str
    where: str
    found: float | None
    target: float
    unit: str
    at_most: bool = False

    @property
    def is_reached(self) -> bool | None:
        """None where it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.target if self.at_most else self.found >= self.target


class Results(msgspec.Struct, kw_only=True):
    """A whole run.

    Attributes:
        routed: Closed loops on one Ekiben without and with routes; ``peer`` is the side.
        shadows: Open loops on one, without and with a shadow.
        cached: Closed loops on one, without and with a cache.
        twins: Closed loops on one that serves a model several times: as it is, without the log, with all guards.
    """

    started: str
    machine: dict[str, Any]
    options: dict[str, Any]
    raw: list[RawRecord] = []
    loads: list[LoadRecord] = []
    overloads: list[OverloadRecord] = []
    routed: list[LoadRecord] = []
    shadows: list[ShadowRecord] = []
    cached: list[LoadRecord] = []
    twins: list[LoadRecord] = []
    failures: list[Failure] = []
