"""The promises, each with the figure that was found. A promise that is not reached is shown as such; no target moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeVar

import msgspec

from load_tests.bench.figures import median_or_none
from load_tests.bench.overload import DEADLINE_MS
from load_tests.bench.protocols import DATA, GRPC, REST, V2_BINARY, V2_JSON
from load_tests.bench.remembering_promises import judge_remembering
from load_tests.bench.results import LoadRecord, OverloadRecord, Promise, Results
from load_tests.bench.routing_promises import judge_routing
from load_tests.bench.twins_promises import judge_twins

OURS: Final = "ekiben"
OVERLOAD_TIMES: Final = 4.0
_THROUGHPUT: Final = (("bentoml", "BentoML's own batchable API", 10.0), ("fastapi", "FastAPI + ONNX Runtime", 2.0))
_CEILING: Final = "onnx-ceiling"
Case = tuple[int, int]
"""Workers and connections."""
Asked = tuple[str, str]
"""A server, and the protocol in which it is asked."""
T = TypeVar("T")


class _Against(msgspec.Struct, frozen=True):
    """A promise of so many times another's requests a second."""

    promise: str
    model: str
    ours: Asked
    theirs: Asked
    target: float


_BY_PROTOCOL: Final = (
    _Against("gRPC, tabular, over a bare grpc.aio echo of the same tensor", "tabular", (OURS, GRPC), ("grpc-echo", GRPC), 2.0),
    _Against("gRPC, tabular, over KServe's", "tabular", (OURS, GRPC), ("kserve", GRPC), 4.0),
    _Against("gRPC, tabular, over MLServer's", "tabular", (OURS, GRPC), ("mlserver", GRPC), 4.0),
    _Against("gRPC, tabular, over Triton's", "tabular", (OURS, GRPC), ("triton", GRPC), 1.0),
    _Against("V2 JSON on the data port, tabular, over Triton's", "tabular", (OURS, DATA + V2_JSON), ("triton", V2_JSON), 1.0),
    _Against("V1 on the data port, tabular, over Triton's V2 JSON", "tabular", (OURS, DATA + REST), ("triton", V2_JSON), 1.0),
    _Against("V2 binary over V2 JSON, 784 floats", "wide", (OURS, V2_BINARY), (OURS, V2_JSON), 2.0),
    _Against("V2 binary over V2 JSON on the data port, 784 floats", "wide", (OURS, DATA + V2_BINARY), (OURS, DATA + V2_JSON), 2.0),
)


def judge(results: Results) -> list[Promise]:
    """Holds a run against everything that is promised."""
    cases = sorted({(r.workers, r.connections) for r in results.loads if r.model == "tabular" and r.protocol == REST})
    # One connection has nothing to batch: there, latency is what counts.
    loaded = [case for case in cases if case[1] > 1]
    alone = [workers for workers, connections in cases if connections == 1]
    overloaded = sorted({r.workers for r in results.overloads})
    # What was not measured is listed all the same, without a case.
    return [
        *chain.from_iterable(_throughput(results, case) for case in _or_none(loaded)),
        *(_latency(results, workers) for workers in _or_none(alone)),
        *chain.from_iterable(_by_protocol(results.loads, promised) for promised in _BY_PROTOCOL),
        _no_refusals(results),
        *(_compute_bound(results, rows_each) for rows_each in sorted({r.rows_each for r in results.loads if r.model == "mlp"} or {1})),
        *chain.from_iterable(_overload(results, workers) for workers in _or_none(overloaded)),
        *judge_routing(results),
        *judge_twins(results),
        *judge_remembering(results),
    ]


def _throughput(results: Results, case: Case | None) -> list[Promise]:
    where = "" if case is None else f"{_counted(case[0], 'worker')}, {_counted(case[1], 'connection')}"

    def against(peer: str) -> float | None:
        return None if case is None else _ratio(results.loads, peer, case)

    promises = [
        Promise(promise=f"throughput, tabular, over {name}", where=where, found=against(peer), target=target, unit="x")
        for peer, name, target in _THROUGHPUT
    ]
    ceiling = _percent(against(_CEILING))
    promises.append(
        Promise(promise="throughput, tabular, of the ceiling without batching", where=where, found=ceiling, target=100.0, unit="%")
    )
    return promises


def _by_protocol(loads: list[LoadRecord], promised: _Against) -> list[Promise]:
    """One promise for each number of workers and connections above one at which both were measured."""
    pair = (promised.ours, promised.theirs)
    ours, theirs = ({(r.workers, r.connections) for r in loads if (r.peer, r.protocol) == a and r.model == promised.model} for a in pair)
    return [
        Promise(
            promise=promised.promise,
            where="" if case is None else f"{_counted(case[0], 'worker')}, {_counted(case[1], 'connection')}",
            found=None if case is None else _ratio_of(loads, promised.model, pair, case),
            target=promised.target,
            unit="x",
        )
        for case in _or_none(sorted(case for case in ours & theirs if case[1] > 1))
    ]


