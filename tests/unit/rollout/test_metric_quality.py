from __future__ import annotations

import numpy as np
import pytest

from ekiben.model.rollout_spec import QualitySpec
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_quality import quality
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.truth import Exposure, Truth

METRIC = ResolvedMetric(name="quality")
LABELS = ("no", "yes")


def exposed(n, right, *, version, arm, first=0, seed=0, actual=None):
    """Rows of a version, of which a share is right."""
    rng = np.random.default_rng([seed, n])
    is_right = rng.random(n) < right
    actual = (np.random.default_rng([9, n]).random(n) < 0.4) if actual is None else np.full(n, actual)
    return [
        (
            Exposure(
                model="m",
                request_id=f"{first + i}",
                row=0,
                version=version,
                arm=arm,
                key=f"{first + i}",
                time=float(i),
                prediction=LABELS[int(a == r)],
                score=0.5,
            ),
            Truth(model="m", request_id=f"{first + i}", row=0, time=0.0, actual=LABELS[int(a)]),
        )
        for i, (a, r) in enumerate(zip(actual, is_right, strict=True))
    ]


def split(n_challenger, right_challenger, n_champion, right_champion):
    """Rows of a canary: other rows for each version."""
    return [
        *exposed(n_challenger, right_challenger, version="b", arm="challenger", seed=1),
        *exposed(n_champion, right_champion, version="a", arm="champion", first=1_000_000, seed=2),
    ]


def shadowed(n, right_challenger, right_champion):
    """Rows that both computed."""
    return [
        *exposed(n, right_challenger, version="b", arm="shadow", seed=1),
        *exposed(n, right_champion, version="a", arm="champion", seed=2),
    ]


def evidence(joined, *, task="binary_classification", labels=LABELS, spec=None):
    return Evidence(model="m", champion_version="a", challenger_version="b", task=task, labels=labels, quality=spec, joined=joined)


@pytest.mark.parametrize(
    ("joined", "outcome"),
    [
        (split(49, 0.9, 500, 0.9), "Inconclusive"),
        (split(500, 0.9, 49, 0.9), "Inconclusive"),
        (split(300, 0.9, 3000, 0.9), "Successful"),
        (split(1000, 0.7, 3000, 0.9), "Failed"),
        (split(1000, 0.95, 3000, 0.8), "Successful"),
        (shadowed(500, 0.9, 0.9), "Successful"),
        (shadowed(500, 0.7, 0.9), "Failed"),
        (shadowed(60, 0.8, 0.9), "Successful"),
    ],
)
def test_a_challenger_fails_if_it_is_worse_beyond_noise(joined, outcome):
    found = quality(METRIC, evidence(joined))

    assert found is not None
    assert found.outcome == outcome


def test_without_any_truth_it_does_not_apply_unless_the_plan_asks_for_it():
    assert quality(METRIC, evidence([])) is None
    assert quality(METRIC, evidence([], spec=QualitySpec(metric="f1", threshold=0.5))) is None
    asked = quality(ResolvedMetric(name="quality", min=0.5), evidence([]))
    assert asked is not None
    assert asked.message == "too few rows with ground truth to judge: the challenger has 0 of 50"


def test_a_tensor_model_has_no_quality():
    assert quality(ResolvedMetric(name="quality", min=0.5), evidence([], task="tensor", labels=())) is None


def test_the_same_rows_show_more_than_other_rows_do():
    truths = shadowed(400, 0.9, 0.9)
    # The challenger errs where the champion does, and on a few rows more.
    wrong = 0
    both = []
    by_row = {e.request_id: e for e, _ in truths if e.version == "a"}
    for e, t in truths:
        if e.version == "b":
            prediction = by_row[e.request_id].prediction
            if prediction == t.actual and wrong < 40:
                prediction, wrong = LABELS[prediction == "no"], wrong + 1
            other = Exposure(**{f: getattr(e, f) for f in e.__struct_fields__ if f != "prediction"}, prediction=prediction)
            both.append((other, t))
        else:
            both.append((e, t))
    apart = [
        (
            Exposure(
                **{f: getattr(e, f) for f in e.__struct_fields__ if f not in ("request_id", "arm")},
                request_id=e.version + e.request_id,
                arm="x",
            ),
            t,
        )
        for e, t in both
    ]
    metric = ResolvedMetric(name="quality", metric="accuracy")

    assert quality(metric, evidence(both)).outcome == "Failed"
    assert quality(metric, evidence(apart)).outcome == "Inconclusive"


