import numpy as np
import pyarrow as pa
import pytest

from ekiben.model.spec import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.monitoring.log_columns import LogColumn, categories, elements, is_list, is_text, log_columns, n_elements, numbers


def column(values, kind=None, type_="float"):
    return LogColumn("x", "input", type_, pa.chunked_array([pa.array(part, kind) for part in values]))


def spec(task="tensor", **kwargs):
    inputs = (InputSpec(name="a", type="float"), InputSpec(name="b", type="string"))
    return ModelSpec(name="m", task=task, inputs=inputs, card=CardSpec(owner="tests"), **kwargs)


def test_numbers_of_every_kind_with_missing_ones():
    assert numbers(column([[1, None], [3]], pa.int64())).tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert numbers(column([[1.5, None]], pa.float32())).tolist() == pytest.approx([1.5, np.nan], nan_ok=True)
    assert numbers(column([[]], pa.float32())).tolist() == []
    assert numbers(column([[2**60 + 1]], pa.int64())).tolist() == [2.0**60]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_of_a_tensor_the_mean_of_what_is_there(kind):
    tensors = column([[[1, 3], [None, 4]], [[float("inf"), float("nan")]]], kind, "tensor")
    assert is_list(tensors)
    assert numbers(tensors).tolist() == pytest.approx([2, 4, np.nan], nan_ok=True)
    assert len(elements(tensors)) == n_elements(tensors) == 6


def test_tensors_of_any_length_and_missing_ones():
    tensors = column([[[1, 2, 3], [], None, [5]]], pa.list_(pa.uint8()), "tensor")
    assert numbers(tensors).tolist() == pytest.approx([2, np.nan, np.nan, 5], nan_ok=True)
    assert elements(tensors).tolist() == [1, 2, 3, 5]
    assert numbers(column([[[True, False]]], pa.list_(pa.bool_()), "tensor")).tolist() == [0.5]


def counted(found):
    names, counts = categories(found)
    return dict(zip(names.to_pylist(), counts.tolist(), strict=True))


def test_categories_are_counted_over_chunks_without_missing_ones():
    assert counted(column([["x", None], ["y", "x"]], pa.string())) == {"x": 2, "y": 1}
    assert counted(column([[True, False, None, True]], pa.bool_())) == {"true": 2, "false": 1}
    assert counted(column([[["x", "y"], ["x"]]], pa.list_(pa.string()))) == {"x": 2, "y": 1}
    assert n_elements(column([["x", None]], pa.string())) == 2


def test_what_is_text():
    assert is_text(column([["x"]], pa.string()))
    assert is_text(column([[True]], pa.bool_()))
    assert is_text(column([[["x"]]], pa.list_(pa.string())))
    assert not is_text(column([[1]], pa.int8()))
    assert not is_text(column([[[True]]], pa.list_(pa.bool_())))


def test_columns_by_task():
    features = pa.StructArray.from_arrays([pa.array([1.0])], ["a"])
    outputs = pa.StructArray.from_arrays([pa.array([0.5]), pa.array(["yes"]), pa.array([[1.0, 2.0]])], ["score", "prediction", "grid"])
    table = pa.table({"features": features, "outputs": outputs})
    classifier = spec("binary_classification", labels=("no", "yes"))
    assert [(c.name, c.kind, c.type) for c in log_columns(table, classifier)] == [
        ("a", "input", "float"),
        ("score", "score", "float"),
        ("prediction", "class", "string"),
    ]
    assert [(c.name, c.kind) for c in log_columns(table, spec("regression"))] == [("a", "input"), ("prediction", "score")]
    tensor = spec(outputs=(OutputSpec(name="grid", dtype="float32", shape=(2,)), OutputSpec(name="score", dtype="float32")))
    assert [(c.name, c.kind, c.type) for c in log_columns(table, tensor)][1:] == [("grid", "score", "tensor"), ("score", "score", "float")]
    assert list(log_columns(table.select([]), classifier)) == []


def test_a_struct_that_is_missing_is_a_missing_value():
    features = pa.array([{"a": 1.0}, None], pa.struct([("a", pa.float64())]))
    (found,) = log_columns(pa.table({"features": features}), spec())
    assert numbers(found).tolist() == pytest.approx([1, np.nan], nan_ok=True)
