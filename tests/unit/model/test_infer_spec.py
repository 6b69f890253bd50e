import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from ekiben.errors import ArtifactError, InvalidRows, PredictionFailed
from ekiben.model import Predictor
from ekiben.model.infer_spec import bound_outputs, infer_spec
from ekiben.model.probe import PROBE_ROWS
from ekiben.model.runtimes import open_runtime
from ekiben.model.spec import spec_from_builtins

F, I64, U8, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.STRING
node, info = helper.make_node, helper.make_tensor_value_info


@pytest.fixture
def infer(save_graph):
    def run(nodes, inputs, outputs, weights=(), **known):
        runtime = open_runtime("onnx", save_graph(nodes, inputs, outputs, weights))
        found = infer_spec("m", runtime, **known)
        # Whatever is inferred must be a sound spec that predicts the rows it was inferred from.
        spec_from_builtins(msgspec.to_builtins(found.spec), file="m/model.yaml")
        predictions = Predictor(found.spec, runtime, output_names=found.outputs).predict(found.rows)
        assert len(predictions) == len(found.rows)
        return found

    return run


def double(dtype, shape, out_shape="same"):
    return (
        [node("Add", ["a", "a"], ["c"])],
        [info("a", dtype, shape)],
        [info("c", dtype, shape if out_shape == "same" else out_shape)],
    )


def inputs_of(found):
    return [(i.name, i.type, i.dtype, i.shape) for i in found.spec.inputs]


def outputs_of(found):
    return [(o.name, o.dtype, o.shape) for o in found.spec.outputs]


def test_a_matrix_is_one_tensor_under_its_own_name(infer):
    found = infer(*double(F, ["n", 3]))
    assert inputs_of(found) == [("a", "tensor", "float32", (3,))]
    assert outputs_of(found) == [("c", "float32", (3,))]
    assert found.spec.task == "tensor"
    assert found.spec.batching.enabled
    assert found.notes == ()
    assert len(found.rows) == PROBE_ROWS >= 32


def test_a_matrix_with_a_sample_of_as_many_columns_is_named_floats(infer):
    found = infer(*double(F, ["n", 3]), rows=[{"x": 1, "y": 2.5, "z": None}, {"x": 4, "y": 5, "z": 6}])
    assert inputs_of(found) == [(name, "float", None, None) for name in "xyz"]
    assert [i.nullable for i in found.spec.inputs] == [False, False, True]
    assert found.rows == [{"x": 1, "y": 2.5, "z": None}, {"x": 4, "y": 5, "z": 6}]


def test_a_matrix_whose_width_varies_takes_the_samples_columns(infer):
    assert [name for name, *_ in inputs_of(infer(*double(F, ["n", "f"]), rows=[{"x": 1.0, "y": 2.0}]))] == ["x", "y"]