def _ratio(loads: list[LoadRecord], peer: str, case: Case) -> float | None:
    return _ratio_of(loads, "tabular", ((OURS, REST), (peer, REST)), case)


def _ratio_of(loads: list[LoadRecord], model: str, pair: tuple[Asked, Asked], case: Case) -> float | None:
    """The median over the rounds of one's rps over the other's in the same round; quiet rounds only, where there are any."""
    ours, theirs = (_by_round(loads, asked, case, model) for asked in pair)
    pairs = [(ours[n], theirs[n]) for n in ours if n in theirs and theirs[n].load.rps]
    quiet = [(a, b) for a, b in pairs if a.is_quiet and b.is_quiet]
    return median_or_none(a.load.rps / b.load.rps for a, b in quiet or pairs)


def _by_round(loads: list[LoadRecord], asked: Asked, case: Case, model: str = "tabular") -> dict[int, LoadRecord]:
    return {
        r.round: r
        for r in loads
        if r.model == model and (r.peer, r.protocol) == asked and (r.workers, r.connections) == case and r.rows_each == 1
    }


def _latency(results: Results, workers: int | None) -> Promise:
    found = None
    if workers is not None:
        runs = {r.round: r.speed.run_p50_ms for r in results.raw if r.model == "tabular"}
        loads = [r for r in _by_round(results.loads, (OURS, REST), (workers, 1)).values() if r.round in runs and r.load.answered]
        quiet = [r for r in loads if r.is_quiet]
        found = median_or_none(r.load.p50_ms - runs[r.round] for r in quiet or loads)
    where = "1 connection" if workers is None else f"{_counted(workers, 'worker')}, 1 connection"
    return Promise(
        promise="p50 latency, tabular, over the session's own run", where=where, found=found, target=0.3, unit="ms", at_most=True
    )


def _no_refusals(results: Results) -> Promise:
    """Counts whatever was not answered with 200 while the load was one that the server can carry."""
    closed = [sum(r.load.errors.values()) for r in (*(r for r in results.loads if r.peer == OURS), *results.routed)]
    below = [r.scheduled - r.accepted for r in results.overloads if r.peer == OURS and r.times_capacity < 1]
    below += [r.scheduled - r.statuses.get("200", 0) for r in results.shadows]
    found = float(sum(closed) + sum(below)) if closed or below else None
    return Promise(promise="refusals and errors below capacity", where="all loads", found=found, target=0.0, unit="", at_most=True)


def _compute_bound(results: Results, rows_each: int) -> Promise:
    """One worker, which is one session on one thread, against one session on one thread."""
    raw = {r.round: r.speed.best_rows_per_s for r in results.raw if r.model == "mlp"}
    best: dict[int, float] = {}
    for r in results.loads:
        if r.peer == OURS and r.model == "mlp" and r.protocol == REST and r.workers == 1 and r.rows_each == rows_each:
            best[r.round] = max(best.get(r.round, 0.0), r.load.rps * rows_each)
    found = _percent(median_or_none(best[n] / raw[n] for n in best if n in raw))
    where = f"1 worker, {_counted(rows_each, 'row')} a request, its best number of connections"
    return Promise(promise="throughput, mlp, of the raw session's best rows/s", where=where, found=found, target=90.0, unit="%")


def _overload(results: Results, workers: int | None) -> list[Promise]:
    records = [r for r in results.overloads if r.peer == OURS and r.workers == workers and r.times_capacity == OVERLOAD_TIMES]
    at = f"{OVERLOAD_TIMES:g} times capacity"
    where = at if workers is None else f"{_counted(workers, 'worker')}, {at}"
    deadline_ms = records[0].deadline_ms if records else DEADLINE_MS
    goodput = _percent(median_or_none(r.goodput_rps / r.capacity_rps for r in records))
    wrong = float(sum(_wrong(r) for r in records)) if records else None
    # Where nothing was accepted, no latency is a good one.
    p99_ms = median_or_none(math.inf if r.p99_ms is None else r.p99_ms for r in records)
    return [
        Promise(promise="overload: goodput of the capacity", where=where, found=goodput, target=90.0, unit="%"),
        Promise(
            promise="overload: answers but 200, and 429 or 503 with Retry-After",
            where=where,
            found=wrong,
            target=0.0,
            unit="",
            at_most=True,
        ),
        Promise(
            promise="overload: p99 of the accepted, within the deadline",
            where=where,
            found=p99_ms,
            target=deadline_ms,
            unit="ms",
            at_most=True,
        ),
    ]


def _wrong(record: OverloadRecord) -> int:
    """Requests that were neither answered nor refused as they must be."""
    proper = ("200", "429", "503")
    return record.without_retry_after + sum(count for kind, count in record.statuses.items() if kind not in proper)


def _or_none(cases: list[T]) -> Sequence[T | None]:
    return cases or [None]


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
