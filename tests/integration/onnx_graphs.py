"""Real ONNX files with every oddity that people's models have, made in milliseconds (two by exporters, in seconds)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
info, node = helper.make_tensor_value_info, helper.make_node
ML = ("ai.onnx.ml", 3)
ODD_NAMES = ("input.1", "x:0", "a/b", "with space", "é日本🍱", "class", "no", "l" * 300)
TYPES = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FLOAT16", "FLOAT", "DOUBLE", "STRING")
X3 = info("x", F, ["n", 3])
Y3 = info("y", F, ["n", 3])


def save(
    file: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Any = (),
    *,
    opset: int = 20,
    ir: int = 9,
    domains: Sequence[tuple[str, int]] = (),
) -> Path:
    """Saves a graph without checking it."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(weights).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*domain) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), file)
    return file


def _several(file: Path) -> Path:
    nodes = [node("Mul", ["a", "b"], ["y"]), node("Add", ["k", "k"], ["z"])]
    return save(file, nodes, [info("a", F, ["n", 3]), info("b", F, ["n", 1]), info("k", I64, ["n"])], [Y3, info("z", I64, ["n"])])


def _odd_names(file: Path) -> Path:
    nodes = [node("Sum", list(ODD_NAMES), ["the sum/1"]), node("Sub", [ODD_NAMES[0], ODD_NAMES[4]], ["out:0"])]
    return save(file, nodes, [info(name, F, ["n"]) for name in ODD_NAMES], [info("out:0", F, ["n"]), info("the sum/1", F, ["n"])])


def _fixed(rows: int) -> Callable[[Path], Path]:
    weights = {"w": np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)}
    return lambda file: save(file, [node("MatMul", ["x", "w"], ["y"])], [info("x", F, [rows, 3])], [info("y", F, [rows, 2])], weights)


def _eight_mixed(file: Path) -> Path:
    nodes = [node("ReduceMean", ["x", "axes"], ["m"]), node("Sub", ["x", "m"], ["y"])]
    return save(file, nodes, [info("x", F, [8, 3])], [info("y", F, [8, 3])], {"axes": np.array([0])})


def _parameter(file: Path) -> Path:
    return save(file, [node("Mul", ["x", "factor"], ["y"])], [X3, info("factor", F, [])], [Y3])


def _scalars(file: Path) -> Path:
    nodes = [node("Neg", ["a"], ["y"]), node("Identity", ["s"], ["t"])]
    return save(file, nodes, [info("a", F, []), info("s", S, [])], [info("y", F, []), info("t", S, [])])


def _suppression(file: Path) -> Path:
    nodes = [
        node("Greater", ["scores", "zero"], ["good"]),
        node("Compress", ["boxes", "good"], ["kept"], axis=0),
        node("Cast", ["good"], ["ones"], to=I64),
        node("ReduceSum", ["ones"], ["count"], keepdims=0),
    ]
    inputs = [info("boxes", F, ["n", 4]), info("scores", F, ["n"])]
    return save(file, nodes, inputs, [info("kept", F, ["k", 4]), info("count", I64, [])], {"zero": np.float32(0)})


def _sequence(file: Path) -> Path:
    nodes = [node("Neg", ["x"], ["m"]), node("SequenceConstruct", ["x", "m"], ["y"])]
    return save(file, nodes, [X3], [helper.make_tensor_sequence_value_info("y", F, None)])


def _row_sequence(file: Path) -> Path:
    nodes = [node("SplitToSequence", ["x"], ["y"], axis=0, keepdims=0)]
    return save(file, nodes, [X3], [helper.make_tensor_sequence_value_info("y", F, None)])


def _texts(file: Path) -> Path:
    codes = {"keys_strings": ["a", "", "ö", "日本"], "values_int64s": [1, 2, 3, 4], "default_int64": -1}
    nodes = [node("StringConcat", ["a", "b"], ["y"]), node("LabelEncoder", ["a"], ["n"], domain=ML[0], **codes)]
    inputs, outputs = [info("a", S, ["n"]), info("b", S, ["n"])], [info("y", S, ["n"]), info("n", I64, ["n"])]
    return save(file, nodes, inputs, outputs, domains=[ML])


def _images(file: Path) -> Path:
    nodes = [node("Add", ["x", "x"], ["y"]), node("ReduceMean", ["x", "axes"], ["m"], keepdims=0)]
    shape = ["n", "h", "w"]
    return save(file, nodes, [info("x", F, shape)], [info("y", F, shape), info("m", F, ["n"])], {"axes": np.array([1, 2])})


def _all_types(file: Path) -> Path:
    kinds = [(kind, getattr(TensorProto, kind)) for kind in TYPES]
    nodes = [node("Concat", [f"in_{kind}", f"in_{kind}"], [f"out_{kind}"], axis=1) for kind in TYPES]
    inputs = [info(f"in_{kind}", dtype, ["n", 2]) for kind, dtype in kinds]
    return save(file, nodes, inputs, [info(f"out_{kind}", dtype, ["n", 4]) for kind, dtype in kinds])


def _bfloat16_inside(file: Path) -> Path:
    return save(file, [node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16), node("Cast", ["b"], ["y"], to=F)], [X3], [Y3])