def test_a_matrix_with_a_sample_of_lists_or_of_its_own_name_stays_a_tensor(infer):
    for rows in ([[1, 2, 3], [4, 5, 6]], [{"a": [1, 2, 3]}]):
        assert inputs_of(infer(*double(F, ["n", 3]), rows=rows)) == [("a", "tensor", "float32", (3,))]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"x": 1, "y": 2}], ArtifactError, r"m: the sample has 2 columns \(x, y\); the model takes 3 in its one input 'a'"),
        ([[1, 2, 3], [1, 2]], InvalidRows, r"row 1, field 'a'.*shape \[3\]"),
        ([{"x": 1, "y": "two", "z": 3}], InvalidRows, r"field 'y': must be a finite number"),
        ([{"x": 1, "y": 1e39, "z": 3}], InvalidRows, r"field 'y'"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(infer, rows, error, message):
    with pytest.raises(error, match=message):
        infer(*double(F, ["n", 3]), rows=rows)


def test_several_inputs_keep_their_odd_names_and_one_value_a_row_is_a_scalar(infer):
    found = infer(
        [node("Mul", ["a:0", "b/x"], ["p"]), node("Add", ["p", "b/x"], ["c.1"])],
        [info("a:0", F, ["n", 3]), info("b/x", F, ["n", 1])],
        [info("c.1", F, ["n", 3])],
    )
    assert inputs_of(found) == [("a:0", "tensor", "float32", (3,)), ("b/x", "float", None, None)]
    assert outputs_of(found) == [("c.1", "float32", (3,))]


def test_a_sample_without_a_column_of_the_graph_is_refused(infer):
    graph = [node("Add", ["a", "b"], ["c"])], [info("a", F, ["n", 1]), info("b", F, ["n", 1])], [info("c", F, ["n", 1])]
    with pytest.raises(ArtifactError, match="the sample has the columns a, x; the model takes a, b"):
        infer(*graph, rows=[{"a": 1.0, "x": 1.0}])


@pytest.mark.parametrize(
    ("dtype", "scalar"),
    [
        (F, ("float", None)),
        (TensorProto.DOUBLE, ("float", "float64")),
        (I64, ("int", None)),
        (TensorProto.INT32, ("int", "int32")),
        (S, ("string", None)),
        (TensorProto.BOOL, ("bool", None)),
    ],
)
@pytest.mark.parametrize("shape", [["n"], ["n", 1]])
def test_scalars_have_the_graphs_type(infer, dtype, scalar, shape):
    found = infer([node("Identity", ["a"], ["c"])], [info("a", dtype, shape)], [info("c", dtype, shape)])
    assert inputs_of(found) == [("a", *scalar, None)]


def test_a_type_that_is_no_scalar_is_a_tensor_of_one(infer):
    found = infer([node("Identity", ["a"], ["c"])], [info("a", U8, ["n"])], [info("c", U8, ["n"])])
    assert inputs_of(found) == [("a", "tensor", "uint8", ())]


def test_strings(infer):
    found = infer([node("Identity", ["a"], ["c"])], [info("a", S, ["n", 2])], [info("c", S, ["n", 2])])
    assert inputs_of(found) == [("a", "tensor", "string", (2,))]
    assert outputs_of(found) == [("c", "string", (2,))]


def test_open_strings_are_mentioned(infer):
    found = infer([node("Identity", ["a"], ["c"])], [info("a", S, ["n", 1])], [info("c", S, ["n", 1])], rows=[{"a": "x"}, {"a": None}])
    assert found.spec.inputs[0].nullable
    assert found.spec.inputs[0].categories is None
    assert any("categories" in note for note in found.notes)


def test_null_where_the_graph_has_none_is_refused(infer):
    graph = [node("Identity", ["a"], ["c"])], [info("a", I64, ["n", 1])], [info("c", I64, ["n", 1])]
    with pytest.raises(ArtifactError, match="column 'a' holds null; the model takes int64 there, which has none"):
        infer(*graph, rows=[{"a": 1}, {"a": None}])


def test_a_fixed_batch_shared_by_all_is_one(infer):
    found = infer(*double(F, [4, 3]))
    assert inputs_of(found) == [("a", "tensor", "float32", (3,))]
    assert found.spec.batching.enabled


def test_scalars_have_no_batch_dimension(infer):
    found = infer([node("Add", ["a", "b"], ["c"])], [info("a", F, []), info("b", F, [])], [info("c", F, [])])
    assert inputs_of(found) == [("a", "tensor", "float32", ()), ("b", "tensor", "float32", ())]
    assert outputs_of(found) == [("c", "float32", ())]
    assert not found.spec.batching.enabled
    assert any("each is run alone" in note for note in found.notes)


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "shapes", "out_shapes"),
    [
        # the output has no first dimension of 4
        ([node("ReduceSum", ["a"], ["c"], keepdims=0)], [info("a", F, [4, 3])], [info("c", F, [])], [(4, 3)], [()]),
        # an input without the dimension
        ([node("Mul", ["a", "w"], ["c"])], [info("a", F, ["n", 3]), info("w", F, [3])], [info("c", F, ["n", 3])],
         [(-1, 3), (3,)], [(-1, 3)]),
        # declared to vary, and the outputs do not follow it
        ([node("Shape", ["a"], ["c"])], [info("a", F, ["n", 3])], [info("c", I64, [2])], [(-1, 3)], [(2,)]),
        # an output whose size depends on the values
        ([node("NonZero", ["a"], ["c"])], [info("a", F, ["n", 3])], [info("c", I64, [2, "k"])], [(-1, 3)], [(2, -1)]),
    ],
)  # fmt: skip
def test_without_a_dimension_that_counts_rows_shapes_are_whole(infer, nodes, inputs, outputs, shapes, *, out_shapes):
    found = infer(nodes, inputs, outputs)
    assert not found.spec.batching.enabled
    assert [i.shape for i in found.spec.inputs] == shapes
    assert [o.shape for o in found.spec.outputs] == out_shapes


