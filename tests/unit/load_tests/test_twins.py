import time

import msgspec
import pytest
from unit.load_tests.test_routing import EKIBEN, _model

from ekiben.model.guard_spec import LimitsSpec
from ekiben.state.control import memory_control
from load_tests.bench import twins as module
from load_tests.bench.contestants import Workplace
from load_tests.bench.ekiben_store import spec_of
from load_tests.bench.race import Course
from load_tests.bench.results import Load, Results
from load_tests.bench.twins import TwinsTrial, name_of, twins_of


def test_twins_differ_in_what_is_measured_alone():
    spec = spec_of(_model("tabular"))
    own, unlogged, guarded = twins_of(spec).values()

    assert own == spec
    assert (unlogged.name, unlogged.log.enabled, unlogged.limits) == ("tabular-unlogged", False, LimitsSpec())
    assert (guarded.name, guarded.log.enabled) == ("tabular-guarded", True)
    assert guarded.limits.concurrent
    assert {rate.per for rate in guarded.limits.rates} == {"key", "ip"}
    for twin in (unlogged, guarded):
        assert msgspec.structs.replace(twin, name=spec.name, log=spec.log, limits=spec.limits) == spec


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Runs a trial whose loads are only noted."""
    monkeypatch.setattr("load_tests.bench.servers._IDLE_WINDOW_S", 0.05)
    loads = []

    def load(_wrk, url, _bodies, *, connections, seconds, headers):
        loads.append((url, connections, seconds, headers))
        return Load(seconds=seconds, answered=100, rps=100 / seconds, p50_ms=1, p99_ms=1, max_ms=1, errors={})

    monkeypatch.setattr(module, "run_wrk", load)

    def run(peers):
        control = memory_control()
        results = Results(started="", machine={}, options={}, failures=[])
        TwinsTrial(
            Course(models={"tabular": (1, 32)}, workers=(1,), peers=peers, protocols=(), seconds=1.0, rounds=1, with_overload=False),
            server=EKIBEN,
            models={"tabular": _model("tabular")},
            place=Workplace(folder=tmp_path, pythons={}, ekiben_models={}),
            control=control,
            wrk="wrk",
            say=lambda _line: None,
            wall=time.time,
            sleep=lambda _s: None,
        ).run(results)
        return results, loads, control

    return run


@pytest.mark.processes
def test_twins_take_turns_and_only_the_guarded_one_is_asked_with_a_key(trial):
    results, loads, control = trial(("ekiben-unlogged", "ekiben-guarded"))

    assert results.failures == []
    order = ["ekiben", "ekiben-unlogged", "ekiben-guarded"]
    assert [r.peer for r in results.twins] == [*order, *reversed(order)]
    assert {connections for _, connections, _, _ in loads} == {32}, "one connection has nothing to batch"
    assert [bool(headers) for *_, headers in loads] == [False, False, True, False, False, True, True, False, False]
    (key,) = control.keys.all()
    assert key.scopes == ("predict",)
    assert {name_of(twin, "tabular") for twin in order} == {"tabular", "tabular-unlogged", "tabular-guarded"}


def test_without_twins_nothing_is_measured(trial):
    results, loads, _ = trial(("ekiben-routed",))

    assert (results.twins, results.failures, loads) == ([], [], [])