def _wrong_shapes(file: Path) -> Path:
    nodes = [node("Compress", ["x", "keep"], ["y"], axis=1), node("ReduceSum", ["x", "axes"], ["z"], keepdims=0)]
    outputs = [info("y", F, ["n", 7]), info("z", F, ["n", 3, 3])]
    return save(file, nodes, [X3], outputs, {"keep": np.array([True, False, True]), "axes": np.array([1])})


def _old(file: Path) -> Path:
    """The weight is among the inputs, as files of the IR before version 4 have it."""
    weight = {"w": np.array([1, 2, 3], np.float32)}
    return save(file, [node("Mul", ["x", "w"], ["y"])], [X3, info("w", F, [3])], [Y3], weight, opset=8, ir=3)


def _weights_beside(file: Path) -> Path:
    weights = {"w": np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32), "b": np.ones(4, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])]
    save(file, nodes, [X3], [info("y", F, ["n", 4])], weights)
    location = "weights of the model, " + "long" * 40 + ".bin"
    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location=location, size_threshold=0)
    return file


def _nothing(file: Path) -> Path:
    nodes = [node("Slice", ["x", "zero", "zero", "one"], ["y"]), node("Neg", ["x"], ["z"])]
    return save(file, nodes, [X3], [info("y", F, ["n", 0]), info("z", F, ["n", 3])], {"zero": np.array([0]), "one": np.array([1])})


def _baked_one(file: Path) -> Path:
    nodes = [node("Reshape", ["x", "to"], ["r"]), node("Neg", ["r"], ["y"])]
    return save(file, nodes, [X3], [Y3], {"to": np.array([1, 3])})


def _quantized(file: Path) -> Path:
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        node("MatMulInteger", ["q", "w", "zero"], ["p"]),
        node("Cast", ["p"], ["f"], to=F),
        node("Mul", ["f", "scale"], ["s"]),
        node("Mul", ["s", "unit"], ["y"]),
    ]
    weights = {"w": np.random.default_rng(3).integers(-99, 99, (4, 2)).astype(np.int8), "unit": np.float32(0.01)}
    return save(file, nodes, [info("x", F, ["n", 4])], [info("y", F, ["n", 2])], weights)


def _fitted(kind: str) -> Callable[[Path], Path]:
    def convert(file: Path) -> Path:
        from skl2onnx import to_onnx
        from sklearn.ensemble import IsolationForest
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        x = np.random.default_rng(4).normal(size=(90, 3)).astype(np.float32)
        y = np.where(x[:, 0] > 1, "up", np.where(x[:, 0] < -1, "down", "level") if kind == "zipmap" else "down")
        model = {"forest": IsolationForest(n_estimators=5, random_state=0), "svc": LinearSVC(), "zipmap": LogisticRegression()}[kind]
        onnx.save(to_onnx(model.fit(x, y), x[:1], target_opset={"": 15, ML[0]: 3}), file)
        return file

    return convert


def _exported(file: Path) -> Path:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def forward(self, x):
            y = torch.relu(self.layer(x))
            return y, y.sum(1)

    torch.manual_seed(0)
    batch = {"x": {0: torch.export.Dim("batch")}}
    program = torch.onnx.export(
        Net().eval(), (torch.zeros(2, 4),), dynamo=True, input_names=["x"], output_names=["y", "total"], dynamic_shapes=batch, verbose=False
    )
    program.save(file)
    return file


MODELS: dict[str, Callable[[Path], Path]] = {
    "several": _several,
    "odd_names": _odd_names,
    "one_row": _fixed(1),
    "eight_rows": _fixed(8),
    "eight_mixed": _eight_mixed,
    "parameter": _parameter,
    "scalars": _scalars,
    "nonzero": lambda file: save(file, [node("NonZero", ["x"], ["y"])], [X3], [info("y", I64, [2, "k"])]),
    "suppression": _suppression,
    "over_rows": lambda file: save(file, [node("Softmax", ["x"], ["y"], axis=0)], [X3], [Y3]),
    "sequence": _sequence,
    "row_sequence": _row_sequence,
    "texts": _texts,
    "square": lambda file: save(file, [node("MatMul", ["x", "x"], ["y"])], [info("x", F, [4, 4])], [info("y", F, [4, 4])]),
    "images": _images,
    "all_types": _all_types,
    "bfloat16_inside": _bfloat16_inside,
    "wrong_shapes": _wrong_shapes,
    "unused": lambda file: save(file, [node("Neg", ["x"], ["y"])], [X3, info("u", F, ["n"])], [Y3]),
    "passed_on": lambda file: save(file, [node("Neg", ["x"], ["y"])], [X3], [info("x", F, ["n", 3]), Y3, Y3]),
    "old": _old,
    "weights_beside": _weights_beside,
    "nothing": _nothing,
    "undeclared": lambda file: save(file, [node("Neg", ["x"], ["y"])], [info("x", F, None)], [info("y", F, None)]),
    "baked_one": _baked_one,
    "quantized": _quantized,
    "anomaly": _fitted("forest"),
    "margin": _fitted("svc"),
    "exported": _exported,
    "zipmap": _fitted("zipmap"),
}


def save_cases(folder: Path, names: Sequence[str] = tuple(MODELS)) -> dict[str, Path]:
    """Saves models; name → file."""
    return {name: MODELS[name](folder / f"{name}.onnx") for name in names}
