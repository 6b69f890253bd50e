import pytest

from ekiben.errors import ArtifactError
from ekiben.model import InputSpec
from ekiben.model.infer_inputs import columns_of, completed, graph_inputs, table_inputs
from ekiben.model.runtimes import TensorInfo


def test_a_column_has_the_type_of_its_values():
    rows = [
        {"flag": True, "count": 1, "price": 1, "word": "a", "pixels": [[1.5, 2.0]], "maybe": None, "words": ["a", "b"]},
        {"flag": False, "count": 2, "price": 2.5, "word": "b", "pixels": [[3.5, 4.0]], "maybe": 3, "words": ["c", "d"]},
    ]
    assert table_inputs("m", (), rows) == (
        InputSpec(name="flag", type="bool"),
        InputSpec(name="count", type="int"),
        InputSpec(name="price", type="float", dtype="float64"),
        InputSpec(name="word", type="string"),
        InputSpec(name="pixels", type="tensor", dtype="float64", shape=(1, 2)),
        InputSpec(name="maybe", type="int", nullable=True),
        InputSpec(name="words", type="tensor", dtype="string", shape=(2,)),
    )


def test_a_field_left_out_is_null():
    assert [i.nullable for i in table_inputs("m", (), [{"a": 1.0}, {"a": 2.0, "b": 1.0}])] == [False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "a"], "values of the types int, str"),
        ([None, None], "nothing but null"),
        ([True, 1], "values of the types bool, int"),
        ([[1], [1, 2]], "values of the types list"),
        ([{"x": 1}], "values of the types dict"),
    ],
)
def test_a_column_of_no_single_type_is_refused(values, message):
    with pytest.raises(ArtifactError, match=f"m: the sample's column 'a' holds {message}"):
        table_inputs("m", (), [{"a": value} for value in values])


def test_columns_are_in_the_models_order():
    found = table_inputs("m", ("b", "a"), [{"a": 1, "b": "x"}])
    assert [(i.name, i.type) for i in found] == [("b", "string"), ("a", "int")]
    listed = table_inputs("m", ("b", "a"), [["x", 1]])
    assert [(i.name, i.type) for i in listed] == [("b", "string"), ("a", "int")]


def test_other_columns_than_the_models_are_refused():
    with pytest.raises(ArtifactError, match="the sample has the columns a, c; the model takes a, b"):
        table_inputs("m", ("a", "b"), [{"a": 1, "c": 1}])
    with pytest.raises(ArtifactError, match="rows have 3 values; the model takes 2: a, b"):
        table_inputs("m", ("a", "b"), [[1, 2, 3]])
    with pytest.raises(ArtifactError, match="rows have 1 values"):
        table_inputs("m", ("a", "b"), [5])


def test_many_columns_are_not_all_listed():
    with pytest.raises(ArtifactError, match=r"c11 … \(40 in all\)"):
        table_inputs("m", [f"c{n}" for n in range(40)], [{"a": 1}])


def test_columns_are_found_in_all_rows():
    assert columns_of([{"a": 1}, {"b": 1, "a": 2}, [1]]) == ["a", "b"]
    assert columns_of([[1], [2]]) == []


def test_a_type_nobody_can_send_is_refused():
    with pytest.raises(ArtifactError, match="input 'z' is of type complex64; Ekiben serves bool, uint8"):
        graph_inputs("m", [TensorInfo("z", "complex64", (None, 3))], None, is_batched=True)


def test_null_elements_of_a_float_tensor_are_allowed():
    graph = [TensorInfo("z", "float32", (None, 2))]
    assert graph_inputs("m", graph, [[1.0, None]], is_batched=True)[0].nullable
    assert not graph_inputs("m", graph, [[1.0, 2.0]], is_batched=True)[0].nullable


def test_what_a_graph_does_not_declare_is_seen_in_the_sample():
    open_input, scalar, known = TensorInfo("a", "float32", ()), TensorInfo("b", "float32", ()), TensorInfo("c", "float32", (None, 2))
    rows = [{"a": [[1.0, 2.0]], "b": 1.0, "c": [1.0, 2.0]}]
    assert completed([open_input, scalar, known], rows, is_batched=False) == (TensorInfo("a", "float32", (None, None)), scalar, known)
    assert completed([open_input], [[1.0, 2.0]], is_batched=True) == (TensorInfo("a", "float32", (None, None)),)
    assert completed([open_input, scalar], [[[1.0], 2.0]], is_batched=True) == (TensorInfo("a", "float32", (None, None)), scalar)
    assert completed([open_input], [], is_batched=True) == (open_input,)
    assert completed([open_input], [[]], is_batched=False) == (TensorInfo("a", "float32", (None,)),)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_name_that_needs_escapes_is_refused(name):
    with pytest.raises(ArtifactError, match="must be without quotation marks, backslashes and control characters"):
        graph_inputs("m", [TensorInfo(name, "float32", (None, 2))], None, is_batched=True)
