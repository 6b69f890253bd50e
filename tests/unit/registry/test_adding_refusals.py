"""What cannot be served is refused when it is added: with what and why, and nothing is left behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ekiben.errors import EkibenError
from ekiben.registry import FolderRegistry
from ekiben.registry.adding import add_model
from ekiben.registry.model_source import source_of
from ekiben.state import MemoryAliases

F, I64, BF16 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BFLOAT16
node, info = helper.make_node, helper.make_tensor_value_info
X, Y = info("x", F, ["n", 3]), info("y", F, ["n", 3])
NEG = [node("Neg", ["x"], ["y"])]
OPTIONAL = helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(F, ["n", 3])))


def sequence(name):
    return helper.make_tensor_sequence_value_info(name, F, None)


GRAPHS = {
    "bfloat16 input": ([node("Cast", ["x"], ["y"], to=F)], [info("x", BF16, ["n", 3])], [Y],
                       "input 'x' is of the type bfloat16; inputs must be tensors of numbers, bools or strings, of the types float,"),
    "bfloat16 output": ([node("Cast", ["x"], ["y"], to=BF16)], [X], [info("y", BF16, ["n", 3])],
                        "output 'y' is of the type bfloat16; Ekiben serves bool, .*: convert it in the model, or write models/m/model"),
    "bfloat16 where there is no kernel": (
        [node("Cast", ["x"], ["b"], to=BF16), node("Mul", ["b", "b"], ["c"]), node("Cast", ["c"], ["y"], to=F)], [X], [Y],
        r"refuses the file: Could not find an implementation for Mul\(14\)"),
    "int4 output": ([node("Cast", ["x"], ["y"], to=TensorProto.INT4)], [X], [info("y", TensorProto.INT4, ["n", 3])],
                    "output 'y' is of the type int4"),
    "optional output": ([node("Optional", ["x"], ["y"])], [X], [OPTIONAL], "output 'y' is of the type optional"),
    "sequence as input": ([node("SequenceLength", ["x"], ["y"])], [sequence("x")], [info("y", I64, [])],
                          "input 'x' is of the type sequence"),
    "ragged sequence": ([node("SplitToSequence", ["x", "sizes"], ["y"], axis=1)], [X], [sequence("y")],
                        "output 'y' is a sequence of tensors of different shapes, which no one tensor holds"),
    "no input": ([node("Constant", [], ["y"], value_floats=[1.0])], [], [info("y", F, [1])], "takes no input"),
    "input given twice": (NEG, [X, X], [Y], r"Duplicate definition-site for \(x\)"),
    "quotation mark in a name": ([node("Neg", ['a"b'], ["y"])], [info('a"b', F, ["n", 3])], [Y],
                                 "input is called 'a\"b'; a name must be without quotation marks"),
    "random numbers": ([node("RandomNormalLike", ["x"], ["y"])], [X], [Y], "gives other outputs each time it is run on the same row"),
    "custom operator": ([node("Foo", ["x"], ["y"], domain="my.ops")], [X], [Y], "my.ops:Foo.* is not a registered function/op"),
    "rank that changes": ([node("Reshape", ["x", "to"], ["r"]), node("Squeeze", ["r"], ["y"])], [info("x", F, ["a", "b", "c"])],
                          [info("y", F, None)], "fails on made-up rows"),
}  # fmt: skip


@pytest.fixture
def refused(tmp_path):
    def add(file, message, sample=None):
        registry = FolderRegistry(tmp_path / "store", MemoryAliases())
        with pytest.raises(EkibenError, match=message) as found:
            add_model(registry, tmp_path / "models", "m", source_of("onnx", file), sample=sample)
        assert registry.versions() == []
        assert not (tmp_path / "models" / "m").exists()
        assert "\n" not in str(found.value)
        return str(found.value)

    return add


def save(file, nodes, inputs, outputs, *, opset=21, ir=10, weights=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)], ir_version=ir), file
    )
    return file


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(refused, tmp_path, name):
    nodes, inputs, outputs, message = GRAPHS[name]
    sizes = onnx.numpy_helper.from_array(np.array([1, 2]), "sizes")
    to = onnx.numpy_helper.from_array(np.array([5, 7, 11]), "to")

    refused(save(tmp_path / "g.onnx", nodes, inputs, outputs, weights=[sizes, to]), message)


@pytest.mark.parametrize(
    ("versions", "says"),
    [({"ir": 99}, "Unsupported model IR version: 99"), ({"opset": 99}, "Opset 99 is under development")],
)
def test_files_of_the_future(refused, tmp_path, versions, says):
    message = refused(save(tmp_path / "g.onnx", NEG, [X], [Y], **versions), says)

    assert "Export the model with an older opset (and IR version), or install a newer onnxruntime" in message
    assert "/onnxruntime_src" not in message


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x09"])
def test_files_that_are_no_graph(refused, tmp_path, content):
    file = tmp_path / "g.onnx"
    file.write_bytes(content)

    refused(file, r"model\.onnx|g\.onnx")


def test_a_file_that_was_cut_short(refused, tmp_path):
    weights = [onnx.numpy_helper.from_array(np.ones((3, 300), np.float32), "w")]
    file = save(tmp_path / "g.onnx", [node("MatMul", ["x", "w"], ["y"])], [X], [info("y", F, ["n", 300])], weights=weights)
    file.write_bytes(file.read_bytes()[:1000])

    refused(file, "refuses the file")


def test_a_row_that_needs_its_group_and_a_sample_that_says_rows(refused, tmp_path):
    """Eight rows at a time, each of which sees the others: filled up with copies it would be answered wrongly."""
    axes = [onnx.numpy_helper.from_array(np.array([0]), "axes")]
    nodes = [node("ReduceMean", ["x", "axes"], ["m"]), node("Sub", ["x", "m"], ["y"])]
    file = save(tmp_path / "g.onnx", nodes, [info("x", F, [8, 3])], [info("y", F, [8, 3])], weights=axes)
    sample = tmp_path / "rows.json"
    sample.write_text("[[1, 2, 3], [4, 5, 7], [0, 0, 1]]")

    refused(file, "depend on the rows beside it, and the model takes 8 at a time; leave out --sample", sample)


def test_labels_that_do_not_follow_from_the_scores(refused, tmp_path):
    """A decision function: its sign decides, which no threshold at one half finds again."""
    zero = [onnx.numpy_helper.from_array(np.float32(0), "zero"), onnx.numpy_helper.from_array(np.array([1]), "axes")]
    nodes = [
        node("ReduceSum", ["x", "axes"], ["scores"], keepdims=1),
        node("Greater", ["scores", "zero"], ["positive"]),
        node("Cast", ["positive"], ["label"], to=I64),
    ]
    outputs = [info("label", I64, ["n", 1]), info("scores", F, ["n", 1])]
    file = save(tmp_path / "g.onnx", nodes, [X], outputs, weights=zero)
    registry = FolderRegistry(tmp_path / "other", MemoryAliases())

    added = add_model(registry, tmp_path / "models", "free", source_of("onnx", file))
    assert added.version.artifact().spec.task == "tensor"
    assert "'label' does not follow from its 'scores'" in added.notes[0]

    spec = added.spec_file.read_text().replace("task: tensor", "task: binary_classification\nlabels: ['no', 'yes']")
    (tmp_path / "models" / "m").mkdir()
    (tmp_path / "models" / "m" / "model.yaml").write_text(
        spec[: spec.index("outputs:")].replace("name: free", "name: m") + "card:\n  owner: me\n"
    )
    with pytest.raises(EkibenError, match="does not follow from its 'scores'"):
        add_model(registry, tmp_path / "models", "m", source_of("onnx", file))


def test_a_model_yaml_without_the_odd_output_serves_the_others(tmp_path):
    nodes = [*NEG, node("Cast", ["x"], ["b"], to=BF16)]
    file = save(tmp_path / "g.onnx", nodes, [X], [Y, info("b", BF16, ["n", 3])])
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "model.yaml").write_text(
        "name: m\ntask: tensor\ninputs:\n- {name: x, type: tensor, dtype: float32, shape: [3]}\n"
        "outputs:\n- {name: y, dtype: float32, shape: [3]}\ncard:\n  owner: me\n"
    )

    added = add_model(FolderRegistry(tmp_path / "store", MemoryAliases()), tmp_path / "models", "m", source_of("onnx", file))

    assert [o.name for o in added.version.artifact().spec.outputs] == ["y"]
