import math

import numpy as np
import pytest

from ekiben.errors import RolloutRefused
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.model.rollout_spec import QualitySpec
from ekiben.rollout.experiment_analysis import ALPHA, FEWEST_USERS, Sample, analysed, checked_metric, difference_of, sample_of
from ekiben.state.routes import Arm
from ekiben.state.truth import Exposure, Truth

X = (InputSpec(name="x", type="float"),)
CARD = CardSpec(owner="tests")
SPEC = ModelSpec(name="m", task="binary_classification", labels=("no", "yes"), inputs=X, card=CARD)
REGRESSOR = ModelSpec(name="m", task="regression", inputs=X, card=CARD)
TENSOR = ModelSpec(name="m", task="tensor", inputs=X, outputs=(OutputSpec(name="y", dtype="float32"),), card=CARD)
ARMS = (Arm("old", "1"), Arm("new", "2"))
WEIGHTS = {"old": 50.0, "new": 50.0}
LABELS = ("no", "yes")


def answer(n, key, *, arm="old", version="1", prediction="yes", actual="yes", outcome=None):
    exposure = Exposure(model="m", request_id=f"r{n}", row=0, version=version, arm=arm, key=key, time=float(n), prediction=prediction)
    return exposure, Truth(model="m", request_id=f"r{n}", row=0, time=float(n), actual=actual, outcome=outcome)


def shown(joined, *, metric="accuracy", arms=ARMS, weights=WEIGHTS, spec=SPEC, exposed=None):
    users = {}
    for e, _ in joined:
        users.setdefault((e.version, e.arm), []).append(e.key)
    counted = {arm: (len(keys), len(set(keys))) for arm, keys in users.items()} if exposed is None else exposed
    return analysed(arms, weights, metric=metric, spec=spec, exposed=counted, joined=joined)


def answers(arm, version, share, n=400, *, start=0, **fields):
    """So many users with a row each, of whom a share is answered right."""
    return [
        answer(start + i, f"{arm}{i}", arm=arm, version=version, actual="yes" if i < share * n else "no", **fields) for i in range(n)
    ]  # fmt: skip


def test_a_users_rows_are_averaged_before_users_are():
    # One user with nine right rows, one with one wrong row: the mean user is half right, the mean row is not.
    joined = [answer(n, "many") for n in range(9)] + [answer(9, "one", actual="no")]
    sample, known = sample_of("accuracy", joined, LABELS)
    assert (sample.value, sample.n, known) == (pytest.approx(0.5), 2, 10)


def test_ratios_are_those_of_all_rows_and_their_error_that_of_users():
    rng = np.random.default_rng(7)
    rows = [("yes" if p else "no", "yes" if a else "no") for p, a in rng.random((300, 2)) < 0.5]
    alone = [answer(n, f"u{n}", prediction=p, actual=a) for n, (p, a) in enumerate(rows)]
    sample, _ = sample_of("f1", alone, LABELS)
    both = sum(p == a == "yes" for p, a in rows)
    assert sample.value == pytest.approx(2 * both / sum((p == "yes") + (a == "yes") for p, a in rows))
    tenfold, known = sample_of(
        "f1", [answer(10 * n + i, f"u{n}", prediction=p, actual=a) for n, (p, a) in enumerate(rows) for i in range(10)], LABELS
    )
    assert (tenfold.n, known) == (300, 3000)
    assert tenfold.value == pytest.approx(sample.value)
    assert tenfold.error == pytest.approx(sample.error, rel=0.05)  # ten times the same rows say nothing more


def test_the_error_of_a_mean_is_what_statistics_says():
    rng = np.random.default_rng(7)
    outcomes = rng.normal(3, 2, 500)
    sample, _ = sample_of("outcome", [answer(n, f"u{n}", outcome=float(o)) for n, o in enumerate(outcomes)], LABELS)
    assert sample.value == pytest.approx(outcomes.mean())
    assert sample.error == pytest.approx(outcomes.std() / math.sqrt(500), rel=0.02)


@pytest.mark.parametrize(("metric", "expected"), [("outcome", 0), ("accuracy", 1)])
def test_rows_that_say_nothing_of_the_metric_are_not_known(metric, expected):
    joined = [answer(1, "a"), answer(2, "b", actual=None), answer(3, "c", prediction=None)]
    assert sample_of(metric, joined, LABELS)[1] == expected
    assert sample_of(metric, joined[1:], LABELS) == (None, 0)


def looks(rng, n, draw, *, share=0.5, difference=0.0):
    """An experiment, looked at after every 50 users: 1 or -1 where the arms are ever told apart, by the sign of what is found, else 0."""
    of_new = rng.random(n) < share
    values = draw(rng, n) + of_new * difference
    sums = [np.cumsum([of_arm, of_arm * values, of_arm * values**2], axis=1)[:, 49::50].T.tolist() for of_arm in (of_new, ~of_new)]
    for look in zip(*sums, strict=True):
        if min(users for users, _, _ in look) < FEWEST_USERS:
            continue
        samples = [Sample(t / k, math.sqrt(max(q / k - (t / k) ** 2, 0.0) / (k - 1)), int(k), int(k)) for k, t, q in look]
        found = difference_of(*samples, ALPHA)
        assert (found.p_value <= ALPHA) is (found.low > 0 or found.high < 0)
        if found.p_value <= ALPHA:
            return 1 if found.value > 0 else -1
    return 0


@pytest.mark.parametrize(
    ("draw", "share"),
    [
        (lambda rng, n: (rng.random(n) < 0.3).astype(float), 0.5),
        (lambda rng, n: (rng.random(n) < 0.02).astype(float), 0.1),
        (lambda rng, n: rng.lognormal(0, 1.5, n), 0.5),
    ],
)
def test_without_a_difference_the_arms_are_seldom_ever_told_apart_however_often_one_looks(draw, share):
    rng = np.random.default_rng(7)
    told_apart = sum(looks(rng, 5000, draw, share=share) != 0 for _ in range(400))
    assert told_apart <= 400 * ALPHA


