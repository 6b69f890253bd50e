"""Graphs of every kind, through the runtime and the predictor."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec, Predictor
from ekiben.model.runtimes.base import TensorInfo
from ekiben.model.runtimes.onnx import OnnxRuntime, _as_array
from ekiben.model.spec import BatchingSpec

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
CARD = CardSpec(owner="o")
info = helper.make_tensor_value_info
node = helper.make_node


def floats(*names, **more):
    return tuple(InputSpec(name=name, type="float", **more) for name in names)


def tensor_spec(inputs, *outputs, **more):
    return ModelSpec(
        name="m", task="tensor", inputs=inputs, outputs=tuple(OutputSpec(name=o, dtype="float32") for o in outputs), card=CARD, **more
    )


def test_names_types_and_shapes_are_those_of_the_graph(save_graph):
    file = save_graph(
        [node("Add", ["x", "x"], ["y"]), node("Identity", ["s"], ["t"])],
        [info("x", FLOAT, ["n", 2]), info("s", STRING, [3, None])],
        [info("y", FLOAT, ["n", 2]), info("t", STRING, [3, None])],
    )
    runtime = OnnxRuntime(file)

    assert runtime.inputs == (TensorInfo("x", "float32", (None, 2)), TensorInfo("s", "object", (3, None)))
    assert [o.name for o in runtime.outputs] == ["y", "t"]
    assert runtime.device == "CPU"


def test_one_thread_and_no_spinning(save_graph):
    file = save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, ["n"])], [info("y", FLOAT, ["n"])])
    options = OnnxRuntime(file)._session.get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("providers", [(), ("CPUExecutionProvider",), ("NoSuchExecutionProvider",)])
def test_the_cpu_is_always_behind_what_is_asked_for(save_graph, providers):
    file = save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, ["n"])], [info("y", FLOAT, ["n"])])

    assert OnnxRuntime(file, providers)._session.get_providers()[-1] == "CPUExecutionProvider"


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"nonsense")

    with pytest.raises(ArtifactError, match=r"broken\.onnx: ONNX Runtime .* refuses the file"):
        OnnxRuntime(file)


def test_an_input_that_is_no_tensor_is_refused(save_graph):
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, ["n"])
    file = save_graph([node("SequenceLength", ["x"], ["y"])], [sequence], [info("y", INT64, [])])

    with pytest.raises(ArtifactError, match="input 'x' is of the type sequence; inputs must be tensors"):
        OnnxRuntime(file)


def test_a_run_that_fails_says_so_in_one_line(save_graph):
    file = save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, ["n", 2])], [info("y", FLOAT, ["n", 2])])

    with pytest.raises(PredictionFailed, match=r"ONNX Runtime failed: [^\n]*$"):
        OnnxRuntime(file).run({"x": np.zeros((1, 3), np.float32)}, ["y"])


# ── through the predictor ────────────────────────────────────────────────────────────────────────────────────────────


def test_several_inputs_of_several_types(save_graph):
    file = save_graph(
        [
            node("Cast", ["k"], ["kf"], to=FLOAT),
            node("Mul", ["a", "kf"], ["p"]),
            node("ReduceSum", ["img", "axes"], ["s"], keepdims=1),
            node("Add", ["p", "s"], ["y"]),
        ],
        [info("img", FLOAT, ["n", 2]), info("a", FLOAT, ["n", 1]), info("k", INT64, ["n", 1])],
        [info("y", FLOAT, ["n", 1])],
        {"axes": np.array([1], np.int64)},
    )
    inputs = (
        InputSpec(name="k", type="int"),
        InputSpec(name="a", type="float"),
        InputSpec(name="img", type="tensor", dtype="float32", shape=(2,)),
    )
    predictor = Predictor(ModelSpec(name="m", task="regression", inputs=inputs, card=CARD), OnnxRuntime(file))

    assert predictor.predict([{"k": 2, "a": 1.5, "img": [1, 2]}, [0, 9, [3, 4]]]) == [{"prediction": 6.0}, {"prediction": 7.0}]


def test_inputs_that_do_not_match_the_spec_are_refused(save_graph):
    file = save_graph([node("Add", ["a", "b"], ["y"])], [info("a", FLOAT, ["n"]), info("b", FLOAT, ["n"])], [info("y", FLOAT, ["n"])])
    runtime = OnnxRuntime(file)

    with pytest.raises(ArtifactError, match="the model takes a, b, the spec gives a, c; 'c' has no partner"):
        Predictor(tensor_spec(floats("a", "c"), "y"), runtime)
    with pytest.raises(ArtifactError, match="'b' has no partner"):
        Predictor(tensor_spec(floats("a"), "y"), runtime)
    assert Predictor(tensor_spec(floats("a", "c"), "y"), runtime, input_names={"c": "b"}).predict([[1, 2]]) == [{"y": 3.0}]


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_a_fixed_batch_dimension_is_padded(save_graph, rows):
    # Each row minus the mean of its own values: a padding row must not show.
    file = save_graph(
        [node("ReduceMean", ["x", "axes"], ["m"]), node("Sub", ["x", "m"], ["y"])],
        [info("x", FLOAT, [4, 2])],
        [info("y", FLOAT, [4, 2])],
        {"axes": np.array([1], np.int64)},
    )
    spec = tensor_spec((InputSpec(name="x", type="tensor", dtype="float32", shape=(2,)),), "y")

    found = Predictor(spec, OnnxRuntime(file)).predict([[n, n + 2] for n in range(rows)])

    assert found == [{"y": [-1.0, 1.0]}] * rows


def test_fixed_batch_dimensions_that_differ_are_refused(save_graph):
    file = save_graph(
        [node("Neg", ["a"], ["y"]), node("Neg", ["b"], ["z"])],
        [info("a", FLOAT, [4]), info("b", FLOAT, ["n"])],
        [info("y", FLOAT, [4]), info("z", FLOAT, ["n"])],
    )

    with pytest.raises(ArtifactError, match=r"different fixed batch dimensions \['4', 'None'\]; set batching\.enabled: false"):
        Predictor(tensor_spec(floats("a", "b"), "y", "z"), OnnxRuntime(file))


def test_a_model_without_a_batch_dimension_runs_row_by_row(save_graph):
    file = save_graph(
        [node("Mul", ["v", "k"], ["w"]), node("ReduceSum", ["w"], ["total"], keepdims=0)],
        [info("v", FLOAT, [3]), info("k", FLOAT, [])],
        [info("w", FLOAT, [3]), info("total", FLOAT, [])],
    )
    inputs = (InputSpec(name="v", type="tensor", dtype="float32", shape=(3,)), *floats("k"))
    spec = tensor_spec(inputs, "w", "total", batching=BatchingSpec(enabled=False))

    found = Predictor(spec, OnnxRuntime(file)).predict([[[1, 2, 3], 2], [[0, 1, 0], -1]])

    assert found == [{"w": [2.0, 4.0, 6.0], "total": 12.0}, {"w": [0.0, -1.0, 0.0], "total": -1.0}]


@pytest.mark.parametrize("shape", [[1], []])
def test_one_number_a_run(save_graph, shape):
    file = save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, shape)], [info("y", FLOAT, shape)])
    spec = ModelSpec(name="m", task="regression", inputs=floats("value"), card=CARD, batching=BatchingSpec(enabled=False))

    assert Predictor(spec, OnnxRuntime(file)).predict([[1], [2]]) == [{"prediction": -1.0}, {"prediction": -2.0}]


def test_a_row_of_scalars_as_one_vector_without_a_batch_dimension(save_graph):
    file = save_graph([node("ReduceSum", ["x"], ["y"], keepdims=0)], [info("x", FLOAT, [3])], [info("y", FLOAT, [])])
    spec = ModelSpec(name="m", task="regression", inputs=floats("a", "b", "c"), card=CARD, batching=BatchingSpec(enabled=False))

    assert Predictor(spec, OnnxRuntime(file)).predict([[1, 2, 3], [4, 5, 6]]) == [{"prediction": 6.0}, {"prediction": 15.0}]


@pytest.mark.parametrize("shape", [["n"], ["n", 1]])
def test_strings(save_graph, shape):
    labels = {"keys_strings": ["x", "ü", ""], "values_floats": [1.0, 2.0, 7.0], "default_float": -1.0}
    file = save_graph(
        [node("LabelEncoder", ["s"], ["y"], domain="ai.onnx.ml", **labels)],
        [info("s", STRING, shape)],
        [info("y", FLOAT, shape)],
        domains=[("ai.onnx.ml", 3)],
    )
    item = InputSpec(name="s", type="string", nullable=True)
    predictor = Predictor(ModelSpec(name="m", task="regression", inputs=(item,), card=CARD), OnnxRuntime(file))

    found = predictor.predict([["x"], ["ü"], [None], ["else"]])

    assert [row["prediction"] for row in found] == [1.0, 2.0, 7.0, -1.0]


@pytest.mark.parametrize("keys", [{"classlabels_strings": ["no", "yes"]}, {"classlabels_int64s": [0, 1]}])
def test_a_sequence_of_maps_is_a_matrix(save_graph, keys):
    kind = FLOAT
    key_kind = STRING if "classlabels_strings" in keys else INT64
    maps = helper.make_value_info(
        "output_probability",
        helper.make_sequence_type_proto(helper.make_map_type_proto(key_kind, helper.make_tensor_type_proto(kind, []))),
    )
    file = save_graph(
        [
            node("Sub", ["one", "x"], ["rest"]),
            node("Concat", ["rest", "x"], ["p"], axis=1),
            node("ZipMap", ["p"], ["output_probability"], domain="ai.onnx.ml", **keys),
        ],
        [info("x", FLOAT, ["n", 1])],
        [maps],
        {"one": np.float32(1)},
        domains=[("ai.onnx.ml", 3)],
    )
    spec = ModelSpec(name="m", task="binary_classification", labels=("no", "yes"), inputs=floats("x"), card=CARD)

    found = Predictor(spec, OnnxRuntime(file)).predict([[0.25], [0.75]])

    assert [row["probabilities"] for row in found] == [{"no": 0.75, "yes": 0.25}, {"no": 0.25, "yes": 0.75}]


def test_a_sequence_of_tensors_is_stacked(save_graph):
    file = save_graph(
        [node("SplitToSequence", ["x"], ["parts"], axis=0, keepdims=0)],
        [info("x", FLOAT, ["n", 2])],
        [helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
    )
    spec = tensor_spec((InputSpec(name="x", type="tensor", dtype="float32", shape=(2,)),), "parts")

    assert Predictor(spec, OnnxRuntime(file)).predict([[1, 2], [3, 4]]) == [{"parts": [1.0, 2.0]}, {"parts": [3.0, 4.0]}]


def test_a_sequence_of_tensors_of_different_shapes_keeps_them(save_graph):
    file = save_graph(
        [node("SplitToSequence", ["x", "sizes"], ["parts"], axis=0)],
        [info("x", FLOAT, [3])],
        [helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
        {"sizes": np.array([1, 2], np.int64)},
    )

    (parts,) = OnnxRuntime(file).run({"x": np.array([1, 2, 3], np.float32)}, ["parts"]).values()

    assert [part.tolist() for part in parts] == [[1.0], [2.0, 3.0]]


@pytest.fixture
def mapped(save_graph):
    """A runtime whose session gives what a test says: no operator of ONNX Runtime gives one map, or maps whose keys change."""
    file = save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, ["n"])], [info("y", FLOAT, ["n"])])

    class Session:
        values = ()

        def run(self, outputs, feeds):
            return list(self.values)

    runtime = OnnxRuntime(file)
    runtime._session = Session()

    def run(value):
        runtime._session.values = [value]
        return runtime.run({}, ["y"])["y"]

    run.runtime = runtime
    return run


def test_a_map_is_its_values_by_sorted_key(mapped):
    assert mapped({"b": 2.0, "a": 1.0}).tolist() == [1.0, 2.0]
    assert mapped.runtime.keys == {"y": ("a", "b")}
    assert mapped([{"b": 2.0, "a": 1.0}, {"a": 3.0, "b": 4.0}]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("later", [{"a": 1.0}, {"a": 1.0, "c": 2.0}, {"a": 1.0, "b": 2.0, "c": 3.0}])
def test_maps_whose_keys_change_are_no_columns(mapped, later):
    mapped([{"a": 1.0, "b": 2.0}])

    with pytest.raises(PredictionFailed, match="output 'y' is a map whose keys change from row to row"):
        mapped([{"a": 1.0, "b": 2.0}, later])


def test_what_is_no_array_becomes_one():
    assert _as_array(np.float32(3)).shape == ()
    assert _as_array([]).shape == (0,)


def test_an_output_listed_twice_is_one(save_graph):
    y = info("y", FLOAT, ["n"])

    assert [o.name for o in OnnxRuntime(save_graph([node("Neg", ["x"], ["y"])], [info("x", FLOAT, ["n"])], [y, y])).outputs] == ["y"]


def test_types_that_are_no_tensors_are_told_by_their_kind(save_graph):
    optional = helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n"])))
    sequence = helper.make_tensor_sequence_value_info("z", FLOAT, None)
    file = save_graph(
        [node("Optional", ["x"], ["y"]), node("SequenceConstruct", ["x"], ["z"])], [info("x", FLOAT, ["n"])], [optional, sequence]
    )

    assert [o.dtype for o in OnnxRuntime(file).outputs] == ["optional", "sequence"]


def test_one_string_a_run_keeps_its_null_characters(save_graph):
    file = save_graph([node("Identity", ["s"], ["t"])], [info("s", STRING, [])], [info("t", STRING, [])])
    item = InputSpec(name="s", type="tensor", dtype="string", shape=())
    spec = tensor_spec((item,), "t", batching=BatchingSpec(enabled=False))

    assert Predictor(spec, OnnxRuntime(file)).predict(["a\0b", "é"]) == [{"t": "a\0b"}, {"t": "é"}]


@pytest.mark.parametrize("names", [("input.1", "x:0"), ("class", "a b"), ("def", "é")])
def test_odd_names(save_graph, names):
    first, second = names
    file = save_graph(
        [node("Sub", [first, second], ["out:0"])],
        [info(first, FLOAT, ["n"]), info(second, FLOAT, ["n"])],
        [info("out:0", FLOAT, ["n"])],
    )
    predictor = Predictor(tensor_spec(floats(*names), "out:0"), OnnxRuntime(file))

    assert predictor.predict([{second: 1, first: 3}, [5, 1]]) == [{"out:0": 2.0}, {"out:0": 4.0}]


def test_one_matrix_whatever_its_name(save_graph):
    file = save_graph([node("Gemm", ["float_input", "w"], ["variable"])], [info("float_input", TensorProto.DOUBLE, ["n", 2])],
                      [info("variable", TensorProto.DOUBLE, ["n", 1])], {"w": np.array([[1.0], [10.0]])})  # fmt: skip
    mixed = (InputSpec(name="f", type="float"), InputSpec(name="i", type="int"))
    spec = ModelSpec(name="m", task="regression", inputs=mixed, card=CARD)

    assert Predictor(spec, OnnxRuntime(file)).predict([[1, 2], [3, 4]]) == [{"prediction": 21.0}, {"prediction": 43.0}]
