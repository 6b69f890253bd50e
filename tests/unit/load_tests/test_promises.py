import math

import msgspec
import pytest

from load_tests.bench.procfs import CpuUse
from load_tests.bench.promises import judge
from load_tests.bench.raw_session import RawSpeed
from load_tests.bench.results import Load, LoadRecord, OverloadRecord, RawRecord, Results


def _cpu(noise=0.0):
    return CpuUse(server_us_per_request=50, server_cores=1, client_cores=0.2, noise_percent=noise)


def _load(peer, rps, *, model="tabular", workers=1, connections=32, round_=0, p50_ms=1.0, errors=None, noise=0.0, protocol="rest"):
    load = Load(seconds=5, answered=int(rps * 5), rps=rps, p50_ms=p50_ms, p99_ms=9, max_ms=20, errors=errors or {})
    case = {"peer": peer, "model": model, "workers": workers, "connections": connections, "protocol": protocol}
    return LoadRecord(**case, round=round_, load=load, cpu=_cpu(noise))


def _raw(model, best, p50_ms=0.01, round_=0):
    return RawRecord(model=model, round=round_, speed=RawSpeed(rows_per_s={1: best / 4, 128: best}, run_p50_ms=p50_ms))


def _overload(**changes):
    record = {
        "peer": "ekiben", "workers": 1, "round": 0, "times_capacity": 4.0, "capacity_rps": 200.0, "rate": 800.0, "deadline_ms": 250.0,
        "scheduled": 4000, "goodput_rps": 190.0, "accepted": 950, "p50_ms": 200.0, "p99_ms": 240.0,
        "statuses": {"200": 950, "429": 50, "503": 3000}, "without_retry_after": 0, "late_ms": 1.0, "cpu": _cpu(),
    }  # fmt: skip
    return OverloadRecord(**{**record, **changes})


def _results(**lists):
    return Results(started="2026-01-01T00:00:00+00:00", machine={}, options={}, **lists)


def _find(results, beginning, where=""):
    found = [p for p in judge(results) if p.promise.startswith(beginning) and where in p.where]
    assert len(found) == 1, [(p.promise, p.where) for p in found]
    return found[0]


@pytest.mark.parametrize(
    ("peer", "promise", "rps", "found", "is_reached"),
    [
        ("bentoml", "throughput, tabular, over BentoML", 1000, 10, True),
        ("bentoml", "throughput, tabular, over BentoML", 1001, 9.99, False),
        ("fastapi", "throughput, tabular, over FastAPI", 5000, 2, True),
        ("fastapi", "throughput, tabular, over FastAPI", 5001, 1.9996, False),
        ("onnx-ceiling", "throughput, tabular, of the ceiling", 10000, 100, True),
        ("onnx-ceiling", "throughput, tabular, of the ceiling", 10001, 99.99, False),
    ],
)
def test_throughput_against_a_peer(peer, promise, rps, found, is_reached):
    judged = _find(_results(loads=[_load("ekiben", 10000), _load(peer, rps)]), promise)

    assert judged.found == pytest.approx(found, rel=1e-4)
    assert judged.is_reached is is_reached


def test_every_case_of_workers_and_connections_is_judged_by_itself():
    loads = [
        _load("ekiben", 10000), _load("fastapi", 4000),
        _load("ekiben", 12000, workers=2, connections=64), _load("fastapi", 8000, workers=2, connections=64),
    ]  # fmt: skip

    assert _find(_results(loads=loads), "throughput, tabular, over FastAPI", "1 worker, 32 conn").is_reached is True
    assert _find(_results(loads=loads), "throughput, tabular, over FastAPI", "2 workers, 64 conn").is_reached is False


def test_a_ratio_compares_neighbours_in_time_and_the_median_counts():
    ours, theirs = (10000, 20000, 5000), (5000, 5000, 5000)
    loads = [_load("ekiben", a, round_=n) for n, a in enumerate(ours)] + [_load("fastapi", b, round_=n) for n, b in enumerate(theirs)]

    assert _find(_results(loads=loads), "throughput, tabular, over FastAPI").found == 2


