"""The run: which server is loaded when, and what is written down.

Servers run one at a time. Within a round all peers of one model and number of workers come right after one another, so
that a ratio of two of them compares neighbours in time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from load_tests.bench.contestants import PROJECT, Contestant, Workplace
from load_tests.bench.h2load import run_h2load
from load_tests.bench.heats import Heat, Served, noting_failure, serving
from load_tests.bench.models import BenchModel
from load_tests.bench.overload import (
    CAPACITY_CONNECTIONS,
    DEADLINE_HEADER,
    DEADLINE_MS,
    TIMES_CAPACITY,
    open_loop_plan,
    overload_record,
    run_open_loop,
)
from load_tests.bench.procfs import cpu_use
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.protocols import DATA, GRPC, PROTOCOLS, REST, V2_BINARY, V2_JSON, Protocol
from load_tests.bench.raw_session import BATCHES, RawSpeed
from load_tests.bench.results import Failure, Load, LoadRecord, RawRecord, Results
from load_tests.bench.servers import server_environ
from load_tests.bench.sides import SIDES
from load_tests.bench.wrk import run_wrk, write_bodies

ROWS_EACH: Final = 8
"""Rows in a request where the compute-bound model is asked for several at once."""
SPOKEN: Final = {
    # A compute-bound model shows nothing of the port it is asked on, a wide one nothing but how its row is written.
    "tabular": PROTOCOLS,
    "mlp": (REST, V2_JSON, V2_BINARY, GRPC),
    "wide": (V2_JSON, V2_BINARY, DATA + V2_JSON, DATA + V2_BINARY),
}
_WARM_CONNECTIONS: Final = 32
_WARM_S: Final = 1.0
_RAW_SHARE: Final = 0.5
_RAW_GRACE_S: Final = 60


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        models: Model → numbers of connections.
        workers: Numbers of workers.
        peers: Names of the servers, of the routes in `SIDES`, and ``raw``.
        protocols: How they are asked, each as far as it speaks them.
        seconds: Length of each load.
        rounds: How often everything is measured.
        with_overload: Whether to overload the servers as well.
    """

    models: dict[str, tuple[int, ...]]
    workers: tuple[int, ...]
    peers: tuple[str, ...]
    protocols: tuple[str, ...]
    seconds: float
    rounds: int
    with_overload: bool

    @property
    def sides(self) -> tuple[str, ...]:
        """The routes that one Ekiben is measured with."""
        return tuple(name for name in SIDES if name in self.peers)

    @property
    def has_race(self) -> bool:
        """Whether there is more to measure than routes."""
        return bool(set(self.peers) - set(SIDES))


