from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import ArtifactError, InvalidRequest, PredictionFailed
from ekiben.model import CardSpec, InputSpec, ModelSpec, Outputs, OutputSpec
from ekiben.model.outputs import Head, one_tensor
from ekiben.model.runtimes.base import TensorInfo

INPUTS = (InputSpec(name="a", type="float"),)
CARD = CardSpec(owner="o")
BINARY = ModelSpec(name="m", task="binary_classification", labels=("no", "yes"), inputs=INPUTS, card=CARD)
MULTI = ModelSpec(name="m", task="multiclass_classification", labels=("a", "b", "c"), inputs=INPUTS, card=CARD)
REGRESSION = ModelSpec(name="m", task="regression", inputs=INPUTS, card=CARD)
TENSOR = ModelSpec(
    name="m",
    task="tensor",
    inputs=INPUTS,
    card=CARD,
    outputs=(OutputSpec(name="u", dtype="float32"), OutputSpec(name="v", dtype="float32")),
)
LABEL = TensorInfo("label", "int64", (None,))
P2 = TensorInfo("probabilities", "float32", (None, 2))
P3 = TensorInfo("p", "float32", (None, 3))


def head(spec, *given, bound=None, threshold=None):
    return Head(spec, given, bound or {}, threshold)


@pytest.mark.parametrize(
    ("spec", "given", "wanted"),
    [
        (BINARY, (LABEL, P2), "probabilities"),
        (MULTI, (LABEL, P3), "p"),
        (MULTI, (TensorInfo("h", "float32", (None, 7)), P3), "p"),
        (BINARY, (LABEL, TensorInfo("odd", "float32", (None, 1))), "odd"),
        (BINARY, (LABEL, TensorInfo("output_probability", "sequence", ())), "output_probability"),
        (BINARY, (LABEL, TensorInfo("z", "sequence", ())), "z"),
        (BINARY, (LABEL, TensorInfo("z", "map", ())), "z"),
        (REGRESSION, (TensorInfo("variable", "float32", (None, 1)),), "variable"),
    ],
)
def test_the_right_output_of_the_graph_is_found(spec, given, wanted):
    assert head(spec, *given).wanted == (wanted,)


def test_a_binding_decides_where_names_do_not():
    other = TensorInfo("other", "float32", (None, 2))

    assert head(BINARY, P2, other, bound={"probabilities": "other"}).wanted == ("other",)
    assert head(REGRESSION, LABEL, other, bound={"prediction": "other"}).wanted == ("other",)
    assert head(TENSOR, P3, other, bound={"u": "p", "v": "other"}).wanted == ("p", "other")


def test_outputs_that_are_not_there_are_refused():
    with pytest.raises(ArtifactError, match="gives label, none of which can be probabilities"):
        head(BINARY, LABEL)
    with pytest.raises(ArtifactError, match="no output for u ← u; it gives label, p"):
        head(TENSOR, LABEL, P3)


def test_a_single_output_needs_no_name():
    spec = ModelSpec(name="m", task="tensor", inputs=INPUTS, card=CARD, outputs=(OutputSpec(name="u", dtype="float32"),))

    assert head(spec, P3).wanted == ("p",)
    assert head(spec, P3).shape(1, {"p": np.zeros((1, 3))}).rows() == [{"u": [0.0, 0.0, 0.0]}]


@pytest.mark.parametrize(("threshold", "labels"), [(None, ["no", "yes", "yes"]), (0.3, ["yes", "yes", "yes"]), (0.9, ["no", "no", "yes"])])
def test_a_binary_classifier_decides_by_its_threshold(threshold, labels):
    p = np.array([[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]], np.float32)
    outputs = head(BINARY, P2, threshold=threshold).shape(3, {"probabilities": p})

    assert [row["prediction"] for row in outputs.rows()] == labels
    assert outputs.rows()[2] == {
        "prediction": "yes",
        "confidence": p[2, 1].item(),
        "probabilities": {"no": p[2, 0].item(), "yes": p[2, 1].item()},
    }


@pytest.mark.parametrize("p", [np.array([0.25, 0.75]), np.array([[0.25], [0.75]])])
def test_one_probability_a_row_is_that_of_the_positive_label(p):
    outputs = head(BINARY, TensorInfo("probabilities", "float64", (None, 1))).shape(2, {"probabilities": p})

    assert outputs.arrays["probabilities"].tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_a_multiclass_classifier_takes_the_most_probable_label():
    outputs = head(MULTI, P3).shape(2, {"p": np.array([[0.25, 0.5, 0.25], [0.625, 0.25, 0.125]])})

    tensors = outputs.tensors()
    assert list(tensors) == ["prediction", "confidence", "probabilities"]
    assert tensors["prediction"].tolist() == ["b", "a"]
    assert tensors["confidence"].tolist() == [0.5, 0.625]
    assert tensors["probabilities"].dtype == np.float32, "whatever the framework computes in"
    assert outputs.threshold is None


