"""The ONNX graphs of the benchmark, each with the input ``x`` float32 ``[n, features]`` and the output ``y`` float32 ``[n, classes]``."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]

_OPSET = 18
_IR_VERSION = 9
_MLP_WIDTHS = (784, 2048, 2048, 10)
_HEAVY_FEATURES = 30
_HEAVY_ROWS = 64
_HEAVY_WIDTH = 256
_HEAVY_SAMPLE = 8
_HEAVY_SAMPLE_RUNS = 15
_HEAVY_LAYERS = (4, 400)


def forest(features: Floats, labels: npt.NDArray[Any]) -> onnx.ModelProto:
    """A random forest of 100 trees of depth 8, trained here and exported with skl2onnx; its output is the probabilities."""
    from skl2onnx import to_onnx  # noqa: PLC0415  slow to import, and only this model needs it
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415  as above

    classifier = RandomForestClassifier(n_estimators=100, max_depth=8, random_state=0).fit(features, labels)
    model = to_onnx(classifier, features[:1], options={id(classifier): {"zipmap": False}}, target_opset=_OPSET)
    graph = model.graph
    renamed = {graph.input[0].name: "x", "probabilities": "y"}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    graph.input[0].name = "x"
    probabilities = next(output for output in graph.output if output.name == "probabilities")
    probabilities.name = "y"
    del graph.output[:]
    graph.output.append(probabilities)
    onnx.checker.check_model(model)
    return model  # type: ignore[no-any-return]


def perceptron(seed: int = 7) -> onnx.ModelProto:
    """A multi-layer perceptron 784 → 2048 → 2048 → 10 with random weights: compute-bound, and faster in batches."""
    rng = np.random.default_rng(seed)
    nodes, weights, current = [], [], "x"
    last = len(_MLP_WIDTHS) - 2
    for n, (width_in, width_out) in enumerate(pairwise(_MLP_WIDTHS)):
        matrix = (rng.standard_normal((width_in, width_out)) * np.sqrt(2 / width_in)).astype(np.float32)
        weights += [numpy_helper.from_array(matrix, f"w{n}"), numpy_helper.from_array(np.zeros(width_out, np.float32), f"b{n}")]
        nodes.append(helper.make_node("Gemm", [current, f"w{n}", f"b{n}"], ["y" if n == last else f"h{n}"]))
        if n != last:
            nodes.append(helper.make_node("Relu", [f"h{n}"], [f"r{n}"]))
        current = f"r{n}"
    return _model("mlp", nodes, weights, features=_MLP_WIDTHS[0], classes=_MLP_WIDTHS[-1])


def projection(seed: int = 13) -> onnx.ModelProto:
    """One matrix 784 → 10: as wide as the perceptron, and it costs microseconds, so that what remains is how a row is written and read."""
    rng = np.random.default_rng(seed)
    features, classes = _MLP_WIDTHS[0], _MLP_WIDTHS[-1]
    weights = [
        numpy_helper.from_array((rng.standard_normal((features, classes)) / np.sqrt(features)).astype(np.float32), "w"),
        numpy_helper.from_array(np.zeros(classes, np.float32), "b"),
    ]
    return _model("wide", [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], weights, features=features, classes=classes)


def matmul_chain(layers: int, seed: int = 11) -> onnx.ModelProto:
    """A graph that makes a 64 by 256 matrix of each row of 30 floats and multiplies it ``layers`` times with a square one.

    A single row is already a large matrix product, so a batch of n rows costs n times as much: the capacity of a server is
    that of its sessions, however it batches.
    """
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((_HEAVY_WIDTH, _HEAVY_WIDTH)))[0].astype(np.float32)
    wide = _HEAVY_ROWS * _HEAVY_WIDTH
    spread = (rng.standard_normal((_HEAVY_FEATURES, wide)) / np.sqrt(_HEAVY_FEATURES)).astype(np.float32)
    # A rotation keeps lengths, so the logits of standard normal rows are about 1 however many layers there are.
    head = (rng.standard_normal((_HEAVY_WIDTH, 2)) / np.sqrt(wide)).astype(np.float32)
    weights = [
        numpy_helper.from_array(rotation, "rotation"),
        numpy_helper.from_array(spread, "spread"),
        numpy_helper.from_array(head, "head"),
        numpy_helper.from_array(np.array([-1, _HEAVY_ROWS, _HEAVY_WIDTH], np.int64), "shape"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "spread"], ["flat"]), helper.make_node("Reshape", ["flat", "shape"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{n}", "rotation"], [f"m{n + 1}"]) for n in range(layers)]
    nodes += [
        helper.make_node("ReduceSum", [f"m{layers}", "axis"], ["summed"], keepdims=0),
        helper.make_node("MatMul", ["summed", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    return _model("heavy", nodes, weights, features=_HEAVY_FEATURES, classes=2)


def layers_for(run_ms: float) -> int:
    """How many layers `matmul_chain` needs here for one row to cost ``run_ms`` milliseconds of one core."""
    session = open_session(matmul_chain(_HEAVY_SAMPLE).SerializeToString())
    row = np.zeros((1, _HEAVY_FEATURES), np.float32)
    best_s = float("inf")
    for _ in range(_HEAVY_SAMPLE_RUNS):
        start = time.perf_counter()
        session.run(["y"], {"x": row})
        best_s = min(best_s, time.perf_counter() - start)
    fewest, most = _HEAVY_LAYERS
    return max(fewest, min(most, round(run_ms / 1000 / best_s * _HEAVY_SAMPLE)))


def open_session(model: Path | bytes) -> Any:
    """An ONNX Runtime session as all servers of the benchmark open theirs: one thread, no spinning, on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])


def _model(name: str, nodes: list[Any], weights: list[Any], *, features: int, classes: int) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])]
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model
