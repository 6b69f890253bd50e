import msgspec
import pytest

from load_tests.bench.procfs import CpuUse
from load_tests.bench.promises import judge
from load_tests.bench.results import Load, LoadRecord, Results, ShadowRecord
from load_tests.bench.routing_promises import judge_routing, over_plain, rate


def _cpu(noise):
    return CpuUse(server_us_per_request=50, server_cores=1, client_cores=0.2, noise_percent=noise)


def _turn(side, rps, *, round_=0, workers=1, connections=32, noise=0.0, seconds=2.0, errors=None):
    load = Load(seconds=seconds, answered=int(rps * seconds), rps=rps, p50_ms=1, p99_ms=9, max_ms=20, errors=errors or {})
    return LoadRecord(
        peer=side, model="tabular", workers=workers, connections=connections, round=round_, load=load, cpu=_cpu(noise)
    )  # fmt: skip


def _shadow(side, p99_ms, *, model="tabular", round_=0, noise=0.0, computed=None, answered=1000):
    return ShadowRecord(
        side=side, model=model, round=round_, capacity_rps=3000, rate=900, scheduled=1000, p50_ms=1, p99_ms=p99_ms,
        statuses={"200": answered}, late_ms=1, cpu=_cpu(noise), computed_percent=computed,
    )  # fmt: skip


def _results(**lists):
    return Results(started="", machine={}, options={}, **lists)


def _find(results, beginning, where=""):
    (found,) = [p for p in judge_routing(results) if p.promise.startswith(beginning) and where in p.where]
    return found


@pytest.mark.parametrize(("rps", "is_reached"), [(9700, True), (9690, False)])
def test_the_router_is_held_against_the_turns_before_and_after(rps, is_reached):
    turns = [_turn("ekiben", 10500), _turn("ekiben-routed", rps), _turn("ekiben-split", 1), _turn("ekiben", 9500)]

    judged = _find(_results(routed=turns), "router")

    assert judged.found == pytest.approx(rps / 100)
    assert judged.is_reached is is_reached


def test_each_case_is_judged_by_itself():
    turns = [
        _turn("ekiben", 10000), _turn("ekiben-routed", 9900), _turn("ekiben", 20000, workers=2, connections=64),
        _turn("ekiben-routed", 10000, workers=2, connections=64),
    ]  # fmt: skip

    assert _find(_results(routed=turns), "router", "1 worker, 32 connections").is_reached is True
    assert _find(_results(routed=turns), "router", "2 workers, 64 connections").found == pytest.approx(50)


def test_the_median_of_the_rounds_counts_and_noisy_ones_only_where_none_is_quiet():
    noisy = [_turn("ekiben", 10000), _turn("ekiben-routed", 5000, noise=20)]
    quiet = [
        turn
        for n, rps in enumerate((9000, 9900, 9800), start=1)
        for turn in (_turn("ekiben", 10000, round_=n), _turn("ekiben-routed", rps, round_=n))
    ]

    assert _find(_results(routed=noisy + quiet), "router").found == pytest.approx(98)
    assert _find(_results(routed=noisy), "router").found == pytest.approx(50)


def test_a_round_with_one_side_only_says_nothing():
    assert _find(_results(routed=[_turn("ekiben-routed", 9000)]), "router").found is None
    assert over_plain([_turn("ekiben", 9000)], "ekiben-routed", (1, 32)) is None
    assert over_plain([_turn("ekiben", 0), _turn("ekiben-routed", 9000)], "ekiben-routed", (1, 32)) is None


def test_turns_count_by_how_long_they_were():
    assert rate([_turn("ekiben", 100, seconds=3.0), _turn("ekiben", 200, seconds=1.0)]) == 125
    assert rate([]) is None


@pytest.mark.parametrize(("p99_ms", "is_reached"), [(3.0, True), (3.01, False)])
def test_a_shadow_may_cost_half_of_the_p99(p99_ms, is_reached):
    turns = [_shadow("ekiben", 1.5), _shadow("ekiben-shadow", p99_ms, computed=99.0), _shadow("ekiben", 2.5)]
    others = [_shadow("ekiben", 1.0, model="mlp"), _shadow("ekiben-shadow", 1.2, model="mlp", computed=89.9)]

    results = _results(shadows=turns + others)

    judged = _find(results, "shadow of 100 %, tabular: p99")
    assert judged.found == pytest.approx(p99_ms / 2)
    assert judged.is_reached is is_reached
    assert _find(results, "shadow of 100 %, mlp: p99").found == pytest.approx(1.2)
    assert _find(results, "shadow of 100 %, tabular: rows").is_reached is True
    assert _find(results, "shadow of 100 %, mlp: rows").is_reached is False


def test_a_noisy_round_of_a_shadow_counts_only_where_none_was_quiet():
    quiet = [_shadow("ekiben", 1.0), _shadow("ekiben-shadow", 1.1, computed=95.0)]
    noisy = [_shadow("ekiben", 1.0, round_=1, noise=50), _shadow("ekiben-shadow", 9.0, round_=1, computed=1.0, noise=50)]

    assert _find(_results(shadows=quiet + noisy), "shadow of 100 %, tabular: p99").found == pytest.approx(1.1)
    assert _find(_results(shadows=quiet + noisy), "shadow of 100 %, tabular: rows").found == 95
    assert _find(_results(shadows=noisy), "shadow of 100 %, tabular: p99").found == pytest.approx(9)


def test_what_was_not_measured_is_listed():
    judged = judge_routing(_results())

    assert [p.is_reached for p in judged] == [None] * 5
    assert [p.promise.partition(":")[0] for p in judged] == ["router, tabular", *["shadow of 100 %, tabular", "shadow of 100 %, mlp"] * 2]


def test_what_was_refused_beside_a_route_or_a_shadow_breaks_the_promise_of_no_refusals():
    turns = [_turn("ekiben-routed", 9000, errors={"503": 2})]
    shadows = [_shadow("ekiben-shadow", 1.0, answered=997)]

    def refusals(**lists):
        return next(p.found for p in judge(_results(**lists)) if p.promise.startswith("refusals"))

    assert refusals(routed=turns) == 2
    assert refusals(shadows=shadows) == 3
    assert refusals(shadows=[msgspec.structs.replace(shadows[0], statuses={"200": 1000})]) == 0
