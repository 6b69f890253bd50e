import json

import msgspec
import pytest
from unit.load_tests.routed_world import World
from unit.load_tests.test_routing import EKIBEN, _model

from ekiben.state.control import memory_control
from load_tests.bench import full_load
from load_tests.bench.contestants import Workplace
from load_tests.bench.race import Course
from load_tests.bench.remembering import BODIES, RememberingTrial, bodies_of
from load_tests.bench.results import Results

OURS = "ekiben-cached"


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Runs a trial against a small server, whose cached side answers 150 a second and the other 100."""
    monkeypatch.setattr("load_tests.bench.servers._IDLE_WINDOW_S", 0.05)

    def run(peers=(OURS,), **world_is):
        control = memory_control()
        world = World(control, rates={OURS: 150}, model="heavy", **world_is)
        sent = []

        def begin(*arguments, **named):
            load = world.begin(*arguments, **named)
            sent.append(world.sent)
            return load

        monkeypatch.setattr(full_load, "LastingLoad", begin)
        results = Results(started="", machine={}, options={}, cached=[], failures=[])
        RememberingTrial(
            Course(models={}, workers=(2,), peers=peers, protocols=(), seconds=0.4, rounds=1, with_overload=False),
            server=EKIBEN,
            models={"heavy": _model("heavy")},
            place=Workplace(folder=tmp_path, pythons={}, ekiben_models={}),
            control=control,
            wrk="wrk",
            say=lambda _line: None,
            wall=world.wall,
            sleep=world.sleep,
        ).run(results)
        return results, sent

    return run


@pytest.mark.processes
def test_both_sides_take_turns_with_repeats_and_without(trial):
    results, sent = trial()

    assert results.failures == []
    expected = [(percent, side) for percent in (40, 0) for side in ("ekiben", OURS, OURS, "ekiben")]
    assert [(r.repeats_percent, r.peer) for r in results.cached] == expected
    assert {(r.model, r.workers, r.connections, r.load.rps) for r in results.cached} == {("heavy", 1, 32, 100), ("heavy", 1, 32, 150)}
    assert len(sent) == 2
    assert sent[0] != sent[1]


@pytest.mark.processes
def test_a_version_that_answers_too_little_is_a_failure(trial):
    results, _ = trial(shares={OURS: 50})

    assert len(results.failures) == 2
    assert "must be 100 %" in results.failures[0].problem
    assert results.cached == []


def test_without_the_side_nothing_is_measured(trial):
    results, sent = trial(peers=("ekiben-routed",))

    assert (results.cached, results.failures, sent) == ([], [], [])


@pytest.mark.parametrize("percent", [40, 0])
def test_so_many_requests_repeat_and_no_others(percent):
    rows = [[n / 64, *[0.5] * 9] for n in range(64)]
    model = msgspec.structs.replace(_model("heavy"), rows=rows, decimals=4)
    bodies = bodies_of(EKIBEN.protocols[0], model, percent)

    is_own = [json.loads(body) in rows for body in bodies]
    own, others = ([body for body, own in zip(bodies, is_own, strict=True) if own is which] for which in (True, False))
    assert len(bodies) == BODIES
    assert len(own) == BODIES * percent // 100
    assert len(set(others)) == len(others)
    assert sum(is_own[:100]) == percent, "they are spread evenly"