def test_rows_that_somebody_sent_to_a_version_by_its_name_are_left_out():
    pinned = exposed(500, 0.1, version="b", arm="pinned", first=50_000)
    other = exposed(500, 0.1, version="c", arm="challenger", first=60_000)

    assert quality(METRIC, evidence(pinned)) is None
    assert quality(METRIC, evidence([*split(300, 0.9, 900, 0.9), *pinned, *other])).outcome == "Successful"


def test_a_threshold_is_held_where_the_champion_keeps_it():
    def found(challenger, n=2000):
        return quality(METRIC, evidence(split(n, challenger, 60, 0.85), spec=QualitySpec(metric="accuracy", threshold=0.8)))

    assert found(0.9).outcome == "Successful"
    assert found(0.9).limit == 0.8
    assert found(0.74).outcome == "Failed"
    assert found(0.74).message.endswith("surely beyond 0.8")
    assert found(0.72, n=60).message.endswith("beyond 0.8, which may be noise")
    assert found(0.72, n=60).outcome == "Inconclusive"


def test_where_the_champion_misses_the_threshold_too_a_person_decides():
    found = quality(ResolvedMetric(name="quality", metric="accuracy", min=0.8), evidence(split(500, 0.6, 500, 0.6)))

    assert found.outcome == "Inconclusive"
    assert found.message.endswith("surely beyond 0.8, but so is the champion")


def test_the_plans_threshold_goes_before_the_specs_and_the_specs_is_for_its_own_metric():
    spec = QualitySpec(metric="accuracy", threshold=0.95)
    joined = split(2000, 0.9, 2000, 0.95)

    assert quality(METRIC, evidence(joined, spec=spec)).limit == 0.95
    assert quality(ResolvedMetric(name="quality", min=0.5), evidence(joined, spec=spec)).limit == 0.5
    assert quality(ResolvedMetric(name="quality", metric="f1"), evidence(joined, spec=spec)).limit is None


def test_of_a_regressor_less_error_is_better():
    rng = np.random.default_rng(1)

    def rows(n, scale, version, arm, first):
        return [
            (
                Exposure(
                    model="m", request_id=f"{first + i}", row=0, version=version, arm=arm, key=f"{first + i}", time=0.0, prediction=float(p)
                ),
                Truth(model="m", request_id=f"{first + i}", row=0, time=0.0, actual=0.0),
            )
            for i, p in enumerate(rng.normal(0, scale, n))
        ]

    def found(scale, *, limit=None, metric="mae"):
        joined = [*rows(1000, scale, "b", "challenger", 0), *rows(3000, 1.0, "a", "champion", 10_000)]
        return quality(ResolvedMetric(name="quality", metric=metric, max=limit), evidence(joined, task="regression", labels=()))

    assert found(1.0).outcome == "Successful"
    assert found(1.5).outcome == "Failed"
    assert found(0.5).outcome == "Successful"
    assert found(1.5, metric="rmse").outcome == "Failed"
    assert found(1.0, limit=0.9).outcome == "Successful"
    assert found(1.0, limit=0.5).outcome == "Inconclusive"
    assert "mae of the challenger is 0.7" in found(1.0).message


def test_a_few_rows_of_a_rare_class_fail_nobody():
    none_found = exposed(60, 0.0, version="b", arm="challenger", actual=True)[:20]
    rest = exposed(100, 1.0, version="b", arm="challenger", first=500, actual=False)
    champion = [*exposed(20, 1.0, version="a", arm="champion", first=2000, actual=True)]
    champion += exposed(100, 1.0, version="a", arm="champion", first=3000, actual=False)

    found = quality(METRIC, evidence([*none_found, *rest, *champion]))
    assert found.outcome == "Inconclusive"
    assert found.message.endswith("probably worse; more rows will show it")


def test_a_class_that_never_occurs_leaves_it_open():
    joined = [
        *exposed(100, 1.0, version="b", arm="challenger", actual=False),
        *exposed(100, 1.0, version="a", arm="champion", first=500, actual=False),
    ]

    found = quality(METRIC, evidence(joined))
    assert found.outcome == "Inconclusive"
    assert "f1 is not defined" in found.message