def test_a_noisy_round_counts_only_where_none_was_quiet():
    quiet = [_load("ekiben", 10000), _load("fastapi", 4000)]
    noisy = [_load("ekiben", 90000, round_=1), _load("fastapi", 1000, round_=1, noise=40)]

    assert _find(_results(loads=quiet + noisy), "throughput, tabular, over FastAPI").found == 2.5
    assert _find(_results(loads=noisy), "throughput, tabular, over FastAPI").found == 90


def test_one_connection_is_judged_by_latency_over_the_session_alone():
    results = _results(loads=[_load("ekiben", 3000, connections=1, p50_ms=0.32)], raw=[_raw("tabular", 1e6, p50_ms=0.01)])

    judged = _find(results, "p50 latency")

    assert judged.found == pytest.approx(0.31)
    assert judged.is_reached is False
    assert _find(results, "throughput, tabular, over FastAPI").found is None


def test_any_error_below_capacity_breaks_the_promise():
    loads = [_load("ekiben", 10000), _load("fastapi", 10, errors={"503": 99}), _load("ekiben", 900, model="mlp", errors={"503": 2})]
    below = _overload(times_capacity=0.5, scheduled=500, accepted=499)

    assert _find(_results(loads=loads[:2]), "refusals").is_reached is True
    assert _find(_results(loads=loads), "refusals").found == 2
    assert _find(_results(loads=loads, overloads=[below, _overload()]), "refusals").found == 3


def test_the_mlp_is_held_against_one_session_on_one_thread():
    loads = [
        _load("ekiben", 6000, model="mlp"),
        _load("ekiben", 7100, model="mlp", connections=128),
        _load("ekiben", 9000, model="mlp", workers=2),
    ]

    judged = _find(_results(loads=loads, raw=[_raw("mlp", 8000)]), "throughput, mlp")

    assert judged.found == pytest.approx(88.75)
    assert judged.is_reached is False


def test_the_mlp_asked_for_several_rows_at_once_is_a_case_of_its_own():
    several = msgspec.structs.replace(_load("ekiben", 1000, model="mlp"), rows_each=8)

    results = _results(loads=[_load("ekiben", 6000, model="mlp"), several], raw=[_raw("mlp", 8000)])

    assert _find(results, "throughput, mlp", "1 row a request").found == pytest.approx(75)
    assert _find(results, "throughput, mlp", "8 rows a request").found == pytest.approx(100)


@pytest.mark.parametrize(
    ("promise", "ours", "theirs", "model", "target"),
    [
        ("gRPC, tabular, over a bare grpc.aio echo", "grpc", ("grpc-echo", "grpc"), "tabular", 2),
        ("gRPC, tabular, over KServe's", "grpc", ("kserve", "grpc"), "tabular", 4),
        ("gRPC, tabular, over MLServer's", "grpc", ("mlserver", "grpc"), "tabular", 4),
        ("gRPC, tabular, over Triton's", "grpc", ("triton", "grpc"), "tabular", 1),
        ("V2 JSON on the data port, tabular", "data-v2-json", ("triton", "v2-json"), "tabular", 1),
        ("V1 on the data port, tabular", "data-rest", ("triton", "v2-json"), "tabular", 1),
        ("V2 binary over V2 JSON, 784", "v2-binary", ("ekiben", "v2-json"), "wide", 2),
        ("V2 binary over V2 JSON on the data port", "data-v2-binary", ("ekiben", "data-v2-json"), "wide", 2),
    ],
)
def test_a_protocol_against_anothers(promise, ours, theirs, model, target):
    peer, protocol = theirs
    loads = [_load("ekiben", 1000 * target, model=model, protocol=ours), _load(peer, 1000, model=model, protocol=protocol)]
    # What else the same servers did must not be taken for it.
    others = [_load("ekiben", 1, model="mlp", protocol=ours), _load(peer, 10**6, model="mlp", protocol=protocol)]
    others += [_load(peer, 10**6, model=model, protocol="other"), _load("ekiben", 1, model=model, protocol=ours, connections=1)]

    judged = _find(_results(loads=loads + others), promise)

    assert (judged.found, judged.target, judged.is_reached) == (target, target, True)
    short = msgspec.structs.replace(loads[0], load=msgspec.structs.replace(loads[0].load, rps=999.0 * target))
    assert _find(_results(loads=[short, loads[1]]), promise).is_reached is False


