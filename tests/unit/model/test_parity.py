from __future__ import annotations

import joblib
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier

from ekiben.model import CardSpec, InputSpec, ModelSpec, Outputs, Predictor
from ekiben.model.parity import MIN_ROWS, compare, margin
from ekiben.model.runtimes.onnx import OnnxRuntime
from ekiben.model.runtimes.sklearn import SklearnRuntime

LABELS = ("a", "b", "c")


def classified(p, threshold=None, labels=None):
    p = np.asarray(p, np.float64)
    index = p.argmax(axis=1) if threshold is None else (p[:, 1] >= threshold).astype(int)
    return Outputs(len(p), {"probabilities": p}, labels or LABELS[: p.shape[1]], index, threshold)


def numbers(values, name="prediction"):
    return Outputs(len(values), {name: np.asarray(values)})


def test_equal_outputs_agree_and_the_report_says_so():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], MIN_ROWS)
    report = compare(classified(p), classified(p + 1e-6))

    assert report.agrees
    assert report.rows == MIN_ROWS
    assert report.label_differences == 0
    assert report.max_difference == pytest.approx(1e-6)
    assert report.mean_difference == pytest.approx(1e-6)
    assert report.reason.startswith("5000 rows agree; the largest difference is 1e-06")
    assert msgspec.to_builtins(report)["agrees"] is True


def test_fewer_rows_than_needed_never_agree():
    p = np.full((MIN_ROWS - 1, 2), 0.5)

    report = compare(classified(p), classified(p))
    assert not report.agrees
    assert "on 4999 rows only; 5000 are needed" in report.reason
    assert compare(classified(p), classified(p), min_rows=len(p)).agrees


def test_one_row_beyond_the_tolerance_is_enough():
    p = np.full((10, 2), 0.5)
    q = p.copy()
    q[7] = [0.4998, 0.5002]

    report = compare(classified(p, 0.3), classified(q, 0.3), min_rows=1)
    assert not report.agrees
    assert "1 of 10 rows differ in probabilities by more than 0.0001, the first is row 7 by 0.0002" in report.reason
    assert compare(classified(p, 0.3), classified(q, 0.3), min_rows=1, tolerance=1e-3).agrees


def test_a_label_may_differ_in_a_tie_only():
    tie, other = classified([[0.50001, 0.49999, 0.0]]), classified([[0.49999, 0.50001, 0.0]])
    assert compare(tie, other, min_rows=1).agrees

    clear = classified([[0.6, 0.4, 0.0]])
    wrong = Outputs(1, clear.arrays, clear.labels, np.array([1]))
    report = compare(clear, wrong, min_rows=1)
    assert (report.agrees, report.label_differences) == (False, 1)
    assert "1 of 1 rows have another label, though they were no ties" in report.reason


def test_ties_of_a_binary_classifier_are_at_its_threshold():
    assert compare(classified([[0.7, 0.30001]], 0.3), classified([[0.7, 0.29999]], 0.3), min_rows=1).agrees
    # At another threshold than the original's the labels differ, though the probabilities are the same.
    report = compare(classified([[0.6, 0.4]], 0.3), classified([[0.6, 0.4]], 0.5), min_rows=1)
    assert (report.agrees, report.label_differences) == (False, 1)


def test_the_margin_is_to_the_threshold_or_to_the_second_best():
    assert margin(classified([[0.6, 0.4]], 0.3)) == pytest.approx([0.1])
    assert margin(classified([[0.5, 0.2, 0.3]])) == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("a", "b", "agrees"),
    [
        ([1000.0], [1000.09], True),
        ([1000.0], [1000.2], False),
        ([0.0], [0.00009], True),
        ([0.0], [0.0002], False),
        ([np.nan, np.inf], [np.nan, np.inf], True),
        ([np.nan], [0.0], False),
        ([np.inf], [-np.inf], False),
        ([[1.0, 2.0]], [[1.0, 2.1]], False),
        ([1, 2], [1, 2], True),
        (["x", "y"], ["x", "y"], True),
        (["x", "y"], ["x", "z"], False),
        ([True], [False], False),
    ],
)
def test_numbers_agree_within_absolute_and_relative_tolerance(a, b, agrees):
    assert compare(numbers(a), numbers(b), min_rows=1).agrees is agrees


def test_ragged_outputs_agree_by_shape_and_content():
    def ragged(*rows):
        column = np.empty(len(rows), object)
        for n, row in enumerate(rows):
            column[n] = np.array(row)
        return numbers(column)

    assert compare(ragged([1.0], [1.0, 2.0]), ragged([1.0], [1.0, 2.0]), min_rows=1).agrees
    assert not compare(ragged([1.0], [1.0, 2.0]), ragged([1.0], [1.0]), min_rows=1).agrees


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (numbers([1.0]), numbers([1.0, 2.0]), "the original gives 1 rows, the export 2"),
        (classified([[0.5, 0.5]]), classified([[0.5, 0.5]], labels=("b", "a")), "the original's labels are"),
        (classified([[0.5, 0.5]]), Outputs(1, {"probabilities": np.ones((1, 2))}, ("a", "b")), "one of the two is a classifier"),
        (numbers([1.0]), numbers([1.0], "y"), "the original gives prediction; the export gives y"),
        (numbers([1.0]), numbers([[1.0]]), r"prediction has the shape [1] in the original and [1, 1] in the export"),
    ],
)
def test_what_cannot_be_compared_disagrees_with_a_reason(a, b, reason):
    report = compare(a, b, min_rows=1)

    assert not report.agrees
    assert reason in report.reason


def test_no_rows_agree_about_nothing():
    assert not compare(numbers([]), numbers([])).agrees
    assert not compare(numbers(np.zeros((0, 2))), numbers(np.zeros((0, 2)))).agrees


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20))
def test_whatever_the_numbers_a_model_agrees_with_itself(values):
    report = compare(numbers(values), numbers(values), min_rows=1)

    assert report.agrees
    assert report.max_difference == 0


# skl2onnx hands protobuf booleans for integers, which protobuf 6 still takes.
@pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto.ints. Expected an int, got a boolean:DeprecationWarning")
def test_the_trap_boosting_with_native_categories_exports_without_an_error_and_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, 12, MIN_ROWS), rng.normal(size=MIN_ROWS)], axis=1).astype(np.float32)
    target = (np.isin(rows[:, 0], [1, 4, 5, 9, 11]) ^ (rng.random(MIN_ROWS) < 0.1)).astype(int)
    native = HistGradientBoostingClassifier(max_iter=10, categorical_features=[0]).fit(rows, target)
    plain = HistGradientBoostingClassifier(max_iter=10).fit(rows, target)
    spec = ModelSpec(
        name="m",
        task="binary_classification",
        labels=("0", "1"),
        inputs=(InputSpec(name="kind", type="float"), InputSpec(name="size", type="float")),
        card=CardSpec(owner="o"),
    )

    def report(estimator):
        joblib.dump(estimator, tmp_path / "m.joblib")
        exported = to_onnx(estimator, rows[:1], options={id(estimator): {"zipmap": False}}, target_opset={"": 18, "ai.onnx.ml": 3})
        (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
        original = Predictor(spec, SklearnRuntime(tmp_path / "m.joblib"))
        onnx = Predictor(spec, OnnxRuntime(tmp_path / "m.onnx"))
        batch = original.signature.from_columns({"matrix": rows})
        return compare(original.run(batch), onnx.run(batch))

    assert report(plain).agrees, report(plain).reason
    refused = report(native)
    assert not refused.agrees
    assert refused.max_difference > 0.1
    assert "rows differ in probabilities" in refused.reason
