import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ekiben.monitoring.answers import Amounts, Classes
from ekiben.monitoring.quality_metrics import measured, roc_auc
from ekiben.monitoring.resampling import Estimate

LABELS = ("no", "yes")


def binary(n, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    actual = (rng.random(n) < scores).astype(np.intp)
    return Classes(LABELS, (scores > 0.6).astype(np.intp), actual, np.column_stack([1 - scores, scores]))


def several(n, k, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(k), n)
    actual = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return Classes(tuple("abcdefghij"[:k]), probabilities.argmax(axis=1), actual, probabilities)


def test_values_of_a_binary_classifier_are_those_of_scikit_learn():
    answers = binary(400)
    scores, found = answers.probabilities[:, 1], measured(answers)
    assert not found.reasons
    assert {name: e.value for name, e in found.metrics.items() if name != "calibration_error"} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(answers.actual, answers.predicted),
            "precision": sk.precision_score(answers.actual, answers.predicted),
            "recall": sk.recall_score(answers.actual, answers.predicted),
            "f1": sk.f1_score(answers.actual, answers.predicted),
            "roc_auc": sk.roc_auc_score(answers.actual, scores),
            "log_loss": sk.log_loss(answers.actual, scores),
            "brier": sk.brier_score_loss(answers.actual, scores),
        }
    )


def test_values_of_several_classes_are_means_over_those_that_occur():
    answers = several(500, 3)
    with_a_class_that_never_occurs = Classes(
        (*answers.labels, "x"), answers.predicted, answers.actual, np.pad(answers.probabilities, ((0, 0), (0, 1)))
    )
    for found in (measured(answers), measured(with_a_class_that_never_occurs)):
        values = {name: e.value for name, e in found.metrics.items()}
        assert values["f1"] == pytest.approx(sk.f1_score(answers.actual, answers.predicted, average="macro"))
        assert values["precision"] == pytest.approx(sk.precision_score(answers.actual, answers.predicted, average="macro"))
        assert values["recall"] == pytest.approx(sk.recall_score(answers.actual, answers.predicted, average="macro"))
        assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(answers.actual, answers.probabilities, multi_class="ovr"))
        assert values["log_loss"] == pytest.approx(sk.log_loss(answers.actual, answers.probabilities))


def test_values_of_a_regressor():
    rng = np.random.default_rng(1)
    answers = Amounts(rng.normal(size=301), rng.normal(size=301))
    errors = answers.predicted - answers.actual
    assert {name: e.value for name, e in measured(answers).metrics.items()} == pytest.approx(
        {
            "mae": np.abs(errors).mean(),
            "rmse": np.sqrt((errors**2).mean()),
            "bias": errors.mean(),
            "error_p50": np.median(np.abs(errors)),
            "error_p90": np.sort(np.abs(errors))[270],
        }
    )


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss", "brier", "precision"])
@pytest.mark.parametrize("make", [binary, lambda n, seed: several(n, 3, seed)])
def test_an_interval_is_as_wide_as_the_values_scatter(make, metric):
    values = [measured_value(make(300, seed), metric) for seed in range(40)]
    estimate = measured(make(300, 1000)).metrics[metric]
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * np.std(values), rel=0.45)
    assert estimate.low < estimate.value < estimate.high


def measured_value(answers, metric):
    weights = np.ones((1, len(answers.actual)))
    if metric == "roc_auc":
        classes = [1] if answers.is_binary else range(3)
        return np.mean([roc_auc(answers.probabilities[:, c], answers.actual == c, weights)[0] for c in classes])
    return measured(answers).metrics[metric].value


@pytest.mark.parametrize("metric", ["mae", "rmse", "bias", "error_p50", "error_p90"])
def test_an_interval_of_an_error_is_as_wide_as_the_values_scatter(metric):
    def found(seed):
        rng = np.random.default_rng(seed)
        return measured(Amounts(rng.normal(size=300), np.zeros(300))).metrics[metric]

    estimates = [found(seed) for seed in range(40)]
    width = np.mean([e.high - e.low for e in estimates])
    assert width == pytest.approx(2 * 1.96 * np.std([e.value for e in estimates]), rel=0.3)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_area_of_weighted_rows_is_that_of_rows_that_often(rows):
    scores, positive, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = roc_auc(scores, positive, weights[None, :].astype(float))[0]
    actual = np.repeat(positive, weights)
    if len(set(actual.tolist())) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sk.roc_auc_score(actual, np.repeat(scores, weights)))


def test_one_class_only_is_no_error():
    answers = binary(50)
    never = Classes(LABELS, np.zeros(50, np.intp), np.zeros(50, np.intp), answers.probabilities)
    found = measured(never)
    assert found.reasons == {
        "precision": "no row was predicted 'yes'",
        "recall": "no row was 'yes'",
        "f1": "no row was 'yes', nor predicted so",
        "roc_auc": "all rows were 'no'",
    }
    assert found.metrics["accuracy"].value == 1
    assert set(found.metrics) == {"accuracy", "log_loss", "brier", "calibration_error"}


def test_all_right_does_not_show_that_the_next_is():
    right = np.array([0, 1] * 50)
    estimate = measured(Classes(LABELS, right, right)).metrics["f1"]
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert 0.9 < estimate.low < 0.99


def test_without_probabilities_there_is_no_metric_of_them():
    answers = binary(30)
    found = measured(Classes(LABELS, answers.predicted, answers.actual))
    assert set(found.reasons) == {"roc_auc", "log_loss", "brier", "calibration_error"}
    assert set(found.metrics) == {"accuracy", "precision", "recall", "f1"}


def test_many_classes_have_no_area():
    k = 60
    answers = Classes(tuple(map(str, range(k))), np.arange(k), np.arange(k), np.eye(k))
    assert measured(answers).reasons == {"roc_auc": "there are 60 classes; it is measured of 50 at most"}


def test_certain_and_wrong_is_finite():
    found = measured(Classes(LABELS, np.array([1, 0]), np.array([0, 0]), np.array([[0.0, 1.0], [1.0, 0.0]])))
    assert np.isfinite([found.metrics["log_loss"].value, found.metrics["log_loss"].high]).all()


@pytest.mark.parametrize("answers", [binary(1), several(1, 3), Amounts(np.ones(1), np.zeros(1))])
def test_one_row(answers):
    found = measured(answers).metrics
    assert found
    assert all(np.isfinite(e.value) for e in found.values())
    if isinstance(answers, Amounts):
        assert found["mae"] == Estimate(1.0, None, None)


def test_no_row_has_no_metrics():
    assert measured(Amounts(np.zeros(0), np.zeros(0))).metrics == {}


def test_more_rows_than_are_drawn_from_keep_their_interval_narrow():
    wide, narrow = (measured(binary(n)).metrics["brier"] for n in (20_000, 80_000))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2, rel=0.2)
