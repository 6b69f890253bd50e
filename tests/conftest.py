"""Small real artifacts, made with onnx.helper in milliseconds, for every test that needs a model.

| name | task | inputs | what it computes |
|---|---|---|---|
| ``tiny`` | binary classification, no and yes | floats a, b, c (nullable), d in -10..10 | yes when ``a + b - d`` is above .25 |
| ``plane`` | regression | floats x, y, z | ``1 x + 2 y + 3 z + 0.5`` |
| ``grid`` | tensor | ``image`` float32 [2, 3] | ``doubled`` [2, 3] and ``total`` [1] |
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

from ekiben.model import Artifact, CardSpec, InputSpec, ModelFile, ModelSpec, OutputSpec, Predictor, Provenance
from ekiben.model.build import build_artifact

OPSET = 18
IR_VERSION = 9
CARD = CardSpec(owner="tests")

# No test fails because the machine was slow.
settings.register_profile("ekiben", deadline=None)
settings.load_profile("ekiben")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of real processes take turns in one of pytest's workers; all others run beside them, wherever there is room."""
    from xdist.scheduler import LoadScopeScheduling

    class OneWithProcesses(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "processes" if nodeid.startswith(("tests/integration/", "tests/acceptance/")) else nodeid

    return OneWithProcesses(config, log)


@pytest.fixture(autouse=True, scope="session")
def _homes(tmp_path_factory):
    """No test writes into the home folders of the person who runs it."""
    wanted = {
        "BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml")),
        "EKIBEN_HOME": str(tmp_path_factory.mktemp("ekiben")),
        "BENTOML_DO_NOT_TRACK": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def save_graph(tmp_path) -> Callable[..., Path]:
    """Saves a graph: ``save_graph(nodes, inputs, outputs, {name: array})``; inputs and outputs are value infos."""

    def save(nodes, inputs, outputs, weights=(), file="model.onnx", *, domains=()) -> Path:
        initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(weights).items()]
        graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(*domain) for domain in domains)]
        path = tmp_path / file
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), path)
        return path

    return save


@pytest.fixture
def tiny_spec() -> ModelSpec:
    return ModelSpec(
        name="tiny",
        task="binary_classification",
        labels=("no", "yes"),
        inputs=(
            InputSpec(name="a", type="float"),
            InputSpec(name="b", type="float"),
            InputSpec(name="c", type="float", nullable=True),
            InputSpec(name="d", type="float", min=-10, max=10),
        ),
        card=CARD,
    )


@pytest.fixture
def tiny_onnx(save_graph) -> Path:
    """The graph of ``tiny``: ``x [n, 4]`` to ``probabilities [n, 2]`` and ``label [n]``."""
    return save_graph(
        [
            helper.make_node("IsNaN", ["x"], ["is_null"]),
            helper.make_node("Where", ["is_null", "zero", "x"], ["filled"]),
            helper.make_node("Gemm", ["filled", "weight", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]),
        ],
        {
            "weight": np.array([[0, 1], [0, 1], [0, 0], [0, -1]], np.float32),
            "bias": np.array([0, -0.25], np.float32),
            "zero": np.float32(0),
        },
        file="tiny.onnx",
    )


@pytest.fixture
def tiny_rows() -> Callable[[int], list[dict[str, float | None]]]:
    """``tiny_rows(n)``: valid rows for ``tiny``, the same every time; c is null in every fourth."""

    def rows(n: int):
        values = np.random.default_rng(7).uniform(-3, 3, (n, 4)).astype(np.float32).astype(float)
        return [{"a": a, "b": b, "c": None if i % 4 == 0 else c, "d": d} for i, (a, b, c, d) in enumerate(values.tolist())]

    return rows


@pytest.fixture
def tiny_artifact(tmp_path, tiny_spec, tiny_onnx, tiny_rows) -> Artifact:
    rows = tiny_rows(200)
    return build_artifact(
        tmp_path / "tiny",
        spec=tiny_spec,
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": tiny_onnx},
        provenance=Provenance(created="2026-01-01T00:00:00Z"),
        golden_rows=rows[:32],
        reference=rows,
    )


@pytest.fixture
def tiny_predictor(tiny_artifact) -> Predictor:
    return Predictor.open(tiny_artifact.path)


@pytest.fixture
def plane_artifact(tmp_path, save_graph) -> Artifact:
    graph = save_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        {"weight": np.array([[1], [2], [3]], np.float32), "bias": np.array([0.5], np.float32)},
        file="plane.onnx",
    )
    rows = np.random.default_rng(7).integers(-5, 5, (100, 3)).tolist()
    return build_artifact(
        tmp_path / "plane",
        spec=ModelSpec(
            name="plane", task="regression", inputs=tuple(InputSpec(name=name, type="float", dtype="float32") for name in "xyz"), card=CARD
        ),
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": graph},
        provenance=Provenance(created="2026-01-01T00:00:00Z"),
        golden_rows=rows[:32],
        reference=rows,
    )


@pytest.fixture
def grid_artifact(tmp_path, save_graph) -> Artifact:
    graph = save_graph(
        [
            helper.make_node("Add", ["image", "image"], ["doubled"]),
            helper.make_node("ReduceSum", ["image", "axes"], ["sums"], keepdims=0),
            helper.make_node("Reshape", ["sums", "column"], ["total"]),
        ],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 3])],
        [
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["n", 2, 3]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["n", 1]),
        ],
        {"axes": np.array([1, 2], np.int64), "column": np.array([-1, 1], np.int64)},
        file="grid.onnx",
    )
    rows = np.random.default_rng(7).integers(0, 9, (100, 2, 3)).tolist()
    return build_artifact(
        tmp_path / "grid",
        spec=ModelSpec(
            name="grid",
            task="tensor",
            inputs=(InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 3)),),
            outputs=(OutputSpec(name="doubled", dtype="float32", shape=(2, 3)), OutputSpec(name="total", dtype="float32", shape=(1,))),
            card=CARD,
        ),
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": graph},
        provenance=Provenance(created="2026-01-01T00:00:00Z"),
        golden_rows=[{"image": row} for row in rows[:32]],
        reference=rows,
    )