def test_a_regressor_gives_one_number_or_several():
    one = head(REGRESSION, P3)

    assert one.shape(2, {"p": np.array([[1.0], [2.0]])}).rows() == [{"prediction": 1.0}, {"prediction": 2.0}]
    assert one.shape(1, {"p": np.array([1.0])}).tensors()["prediction"].tolist() == [1.0]
    assert one.shape(1, {"p": np.array([[1.0, 2.0]])}).rows() == [{"prediction": [1.0, 2.0]}]


def test_a_tensor_model_s_output_called_prediction_keeps_its_shape():
    spec = ModelSpec(
        name="m", task="tensor", inputs=INPUTS, card=CARD, outputs=(OutputSpec(name="prediction", dtype="float32", shape=(1,)),)
    )

    assert head(spec, P3).shape(2, {"p": np.array([[1.0], [2.0]])}).rows() == [{"prediction": [1.0]}, {"prediction": [2.0]}]


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros(()), np.zeros((1, 2))])
def test_another_number_of_rows_is_a_failed_prediction(array):
    with pytest.raises(PredictionFailed, match=r"for 2 rows; is `batching\.enabled` right"):
        head(REGRESSION, P3).shape(2, {"p": array})


@pytest.mark.parametrize(("spec", "array"), [(MULTI, np.zeros((2, 2))), (MULTI, np.zeros((3, 3))), (BINARY, np.zeros((2, 3)))])
def test_another_number_of_classes_is_a_failed_prediction(spec, array):
    info = TensorInfo("p", "float32", (None, None))
    with pytest.raises(PredictionFailed, match=f"probabilities of shape .* for 2 rows and {len(spec.labels)} labels"):
        head(spec, info).shape(2, {"p": array})


def test_a_nan_fails_none_of_the_rows_beside_it():
    rows = head(MULTI, P3).shape(2, {"p": np.array([[np.nan] * 3, [0.6, 0.3, 0.1]])}).rows()

    assert rows[1]["prediction"] == "a"


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), is_binary=st.booleans())
def test_split_after_join_is_the_identity(sizes, is_binary):
    rng = np.random.default_rng(sum(sizes))
    made = head(BINARY, P2, threshold=0.4) if is_binary else head(TENSOR, TensorInfo("u", "float32", ()), TensorInfo("v", "float32", ()))
    parts = [made.shape(n, {name: rng.random((n, 2)) for name in made.wanted}) for n in sizes]
    joined = Outputs.join(parts)

    start = 0
    for part in parts:
        again = joined.take(start, start + part.n)
        assert again.rows() == part.rows()
        assert (again.labels, again.threshold, again.n) == (part.labels, part.threshold, part.n)
        start += part.n
    assert joined.n == start
    assert joined.rows() == [row for part in parts for row in part.rows()]
    assert joined.rows() is joined.rows()


def test_parts_of_different_shapes_join_to_one_array_a_row():
    parts = [Outputs(2, {"y": np.ones((2, 3))}), Outputs(1, {"y": np.zeros((1, 2))}), Outputs(1, {"y": np.zeros((1, 3, 1))})]

    assert Outputs.join(parts).rows() == [{"y": [1.0] * 3}, {"y": [1.0] * 3}, {"y": [0.0] * 2}, {"y": [[0.0]] * 3}]


def one_array_a_row(*rows):
    array = np.empty(len(rows), object)
    for n, row in enumerate(rows):
        array[n] = np.array(row)
    return array


def test_arrays_a_row_of_one_shape_are_one_tensor():
    array = one_array_a_row([1.0, 2.0], [3.0, 4.0], [5.0])

    assert one_tensor("y", array[:2]).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert one_tensor("y", array[2:]).tolist() == [[5.0]]
    assert one_tensor("y", one_array_a_row(["a"], ["b"])).tolist() == [["a"], ["b"]]


def test_arrays_a_row_of_several_shapes_are_no_tensor_but_rows():
    array = one_array_a_row([1.0, 2.0], [5.0])

    with pytest.raises(InvalidRequest, match=r"output 'y' has another shape for each of these rows \(\[1\] and \[2\]\).* one by one"):
        one_tensor("y", array)
    assert Outputs(2, {"y": array}).rows() == [{"y": [1.0, 2.0]}, {"y": [5.0]}]


@pytest.mark.parametrize("array", [np.array(["a", "b"], object), np.array([], object), np.ones((2, 3))])
def test_what_is_one_tensor_is_not_copied(array):
    assert one_tensor("y", array) is array
