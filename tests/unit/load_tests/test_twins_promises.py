from load_tests.bench.procfs import CpuUse
from load_tests.bench.results import Load, LoadRecord, Results
from load_tests.bench.twins_promises import judge_twins

CPU = CpuUse(server_us_per_request=1, server_cores=1, client_cores=0.1, noise_percent=0)


def record(twin, rps, model="tabular", workers=1, round_=0):
    load = Load(seconds=2, answered=rps * 2, rps=rps, p50_ms=1, p99_ms=1, max_ms=1, errors={})
    return LoadRecord(peer=twin, model=model, workers=workers, connections=32, round=round_, load=load, cpu=CPU)


def judged(*records):
    promises = judge_twins(Results(started="", machine={}, options={}, twins=list(records)))
    return {(p.promise.partition(":")[0], p.where): p for p in promises}


def test_the_log_is_held_against_none_and_the_guards_against_the_log():
    found = judged(record("ekiben-unlogged", 1000), record("ekiben", 900), record("ekiben-guarded", 800))

    log, guards = (found[what, "1 worker, 32 connections"] for what in ("log, tabular", "guards, tabular"))
    assert (log.found, log.is_reached) == (90, True)
    assert (round(guards.found, 1), guards.is_reached) == (88.9, False)


def test_each_case_and_model_is_told_apart_and_rounds_are_taken_by_their_median():
    records = [record("ekiben-unlogged", 1000, "mlp", 2, round_=n) for n in range(3)]
    records += [record("ekiben", rps, "mlp", 2, round_=n) for n, rps in enumerate((100, 920, 950))]
    found = judged(*records)

    assert found["log, mlp", "2 workers, 32 connections"].found == 92
    assert found["guards, mlp", ""].found is None
    assert found["log, tabular", ""].found is None


def test_what_was_not_measured_is_listed():
    assert {p.is_reached for p in judged().values()} == {None}
    assert len(judged()) == 4