def test_a_protocol_is_judged_only_where_both_were_measured():
    loads = [
        _load("ekiben", 9000, protocol="grpc"), _load("ekiben", 9000, protocol="grpc", workers=2),
        _load("triton", 9000, protocol="grpc", workers=2), _load("triton", 9000, protocol="grpc", workers=4),
    ]  # fmt: skip

    assert _find(_results(loads=loads), "gRPC, tabular, over Triton's").where == "2 workers, 32 connections"


def test_other_protocols_are_not_taken_for_rest():
    loads = [_load("ekiben", 10000), _load("fastapi", 5000), _load("ekiben", 1, protocol="data-rest", round_=0)]
    mlp = [_load("ekiben", 7200, model="mlp"), _load("ekiben", 9000, model="mlp", protocol="grpc")]
    results = _results(loads=loads + mlp, raw=[_raw("mlp", 8000)])

    assert _find(results, "throughput, tabular, over FastAPI").found == 2
    assert _find(results, "throughput, mlp").found == pytest.approx(90)


def test_overload_within_all_limits():
    judged = [p for p in judge(_results(overloads=[_overload()])) if p.promise.startswith("overload")]

    assert [p.is_reached for p in judged] == [True, True, True]
    assert [p.found for p in judged] == [95, 0, 240]
    assert judged[2].target == 250


@pytest.mark.parametrize(
    ("promise", "changes", "found"),
    [
        ("overload: goodput", {"goodput_rps": 179.0}, 89.5),
        ("overload: answers", {"without_retry_after": 7}, 7),
        ("overload: answers", {"statuses": {"200": 950, "503": 3000, "504": 49, "connection": 1}}, 50),
        ("overload: p99", {"p99_ms": 250.01}, 250.01),
    ],
)
def test_overload_beyond_a_limit(promise, changes, found):
    judged = _find(_results(overloads=[_overload(**changes), _overload(peer="bentoml", goodput_rps=1.0)]), promise)

    assert judged.found == pytest.approx(found)
    assert judged.is_reached is False


def test_an_overload_in_which_nothing_was_accepted_reaches_nothing():
    record = _overload(goodput_rps=0.0, accepted=0, p50_ms=None, p99_ms=None, statuses={"503": 4000})

    judged = [p for p in judge(_results(overloads=[record])) if p.promise.startswith("overload")]

    assert [p.is_reached for p in judged] == [False, True, False]
    assert judged[2].found is not None
    assert math.isinf(judged[2].found)


def test_a_run_that_measured_nothing_reaches_nothing_and_hides_nothing():
    judged = judge(_results())

    assert {p.is_reached for p in judged} == {None}
    assert [p.promise.partition(":")[0].partition(",")[0] for p in judged] == [
        "throughput", "throughput", "throughput", "p50 latency",
        "gRPC", "gRPC", "gRPC", "gRPC", "V2 JSON on the data port", "V1 on the data port",
        "V2 binary over V2 JSON", "V2 binary over V2 JSON on the data port",
        "refusals and errors below capacity", "throughput", "overload", "overload", "overload",
        "router", "shadow of 100 %", "shadow of 100 %", "shadow of 100 %", "shadow of 100 %",
        "log", "guards", "log", "guards", "cache", "cache",
    ]  # fmt: skip