def test_a_difference_is_found():
    rng = np.random.default_rng(7)
    found = [looks(rng, 5000, lambda rng, n: (rng.random(n) < 0.3).astype(float), difference=0.1) for _ in range(50)]
    assert found.count(1) >= 49


def test_arms_without_any_variance_differ_or_do_not():
    one, other = Sample(1.0, 0.0, 60, 60), Sample(0.5, 0.0, 60, 60)
    assert difference_of(one, other, ALPHA).p_value == 0.0
    assert difference_of(one, one, ALPHA).p_value == 1.0


def test_a_better_arm():
    results = shown(answers("old", "1", 0.6) + answers("new", "2", 0.8, start=1000))
    old, new = results.arms
    assert (old.value.value, new.value.value) == (pytest.approx(0.6), pytest.approx(0.8))
    assert old.value.low < 0.6 < old.value.high < new.value.low
    assert (new.rows, new.users, new.known_rows, new.known_users, new.coverage) == (400, 400, 400, 400, 1.0)
    (comparison,) = results.comparisons
    assert (comparison.arm, comparison.against, comparison.verdict, comparison.alpha) == ("new", "old", "better", 0.05)
    assert comparison.difference.low > 0
    assert comparison.p_value <= 0.05
    assert results.split.is_right
    assert results.conclusion.startswith("new is better than old: accuracy +0.2 (")
    assert results.conclusion.endswith("you may stop now")


def test_of_an_error_less_is_better():
    def predicted(arm, version, off, start):
        return [answer(start + i, f"{arm}{i}", arm=arm, version=version, prediction=off + i % 3, actual=0.0) for i in range(200)]

    results = shown(predicted("old", "1", 1.0, 0) + predicted("new", "2", 3.0, 1000), metric="mae", spec=REGRESSOR)
    assert results.comparisons[0].difference.value == pytest.approx(2.0, abs=0.05)
    assert results.comparisons[0].verdict == "worse"


def test_what_cannot_be_told_apart_yet():
    results = shown(answers("old", "1", 0.6) + answers("new", "2", 0.62, start=1000))
    assert results.comparisons[0].verdict == "undecided"
    assert "cannot be told apart yet" in results.conclusion
    assert results.conclusion.endswith("go on, or stop without a winner")


def test_too_few_users_are_not_judged_however_clear_it_looks():
    results = shown(answers("old", "1", 1.0) + answers("new", "2", 0.0, FEWEST_USERS - 1, start=1000), exposed={})
    assert results.comparisons[0].verdict == "undecided"
    assert results.comparisons[0].difference.value is None
    assert "new has 49 of 50" in results.conclusion
    assert shown([]).arms[0].coverage is None
    assert shown([]).arms[0].value.value is None


def test_what_is_not_defined():
    nothing = [
        answer(n, f"{arm}{n}", arm=arm, version=v, prediction="no", actual="no")
        for arm, v in zip(("old", "new"), "12", strict=True)
        for n in range(60)
    ]
    results = shown(nothing, metric="precision")
    assert results.arms[0].value.value is None
    assert "precision is not defined" in results.conclusion


def test_a_ratio_that_rests_on_few_rows_is_not_judged():
    both = [
        answer(1000 * int(v) + n, f"{arm}{n}", arm=arm, version=v, prediction="yes" if n < 20 else "no", actual="no")
        for arm, v in (("old", "1"), ("new", "2"))
        for n in range(400)
    ]
    assert "too few rows to judge: precision of old rests on 20 of 50" in shown(both, metric="precision").conclusion


def test_three_arms_share_alpha():
    arms, weights = (*ARMS, Arm("other", "3")), {"old": 33.34, "new": 33.33, "other": 33.33}
    joined = answers("old", "1", 0.6) + answers("new", "2", 0.8, start=1000) + answers("other", "3", 0.6, start=2000)
    results = shown(joined, arms=arms, weights=weights)
    assert [(c.arm, c.against, c.verdict, c.alpha) for c in results.comparisons] == [
        ("new", "old", "better", 0.025),
        ("other", "old", "undecided", 0.025),
    ]
    assert "the rest needs more users" in results.conclusion


def test_a_split_that_is_wrong_forbids_a_decision():
    joined = answers("old", "1", 0.6) + answers("new", "2", 0.8, start=1000)
    results = shown(joined, exposed={("1", "old"): (900, 900), ("2", "new"): (400, 400)})
    assert not results.split.is_right
    assert "decide nothing yet" in results.conclusion
    assert results.arms[0].coverage == pytest.approx(400 / 900)


def test_what_others_answered_is_no_part_of_it():
    joined = answers("old", "1", 0.6) + answers("champion", "1", 0.0, start=1000) + answers("new", "1", 0.0, start=2000)
    results = shown(joined)
    assert [(a.known_rows, a.rows) for a in results.arms] == [(400, 400), (0, 0)]


def test_metrics():
    assert checked_metric("", SPEC) == "f1"
    assert checked_metric("", REGRESSOR) == "mae"
    assert checked_metric("", TENSOR) == "outcome"
    spec = ModelSpec(name="m", task="regression", inputs=X, card=CARD, quality=QualitySpec(metric="rmse"))
    assert checked_metric("", spec) == "rmse"
    assert checked_metric("outcome", SPEC) == "outcome"
    with pytest.raises(RolloutRefused, match="'mae' is no metric of a binary_classification model; there are accuracy, f1"):
        checked_metric("mae", SPEC)