class Race:
    """One run.

    Args:
        course: What to measure.
        field: The servers that take part, by name.
        models: The models, by name.
        place: Where the servers find what they need.
        wrk: The path of the load generator for HTTP/1.1.
        h2load: The path of that for gRPC; needed where gRPC is spoken.
        say: Shows a line of progress.
    """

    def __init__(
        self,
        course: Course,
        *,
        field: dict[str, Contestant],
        models: dict[str, BenchModel],
        place: Workplace,
        wrk: str,
        h2load: str = "",
        say: Callable[[str], None],
    ) -> None:
        self._course = course
        self._field = field
        self._models = models
        self._place = place
        self._wrk = wrk
        self._h2load = h2load
        self._say = say
        self._cores = os.cpu_count() or 1

    def run(self, results: Results) -> None:
        """Measures everything and adds it to the results; a server that fails is taken down, and the others go on."""
        servers = [self._field[name] for name in self._course.peers if name in self._field]
        for round_ in range(self._course.rounds):
            for name, connections in self._course.models.items():
                if "raw" in self._course.peers:
                    self._measure_raw(self._models[name], round_, results)
                for heat in self._heats(servers, name, round_):
                    if chosen := self._chosen(heat):
                        with noting_failure(heat, results, self._say):
                            self._load(heat, chosen, connections, results)
            if self._course.with_overload:
                for heat in self._heats([server for server in servers if server.runs_model and server.is_overloaded], "heavy", round_):
                    with noting_failure(heat, results, self._say):
                        self._overload(heat, results)

    def _chosen(self, heat: Heat) -> list[Protocol]:
        """How this server is asked for this model; the wide one only where it can be asked both ways."""
        spoken = heat.contestant.protocols
        if heat.model.name == "wide" and V2_BINARY not in {p.name for p in spoken}:
            return []
        return [p for p in spoken if p.name in self._course.protocols and p.name in SPOKEN[heat.model.name]]

    def _heats(self, servers: list[Contestant], model: str, round_: int) -> Iterator[Heat]:
        for workers in self._course.workers:
            for contestant in servers:
                yield Heat(contestant, self._models[model], workers, round_)

    def _measure_raw(self, model: BenchModel, round_: int, results: Results) -> None:
        rows = self._place.folder / f"{model.name}-rows.json"
        rows.write_bytes(msgspec.json.encode(model.rows))
        seconds = self._course.seconds * _RAW_SHARE
        command = [sys.executable, "-m", "load_tests.bench.raw_session", model.file, str(rows), str(seconds)]
        limit = seconds * len(BATCHES) + _RAW_GRACE_S
        done = subprocess.run(command, env=server_environ({}), cwd=PROJECT, capture_output=True, timeout=limit, check=False)
        if done.returncode:
            problem = done.stderr.decode(errors="replace")[-300:]
            results.failures.append(Failure(peer="raw", model=model.name, workers=1, round=round_, problem=problem))
            return
        speed = msgspec.json.decode(done.stdout, type=RawSpeed)
        results.raw.append(RawRecord(model=model.name, round=round_, speed=speed))
        self._say(f"raw · {model.name}: {speed.best_rows_per_s:,.0f} rows/s at best, one row in {speed.run_p50_ms:.3f} ms")

    def _load(self, heat: Heat, protocols: list[Protocol], connections: tuple[int, ...], results: Results) -> None:
        with serving(heat, self._place) as served:
            for protocol in protocols:
                with noting_failure(heat, results, self._say, protocol.name):
                    answer = served.check(protocol)
                    self._load_by(served, protocol, connections, answer_bytes=len(answer), results=results)

    def _load_by(self, served: Served, protocol: Protocol, connections: tuple[int, ...], *, answer_bytes: int, results: Results) -> None:
        heat, seconds = served.heat, self._course.seconds
        self._run(served, protocol, _WARM_CONNECTIONS, _WARM_S, answer_bytes=answer_bytes)
        # Where computing is nearly all, one load shows what a protocol leaves of it.
        is_brief = heat.model.name == "mlp" and protocol is not heat.contestant.protocols[0]
        numbers = connections[:1] if is_brief else connections
        loads = [(number, 1) for number in numbers]
        if heat.model.name == "mlp" and protocol.takes_rows:
            loads += [(number, ROWS_EACH) for number in connections[:1]]
        for number, rows_each in loads:
            before = served.server.cpu_times()
            load = self._run(served, protocol, number, seconds, answer_bytes=answer_bytes, rows_each=rows_each)
            served.server.check_alive()
            cpu = cpu_use(before, served.server.cpu_times(), load.answered, self._cores)
            record = LoadRecord(
                peer=heat.contestant.name,
                model=heat.model.name,
                workers=heat.workers,
                connections=number,
                round=heat.round,
                load=load,
                cpu=cpu,
                rows_each=rows_each,
                protocol=protocol.name,
            )
            results.loads.append(record)
            rows = f" · {rows_each} rows each" if rows_each > 1 else ""
            how = f"{heat} · {protocol.name} · {number} connection{'' if number == 1 else 's'}{rows}"
            self._say(f"{how}: {load.rps:,.0f} rps")

    def _run(self, served: Served, protocol: Protocol, connections: int, seconds: float, *, answer_bytes: int, rows_each: int = 1) -> Load:
        url, requests = served.url(protocol), protocol.requests(served.heat.model, rows_each)
        if protocol.is_grpc:
            return run_h2load(
                self._h2load,
                url,
                requests[0].body,
                folder=self._place.folder,
                answer_bytes=answer_bytes,
                calls=connections,
                seconds=seconds,
            )
        bodies = self._place.folder / "bodies"
        write_bodies(bodies, [asked.body for asked in requests])
        # All bodies of one model have tensors of one size, so their JSON part has one length and the headers are the same.
        return run_wrk(self._wrk, url, bodies, connections=connections, seconds=seconds, headers=requests[0].headers)

    def _overload(self, heat: Heat, results: Results) -> None:
        seconds, protocol = self._course.seconds, heat.contestant.protocols[0]
        headers = {DEADLINE_HEADER: f"{DEADLINE_MS:g}"}
        bodies = self._place.folder / "bodies"
        with serving(heat, self._place) as served:
            served.check(protocol)
            url, server = served.url(protocol), served.server
            asked = [asked.body for asked in protocol.requests(heat.model)]
            write_bodies(bodies, asked)
            run_wrk(self._wrk, url, bodies, connections=CAPACITY_CONNECTIONS, seconds=_WARM_S, headers=headers)
            capacity = run_wrk(self._wrk, url, bodies, connections=CAPACITY_CONNECTIONS, seconds=seconds, headers=headers)
            if not capacity.answered:
                raise LoadGeneratorFailed(f"no request was answered while the capacity was measured: {capacity.errors}")
            for times in TIMES_CAPACITY:
                plan = open_loop_plan(url, asked, headers, rate=times * capacity.rps, seconds=seconds)
                before = server.cpu_times()
                outcome = run_open_loop(plan)
                server.check_alive()
                cpu = cpu_use(before, server.cpu_times(), len(outcome.accepted), self._cores)
                record = overload_record(
                    outcome,
                    cpu,
                    peer=heat.contestant.name,
                    workers=heat.workers,
                    round_=heat.round,
                    times=times,
                    capacity_rps=capacity.rps,
                    deadline_ms=DEADLINE_MS,
                )
                results.overloads.append(record)
                good = f"{record.goodput_rps:,.0f} rps within the deadline"
                self._say(f"{heat} · {times:g} times the capacity of {capacity.rps:,.0f} rps: {good}")
