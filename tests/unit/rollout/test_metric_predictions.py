from __future__ import annotations

import numpy as np
import pytest

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_predictions import agreement, drift
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.histogram import Histogram
from ekiben.state.windows import Window

AGREEMENT = ResolvedMetric(name="agreement", min=0.8)
DRIFT = ResolvedMetric(name="drift", max=0.25)
THREE = ("a", "b", "c")


def evidence(challenger, champion=None, *, is_shadow=True, task="multiclass_classification", labels=THREE):
    return Evidence(
        model="m",
        champion_version="a",
        challenger_version="b",
        task=task,
        labels=labels,
        is_shadow=is_shadow,
        challenger=challenger,
        champion=champion or Window(),
    )


def classes(*counts):
    return Window(ok=sum(counts), classes=dict(zip(THREE, counts, strict=True)))


def scores(n, a=2.0, b=2.0, seed=0):
    return Window(ok=n, scores=Histogram.of(np.random.default_rng([seed, n]).beta(a, b, n)), classes={"no": n // 2, "yes": n - n // 2})


@pytest.mark.parametrize(
    ("agreed", "compared", "outcome"),
    [
        (49, 49, "Inconclusive"),
        (60, 60, "Successful"),
        (820, 1000, "Inconclusive"),
        (900, 1000, "Successful"),
        (600, 1000, "Failed"),
        (0, 50, "Failed"),
    ],
)
def test_a_challenger_agrees_or_not(agreed, compared, outcome):
    found = agreement(AGREEMENT, evidence(Window(compared=compared, agreed=agreed)))

    assert found is not None
    assert found.outcome == outcome


def test_agreement_is_of_shadows_only():
    assert agreement(AGREEMENT, evidence(Window(compared=1000, agreed=10), is_shadow=False)) is None
    assert agreement(ResolvedMetric(name="agreement"), evidence(Window(compared=100, agreed=100))).limit == 0.8


def test_agreement_tells_the_numbers():
    found = agreement(AGREEMENT, evidence(Window(compared=1000, agreed=600)))

    assert found.message == "same prediction as the champion's for 60 % (51.6 to 68 %) of 1,000 rows, less than 80 %"
    assert found.challenger.high < 0.8


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        (classes(20, 10, 10), classes(500, 250, 250), "Inconclusive"),
        (classes(500, 250, 250), classes(20, 10, 10), "Inconclusive"),
        (classes(500, 250, 250), classes(510, 240, 250), "Successful"),
        (classes(100, 100, 800), classes(500, 250, 250), "Failed"),
        (classes(1000, 0, 0), classes(500, 250, 250), "Failed"),
        (classes(340, 340, 320), classes(510, 300, 190), "Successful"),
        (classes(30, 30, 50), classes(60, 30, 20), "Inconclusive"),
    ],
)
def test_classes_drift_or_not(challenger, champion, outcome):
    assert drift(DRIFT, evidence(challenger, champion)).outcome == outcome


def test_scores_drift_in_the_champions_deciles():
    def of(challenger, champion, labels=("no", "yes"), task="binary_classification"):
        return drift(DRIFT, evidence(challenger, champion, labels=labels, task=task))

    assert of(scores(5000), scores(5001, seed=1)).outcome == "Successful"
    assert of(scores(5000, 4, 2), scores(5001, seed=1)).outcome == "Failed"
    assert of(scores(5000, 4, 2), scores(5001, seed=1), labels=(), task="regression").outcome == "Failed"
    assert of(Window(ok=500, classes={"no": 500}), Window(ok=500, classes={"yes": 500})).outcome == "Failed"


def test_two_small_samples_of_one_distribution_have_no_drift_on_average():
    found = [drift(DRIFT, evidence(scores(80, seed=s), scores(90, seed=s + 1000), labels=(), task="regression")) for s in range(200)]

    assert np.mean([f.challenger.value for f in found]) < 0.05
    assert not any(f.outcome == "Failed" for f in found)


def test_drift_does_not_apply_to_tensors_nor_where_the_champion_has_no_traffic():
    assert drift(DRIFT, evidence(classes(500, 0, 0), classes(0, 0, 500), task="tensor", labels=())) is None
    assert drift(DRIFT, evidence(classes(500, 0, 0), classes(1, 0, 0), is_shadow=False)) is None
    assert drift(DRIFT, evidence(classes(500, 0, 0), classes(1, 0, 0))).outcome == "Inconclusive"


def test_without_any_prediction_there_is_too_little():
    assert drift(DRIFT, evidence(Window(), Window())).message == "too few predictions to judge: the challenger has 0 of 50"
    assert drift(DRIFT, evidence(Window(), Window(), task="regression", labels=())).outcome == "Inconclusive"
    assert drift(ResolvedMetric(name="drift"), evidence(classes(500, 0, 0), classes(500, 0, 0))).limit == 0.25
