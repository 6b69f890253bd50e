from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.model import Batch, CardSpec, InputSpec, ModelSpec, Outputs
from ekiben.model.profile import bin_shares, empty_profile, profile_of

CARD = CardSpec(owner="o")
INPUTS = {
    "float": InputSpec(name="x", type="float", dtype="float64", nullable=True),
    "int": InputSpec(name="x", type="int"),
    "string": InputSpec(name="x", type="string", nullable=True),
    "plain string": InputSpec(name="x", type="string"),
    "bool": InputSpec(name="x", type="bool"),
    "tensor": InputSpec(name="x", type="tensor", dtype="float32", shape=(2,)),
    "words": InputSpec(name="x", type="tensor", dtype="string", shape=(2,)),
}


def described(kind, values):
    spec = ModelSpec(name="m", task="regression", inputs=(INPUTS[kind],), card=CARD)
    n = len(values)
    profile = profile_of(spec, Batch(n, {"x": values}), Outputs(n, {"prediction": np.zeros(n)}))
    assert msgspec.json.decode(msgspec.json.encode(profile)) == profile
    return profile["inputs"]["x"]


def scored(outputs):
    spec = ModelSpec(name="m", task="regression", inputs=(INPUTS["int"],), card=CARD)
    profile = profile_of(spec, Batch(outputs.n, {"x": np.zeros(outputs.n, np.int64)}), outputs)
    assert msgspec.json.decode(msgspec.json.encode(profile)) == profile
    return profile["outputs"]


def test_a_number_is_described_by_moments_and_deciles():
    values = np.append(np.arange(1000.0), [np.nan] * 1000)
    found = described("float", values)

    assert found["kind"] == "numeric"
    assert (found["n"], found["missing"], found["mean"], found["min"], found["max"]) == (2000, 0.5, 499.5, 0.0, 999.0)
    assert found["std"] == pytest.approx(np.arange(1000).std())
    assert len(found["edges"]) == 9
    assert found["shares"] == pytest.approx([0.1] * 10)


def test_a_constant_has_a_bin_of_its_own_and_one_on_either_side():
    found = described("int", np.full(5, 7))

    assert found["shares"] == [0.0, 1.0, 0.0]
    assert bin_shares(np.array([6.999, 7, 7.001]), found["edges"]) == pytest.approx([1 / 3] * 3)


def test_few_values_have_a_bin_each():
    found = described("int", np.array([0, 0, 1, 5]))

    assert found["shares"] == [0.0, 0.5, 0.25, 0.25, 0.0]


def test_a_column_that_is_mostly_one_value_keeps_increasing_edges():
    found = described("float", np.append(np.zeros(900), np.arange(1, 101.0)))

    assert found["edges"] == sorted(set(found["edges"]))
    assert sum(found["shares"]) == pytest.approx(1)


def test_a_column_without_any_value():
    found = described("float", np.full(3, np.nan))

    assert (found["missing"], found["mean"], found["edges"], found["shares"]) == (1.0, None, [], [0.0])


