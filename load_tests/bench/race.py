"""The run: which server is loaded when, and what is written down.

Servers run one at a time. Within a round all peers of one model and number of workers come right after one another, so
that a ratio of two of them compares neighbours in time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from load_tests.bench.contestants import PEERS_FOLDER, PROJECT, Contestant, Workplace
from load_tests.bench.models import BenchModel
from load_tests.bench.open_loop import Plan
from load_tests.bench.overload import (
    CAPACITY_CONNECTIONS,
    DEADLINE_HEADER,
    DEADLINE_MS,
    TIMES_CAPACITY,
    GeneratorFailed,
    overload_record,
    run_open_loop,
)
from load_tests.bench.procfs import cpu_use
from load_tests.bench.raw_session import BATCHES, RawSpeed
from load_tests.bench.results import Failure, LoadRecord, RawRecord, Results
from load_tests.bench.servers import RunningServer, ServerFailed, ask, free_port, server_environ
from load_tests.bench.wrk import WrkFailed, run_wrk

_HEADERS: Final = {"Content-Type": "application/json"}
ROWS_EACH: Final = 8
"""Rows in a request where the compute-bound model is asked for several at once."""
_WARM_CONNECTIONS: Final = 32
_WARM_S: Final = 1.0
_RAW_SHARE: Final = 0.5
_RAW_GRACE_S: Final = 60


class WrongAnswer(Exception):
    """A server answers, and not what the model gives."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        models: Model → numbers of connections.
        workers: Numbers of workers.
        peers: Names of the servers, and ``raw``.
        seconds: Length of each load.
        rounds: How often everything is measured.
        with_overload: Whether to overload the servers as well.
    """

    models: dict[str, tuple[int, ...]]
    workers: tuple[int, ...]
    peers: tuple[str, ...]
    seconds: float
    rounds: int
    with_overload: bool


class Heat(msgspec.Struct, frozen=True):
    """One server with one model and so many workers, in one round."""

    contestant: Contestant
    model: BenchModel
    workers: int
    round: int

    def __str__(self) -> str:
        return f"{self.contestant.name} · {self.model.name} · {self.workers} worker{'' if self.workers == 1 else 's'}"


class Race:
    """One run.

    Args:
        course: What to measure.
        field: The servers that take part, by name.
        models: The models, by name.
        place: Where the servers find what they need.
        wrk: The load generator's path.
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
        say: Callable[[str], None],
    ) -> None:
        self._course = course
        self._field = field
        self._models = models
        self._place = place
        self._wrk = wrk
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
                    with self._noting_failure(heat, results):
                        self._load(heat, connections, results)
            if self._course.with_overload:
                for heat in self._heats([server for server in servers if server.runs_model], "heavy", round_):
                    with self._noting_failure(heat, results):
                        self._overload(heat, results)

    def _heats(self, servers: list[Contestant], model: str, round_: int) -> Iterator[Heat]:
        for workers in self._course.workers:
            for contestant in servers:
                yield Heat(contestant, self._models[model], workers, round_)

    @contextmanager
    def _noting_failure(self, heat: Heat, results: Results) -> Iterator[None]:
        try:
            yield
        except (ServerFailed, WrongAnswer, WrkFailed, GeneratorFailed, OSError) as e:
            problem = f"{type(e).__name__}: {e}"
            self._say(f"{heat}: {problem}")
            failure = Failure(peer=heat.contestant.name, model=heat.model.name, workers=heat.workers, round=heat.round, problem=problem)
            results.failures.append(failure)

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

    @contextmanager
    def _serving(self, heat: Heat) -> Iterator[tuple[RunningServer, str]]:
        """A server that has given right answers to two different rows, and the address of its predictions."""
        contestant, model, workers = heat.contestant, heat.model, heat.workers
        port = free_port()
        url = f"http://127.0.0.1:{port}{contestant.path(model)}"
        environ = server_environ(contestant.environ(self._place, model, workers))
        log = self._place.folder / f"{contestant.name}-{model.name}-{workers}.log"
        command = contestant.command(self._place, workers, port)
        with RunningServer(command, environ=environ, folder=PEERS_FOLDER, log=log) as server:
            first = server.wait_until_answers(url, contestant.body(model.rows[0]), _HEADERS)
            _check(contestant, model, 0, first)
            other = most_different_row(model)
            try:
                second = ask(url, contestant.body(model.rows[other]), _HEADERS)
            except urllib.error.HTTPError as e:
                raise WrongAnswer(f"row {other} is answered {e.code}: {e.read(200).decode(errors='replace')}") from e
            _check(contestant, model, other, second)
            server.wait_until_idle()
            yield server, url

    def _bodies(self, heat: Heat) -> Path:
        file = self._place.folder / f"{heat.contestant.name}-{heat.model.name}.bodies"
        file.write_bytes(b"\n".join(heat.contestant.bodies(heat.model)) + b"\n")
        return file

    def _load(self, heat: Heat, connections: tuple[int, ...], results: Results) -> None:
        bodies = self._bodies(heat)
        with self._serving(heat) as (server, url):
            run_wrk(self._wrk, url, bodies, connections=_WARM_CONNECTIONS, seconds=_WARM_S)
            loads = [(bodies, number, 1) for number in connections]
            if heat.model.name == "mlp" and (several := heat.contestant.bodies_of_rows(heat.model, ROWS_EACH)):
                file = self._place.folder / f"{heat.contestant.name}-{heat.model.name}-{ROWS_EACH}.bodies"
                file.write_bytes(b"\n".join(several) + b"\n")
                loads += [(file, number, ROWS_EACH) for number in connections[:1]]
            for asked, number, rows_each in loads:
                before = server.cpu_times()
                load = run_wrk(self._wrk, url, asked, connections=number, seconds=self._course.seconds)
                server.check_alive()
                cpu = cpu_use(before, server.cpu_times(), load.answered, self._cores)
                record = LoadRecord(
                    peer=heat.contestant.name,
                    model=heat.model.name,
                    workers=heat.workers,
                    connections=number,
                    round=heat.round,
                    load=load,
                    cpu=cpu,
                    rows_each=rows_each,
                )
                results.loads.append(record)
                rows = f" · {rows_each} rows each" if rows_each > 1 else ""
                self._say(f"{heat} · {number} connection{'' if number == 1 else 's'}{rows}: {load.rps:,.0f} rps")

    def _overload(self, heat: Heat, results: Results) -> None:
        bodies, seconds = self._bodies(heat), self._course.seconds
        headers = {DEADLINE_HEADER: f"{DEADLINE_MS:g}"}
        with self._serving(heat) as (server, url):
            run_wrk(self._wrk, url, bodies, connections=CAPACITY_CONNECTIONS, seconds=_WARM_S, headers=headers)
            capacity = run_wrk(self._wrk, url, bodies, connections=CAPACITY_CONNECTIONS, seconds=seconds, headers=headers)
            if not capacity.answered:
                raise WrkFailed(f"no request was answered while the capacity was measured: {capacity.errors}")
            for times in TIMES_CAPACITY:
                plan = _plan(url, heat.contestant.bodies(heat.model), headers, rate=times * capacity.rps, seconds=seconds)
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


def most_different_row(model: BenchModel) -> int:
    """The row whose answer is farthest from the first one's: a server that always answers the same gets it wrong."""
    first = model.answers[0]
    distances = [max(abs(a - b) for a, b in zip(answer, first, strict=True)) for answer in model.answers]
    return max(range(len(distances)), key=distances.__getitem__)


def _check(contestant: Contestant, model: BenchModel, row: int, answer: bytes) -> None:
    if not contestant.is_right(answer, model, row):
        raise WrongAnswer(
            f"row {row} must give {[round(v, 4) for v in model.answers[row][:4]]}, the answer is {answer[:200].decode(errors='replace')}"
        )


def _plan(url: str, bodies: list[bytes], headers: dict[str, str], *, rate: float, seconds: float) -> Plan:
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    return Plan(
        host=host, port=int(port), path=f"/{path}", bodies=[b.decode() for b in bodies], headers=headers, rate=rate, seconds=seconds
    )