SOFTMAX_OVER_ROWS = [node("Softmax", ["a"], ["c"], axis=0)], [info("a", F, ["n", 3])], [info("c", F, ["n", 3])]
MINUS_MEAN = [node("ReduceMean", ["a", "axes"], ["m"]), node("Sub", ["a", "m"], ["c"])]


def test_rows_that_depend_on_their_neighbours_are_taken_whole(infer):
    found = infer(*SOFTMAX_OVER_ROWS)
    assert not found.spec.batching.enabled
    assert inputs_of(found) == [("a", "tensor", "float32", (-1, 3))]
    assert any("each is run alone, its tensors whole" in note for note in found.notes)


def test_rows_that_depend_on_their_neighbours_are_run_one_at_a_time_where_the_sample_says_rows(infer):
    found = infer(*SOFTMAX_OVER_ROWS, rows=[[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
    assert inputs_of(found) == [("a", "tensor", "float32", (3,))]
    assert found.spec.batching.max_batch_size == 1
    assert any("depend on the rows beside it" in note for note in found.notes)


def test_a_fixed_group_whose_rows_depend_on_each_other_is_taken_whole(infer):
    found = infer(MINUS_MEAN, [info("a", F, [8, 3])], [info("c", F, [8, 3])], {"axes": np.array([0])})
    assert not found.spec.batching.enabled
    assert inputs_of(found) == [("a", "tensor", "float32", (8, 3))]


def test_a_fixed_group_whose_rows_depend_on_each_other_is_refused_where_the_sample_says_rows(infer):
    with pytest.raises(ArtifactError, match="depend on the rows beside it, and the model takes 8 at a time; leave out --sample"):
        infer(MINUS_MEAN, [info("a", F, [8, 3])], [info("c", F, [8, 3])], {"axes": np.array([0])}, rows=[[1.0, 2.0, 3.0], [0.0, 1.0, 5.0]])


def test_rounding_to_a_scale_that_rows_share_does_not_make_them_one(infer):
    nodes = [
        node("DynamicQuantizeLinear", ["a"], ["q", "scale", "zero"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["c"]),
    ]
    found = infer(nodes, [info("a", F, ["n", 3])], [info("c", F, ["n", 3])])
    assert found.spec.batching.enabled
    assert found.spec.batching.max_batch_size == 1


def test_a_graph_that_takes_one_row_whatever_it_declares(infer):
    nodes = [node("Reshape", ["a", "to"], ["b"]), node("Neg", ["b"], ["c"])]
    found = infer(nodes, [info("a", F, ["n", 3])], [info("c", F, ["n", 3])], {"to": np.array([1, 3])})
    assert (found.spec.batching.enabled, found.spec.batching.max_batch_size) == (True, 1)
    assert any("takes one row at a time" in note for note in found.notes)


def test_an_input_without_declared_dimensions_has_those_of_the_sample(infer):
    graph = [node("Neg", ["a"], ["c"])], [info("a", F, None)], [info("c", F, None)]
    assert inputs_of(infer(*graph, rows=[[[1.0, 2.0]], [[3.0, 4.0]]])) == [("a", "tensor", "float32", (-1, -1))]
    assert inputs_of(infer(*graph, rows=[{"a": [1.0, 2.0]}])) == [("a", "tensor", "float32", (-1,))]
    assert not infer(*graph).spec.batching.enabled  # a scalar, as far as anyone can tell


def test_rows_whose_outputs_differ_in_shape_are_taken_whole(infer):
    """One at a time they would be rows; no one tensor would hold the answer to several."""
    nodes = [
        node("Greater", ["a", "zero"], ["keep"]),
        node("Compress", ["a", "keep"], ["flat"]),
        node("Reshape", ["flat", "to"], ["c"]),
    ]
    found = infer(nodes, [info("a", F, [1, 6])], [info("c", F, [1, "k"])], {"zero": np.float32(0), "to": np.array([1, -1])})
    assert not found.spec.batching.enabled
    assert inputs_of(found) == [("a", "tensor", "float32", (1, 6))]
    assert outputs_of(found) == [("c", "float32", (1, -1))]


def test_outputs_of_an_odd_rank_or_none_do_not_decide_for_a_fixed_batch(infer):
    values = helper.make_tensor_sequence_value_info("c", F, None)
    found = infer([node("SplitToSequence", ["a"], ["c"], axis=0, keepdims=0)], [info("a", F, [1, 3])], [values])
    assert found.spec.batching.enabled
    assert inputs_of(found) == [("a", "tensor", "float32", (3,))]


def test_a_dimension_of_no_elements_is_told(infer):
    found = infer(
        [node("Slice", ["a", "zero", "zero", "one"], ["c"])],
        [info("a", F, ["n", 3])],
        [info("c", F, ["n", 0])],
        {"zero": np.array([0]), "one": np.array([1])},
    )
    assert outputs_of(found) == [("c", "float32", (0,))]


ZIPMAP = helper.make_value_info("p", helper.make_sequence_type_proto(helper.make_map_type_proto(S, helper.make_tensor_type_proto(F, []))))


def test_the_keys_of_maps_are_the_classes(save_graph):
    file = save_graph(
        [
            node("Softmax", ["a"], ["s"], axis=1),
            node("ArgMax", ["s"], ["i"], axis=1, keepdims=0),
            node("Gather", ["names", "i"], ["label"]),
            node("ZipMap", ["s"], ["p"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "never"]),
        ],
        [info("a", F, ["n", 3])],
        [info("label", S, ["n"]), ZIPMAP],
        {"names": np.array(["a", "b", "never"], object)},
        domains=[("ai.onnx.ml", 3)],
    )
    rows = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]  # the third class is never seen
    found = infer_spec("m", open_runtime("onnx", file), rows=rows)
    assert (found.spec.task, found.spec.labels) == ("multiclass_classification", ("a", "b", "never"))


def test_a_pointer_over_positions_is_no_classifier(infer):
    """A label beside shares that sum to one, but there are as many as the input is long."""
    nodes = [node("Softmax", ["a"], ["p"], axis=1), node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)]
    found = infer(nodes, [info("a", F, ["n", "s"])], [info("label", I64, ["n"]), info("p", F, ["n", "s"])])
    assert found.spec.task == "tensor"
    assert outputs_of(found) == [("label", "int64", ()), ("p", "float32", (-1,))]


@pytest.mark.parametrize(
    ("spec_part", "bound"),
    [
        ({"task": "binary_classification", "labels": ("no", "yes")}, {"probabilities": "my_probs"}),
        ({"task": "regression", "labels": ()}, {"prediction": "number"}),
        ({"task": "tensor", "labels": ()}, {}),
    ],
)
def test_a_spec_that_is_there_is_bound_to_the_same_outputs_as_one_inferred(save_graph, spec_part, bound):
    file = save_graph(
        [node("Neg", ["a"], ["logits"]), node("Softmax", ["a"], ["my_probs"], axis=1), node("ReduceSum", ["a", "axes"], ["number"])],
        [info("a", F, ["n", 2])],
        [info("logits", F, ["n", 2]), info("my_probs", F, ["n", 2]), info("number", F, ["n", 1])],
        {"axes": np.array([1])},
    )
    runtime = open_runtime("onnx", file)
    spec = msgspec.structs.replace(infer_spec("m", runtime).spec, **spec_part)
    assert bound_outputs(spec, runtime, None) == bound


def test_shapes_that_vary_or_are_not_declared(infer):
    assert outputs_of(infer(*double(I64, ["n", "s"]))) == [("c", "int64", (-1,))]
    runtime_knows = [node("Compress", ["a", "keep"], ["c"], axis=1)]
    found = infer(runtime_knows, [info("a", F, ["n", 3])], [info("c", F, None)], {"keep": np.array([True, False, True])})
    assert outputs_of(found) == [("c", "float32", (-1,))]


def test_a_declared_shape_that_is_wrong_is_corrected(infer, save_graph, tmp_path):
    nodes, inputs, outputs = [node("Compress", ["a", "keep"], ["c"], axis=1)], [info("a", F, ["n", 3])], [info("c", F, ["n", 7])]
    assert outputs_of(infer(nodes, inputs, outputs, {"keep": np.array([True, False, True])})) == [("c", "float32", (2,))]


def test_integers_that_index_a_table_stay_inside_it(infer):
    graph = [node("Gather", ["table", "a"], ["c"])], [info("a", I64, ["n", 5])], [info("c", F, ["n", 5, 4])]
    found = infer(*graph, {"table": np.eye(2, 4, dtype=np.float32)})
    assert {v for row in found.rows for v in row["a"]} == {0, 1}
    assert outputs_of(found) == [("c", "float32", (5, 4))]


def test_sequences_are_learnt_by_running(infer):
    values = helper.make_tensor_sequence_value_info("c", F, None)
    found = infer([node("SplitToSequence", ["a"], ["c"], axis=0, keepdims=0)], [info("a", F, ["n", 3])], [values])
    assert outputs_of(found) == [("c", "float32", (3,))]
    assert found.spec.batching.enabled


def test_a_model_that_takes_no_made_up_row_asks_for_a_sample(infer):
    reshape = [node("Reshape", ["a", "to"], ["c"])]
    with pytest.raises(ArtifactError, match=r"fails on made-up rows; give a sample of real ones \(--sample\)"):
        infer(reshape, [info("a", F, ["n", "s"])], [info("c", F, ["n", 7, 11])], {"to": np.array([-1, 7, 11])})


def test_a_model_that_fails_on_the_sample_says_so(infer):
    reshape = [node("Reshape", ["a", "to"], ["c"])]
    with pytest.raises(PredictionFailed, match="ONNX Runtime failed"):
        infer(reshape, [info("a", F, ["n", "s"])], [info("c", F, ["n", 7, 11])], {"to": np.array([-1, 7, 11])}, rows=[[1.0, 2.0]])


def test_the_same_model_gives_the_same_rows(infer):
    assert infer(*double(F, ["n", 3])).rows == infer(*double(F, ["n", 3])).rows


def test_rows_of_a_sample_with_varying_shapes_are_those_that_fit_one_request(infer):
    found = infer(*double(F, ["n", "s"]), rows=[[1, 2], [1, 2, 3], [3, 4]])
    assert found.rows == [[1, 2], [3, 4]]


def test_outputs_whose_shape_differs_from_row_to_row(infer):
    # Without a dimension that counts rows, the length of the output follows the values.
    found = infer(
        [node("Compress", ["a", "a_is_large"], ["c"]), node("Greater", ["a", "zero"], ["a_is_large"])][::-1],
        [info("a", F, [4])],
        [info("c", F, ["k"])],
        {"zero": np.float32(0)},
    )
    assert outputs_of(found) == [("c", "float32", (-1,))]
    assert not found.spec.batching.enabled


def test_an_output_nobody_can_receive_is_refused(infer):
    graph = [node("Cast", ["a"], ["c"], to=TensorProto.BFLOAT16)], [info("a", F, ["n", 3])], [info("c", TensorProto.BFLOAT16, ["n", 3])]
    with pytest.raises(ArtifactError, match="output 'c' is of the type bfloat16; Ekiben serves bool, uint8"):
        infer(*graph)