@given(st.lists(st.floats(allow_infinity=False) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_edges_increase_and_shares_sum_whatever_the_column(values):
    with np.errstate(over="ignore", invalid="ignore"):
        found = described("float", np.array([v if abs(v) < 1e150 else np.nan for v in values]))

    assert all(a < b for a, b in zip(found["edges"], found["edges"][1:], strict=False))
    assert len(found["shares"]) == len(found["edges"]) + 1
    assert sum(found["shares"]) == pytest.approx(0.0 if found["missing"] == 1 else 1.0)


def test_strings_are_counted_by_category():
    found = described("string", np.array(["b", "a", "b", ""], object))

    assert found == {"kind": "categorical", "n": 4, "missing": 0.25, "shares": {"b": 2 / 3, "a": 1 / 3}, "other": 0.0}
    assert described("plain string", np.array(["", "a"], object))["shares"] == {"": 0.5, "a": 0.5}


def test_rare_categories_are_other():
    values = np.array([f"c{n}" for n in range(250)] + ["common"] * 50, object)
    found = described("string", values)

    assert len(found["shares"]) == 200
    assert next(iter(found["shares"])) == "common"
    assert found["other"] == pytest.approx(51 / 300)
    assert sum(found["shares"].values()) + found["other"] == pytest.approx(1)


@pytest.mark.parametrize("values", [np.array([True, False, True]), np.array([1.0, 0.0, 1.0, np.nan])])
def test_bools_are_categories(values):
    found = described("bool", values)

    assert found["shares"] == {"true": 2 / 3, "false": 1 / 3}
    assert found["missing"] == (0.25 if len(values) == 4 else 0)


def test_a_tensor_is_described_by_its_elements_and_its_rows_means():
    values = np.arange(200, dtype=np.float32).reshape(100, 2)
    found = described("tensor", values)

    assert (found["kind"], found["n"], found["mean"], found["min"], found["max"]) == ("tensor", 200, 99.5, 0.0, 199.0)
    assert len(found["edges"]) == 19
    assert len(found["shares"]) == 20
    assert found["shares"] == pytest.approx([0.05] * 20)


def test_a_tensor_of_missing_values_and_of_equal_rows():
    values = np.array([[np.nan, np.nan], [1, np.nan], [1, 1]], np.float32)
    found = described("tensor", values)

    assert found["missing"] == 0.5
    assert found["shares"] == [0.0, 1.0, 0.0]


def test_tensors_of_different_shapes_are_described_all_the_same():
    column = np.empty(3, object)
    for n, row in enumerate([[1.0], [2.0, 4.0], [np.nan]]):
        column[n] = np.array(row)
    found = described("tensor", column)

    assert (found["n"], found["missing"], found["max"]) == (4, 0.25, 4.0)
    assert sum(found["shares"]) == pytest.approx(1)


def test_strings_in_a_tensor_are_categories():
    assert described("words", np.array([["a", "b"], ["a", "a"]], object))["shares"] == {"a": 0.75, "b": 0.25}


def test_scores_of_a_binary_classifier():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.62, 0.38]])
    found = scored(Outputs(4, {"probabilities": p}, ("no", "yes"), np.array([0, 1, 1, 0]), 0.4))["prediction"]

    assert found["kind"] == "classification"
    assert found["class_shares"] == {"no": 0.5, "yes": 0.5}
    assert found["mean_probability"] == pytest.approx({"no": 0.58, "yes": 0.42})
    assert found["score"]["of"] == "probability of yes"
    assert len(found["score"]["shares"]) == 20
    # .1 is in the bin up to and including .1; .4 and .38 share one.
    assert [n for n, share in enumerate(found["score"]["shares"]) if share] == [1, 7, 15]


def test_scores_of_a_multiclass_classifier_are_confidences():
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [np.nan, np.nan, np.nan]])
    found = scored(Outputs(3, {"probabilities": p}, ("a", "b", "c"), np.array([0, 2, 0])))["prediction"]

    assert found["class_shares"] == pytest.approx({"a": 2 / 3, "b": 0, "c": 1 / 3})
    assert found["score"]["of"] == "confidence"
    assert found["mean_probability"]["a"] == pytest.approx(0.55)
    assert sum(found["score"]["shares"]) == 1.0


def test_a_probability_that_is_nan_everywhere_has_no_mean():
    found = scored(Outputs(1, {"probabilities": np.full((1, 2), np.nan)}, ("a", "b"), np.array([0])))

    assert found["prediction"]["mean_probability"] == {"a": None, "b": None}


def test_scores_of_regressors_and_tensor_models():
    arrays = {"prediction": np.arange(30.0), "mask": np.ones((30, 2)), "name": np.array(["x"] * 30, object)}
    found = scored(Outputs(30, arrays))

    assert [found[name]["kind"] for name in arrays] == ["numeric", "tensor", "categorical"]


def test_no_rows_have_a_profile_too():
    assert empty_profile() == {"rows": 0, "inputs": {}, "outputs": {}}
