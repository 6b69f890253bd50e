"""The promise of automatic rollback, by simulation with the code that measures and judges real rollouts."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest

from ekiben.rollout.plan import default_plan
from load_tests.rollout_simulation import CASES, Behaviour, deciding, endings, main, needed, simulated, stages_of, without_shadow


@pytest.fixture
def plan():
    """The default plan, looked at less often, so that a thousand rollouts take some ten seconds."""
    default = default_plan()
    return msgspec.structs.replace(default, analysis=msgspec.structs.replace(default.analysis, interval="50s"))


def share(endings_, outcome):
    return np.mean([e.verdict.outcome == outcome for e in endings_])


def test_the_stages_are_those_of_the_plan():
    assert stages_of(default_plan()) == [(None, 300.0), (0.05, 600.0), (0.5, 600.0), (1.0, 600.0)]
    assert [m.name for m in deciding(default_plan())] == ["errorRate", "invalidRate", "latencyP95", "quality"]


def test_of_a_thousand_challengers_that_are_no_worse_at_most_one_in_a_hundred_is_rolled_back(plan):
    found = list(endings(CASES["no difference, errors 0 to 4 %"][0], 1000, seed=1, plan=plan))

    assert share(found, "Failed") <= 0.01
    assert share(found, "Successful") >= 0.95


def test_looked_at_every_ten_seconds_it_is_no_different():
    found = list(endings(CASES["no difference, errors 0 to 4 %"][0], 50, seed=2))

    assert share(found, "Failed") <= 0.02


@pytest.mark.parametrize("case", ["errors 2 % to 8 %", "p95 tripled"])
@pytest.mark.parametrize(("with_shadow", "n"), [(True, 1000), (False, 300)])
def test_of_challengers_that_are_much_worse_ninety_nine_in_a_hundred_are_rolled_back(case, with_shadow, n):
    plan = default_plan() if with_shadow else without_shadow()
    found = list(endings(CASES[case][0], n, seed=3, plan=plan))

    assert share(found, "Failed") >= 0.99
    assert np.median([e.requests for e in found]) < 3000
    assert with_shadow == (np.median([e.exposed for e in found]) == 0)


def test_a_fault_of_both_is_left_to_a_person(plan):
    found = list(endings(CASES["both fail at 8 %"][0], 5, seed=4, plan=plan))

    assert share(found, "Inconclusive") == 1


def test_an_innocent_challenger_passes_with_some_hundred_requests():
    rng = np.random.default_rng(5)

    assert np.median([needed(Behaviour(0.01), 0.05, rng) for _ in range(10)]) < 500
    assert needed(Behaviour(0.5), 0.05, rng, most=200) >= 200


def test_a_rollout_with_next_to_no_traffic_is_paused():
    ending = simulated(Behaviour(), Behaviour(), np.random.default_rng(6), rate_per_s=0.001)

    assert ending.verdict.outcome == "Inconclusive"
    assert ending.stage == 0
    assert 3600 <= ending.took_s < 3700


def test_the_tables_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rollout_simulation", "--n", "1"])
    monkeypatch.setattr("load_tests.rollout_simulation.needed", lambda *_, **__: 100)
    main()
    printed = capsys.readouterr().out

    assert all(f"| {case} | without shadow |" in printed for case in CASES)
    assert "| 4% | 1.0 | 100, 100 |" in printed
