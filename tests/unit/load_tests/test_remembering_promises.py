from load_tests.bench.procfs import CpuUse
from load_tests.bench.remembering_promises import judge_remembering
from load_tests.bench.results import Load, LoadRecord, Results

CPU = CpuUse(server_us_per_request=1, server_cores=1, client_cores=0.1, noise_percent=0)


def record(side, rps, percent, round_=0):
    load = Load(seconds=3, answered=rps * 3, rps=rps, p50_ms=1, p99_ms=1, max_ms=1, errors={})
    return LoadRecord(
        peer=side, model="heavy", workers=1, connections=32, round=round_, load=load, cpu=CPU, repeats_percent=percent
    )  # fmt: skip


def judged(*records):
    return judge_remembering(Results(started="", machine={}, options={}, cached=list(records)))


def test_gain_and_cost_are_told_apart():
    gain, cost = judged(
        record("ekiben", 100, 40), record("ekiben-cached", 150, 40), record("ekiben", 100, 0), record("ekiben-cached", 96, 0)
    )

    assert (gain.found, gain.unit, gain.is_reached) == (1.5, "x", True)
    assert (cost.found, cost.unit, cost.is_reached) == (96, "%", True)


def test_what_does_not_reach_it_is_said_so():
    gain, cost = judged(
        record("ekiben", 100, 40), record("ekiben-cached", 120, 40), record("ekiben", 100, 0), record("ekiben-cached", 90, 0)
    )

    assert (gain.is_reached, cost.is_reached) == (False, False)


def test_what_was_not_measured_is_listed():
    assert [(p.found, p.is_reached) for p in judged()] == [(None, None)] * 2
