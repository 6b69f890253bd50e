from __future__ import annotations

import gc
import logging
import shutil
import sys
import time

import msgspec
import pytest
from onnx import TensorProto, helper
from unit.serving.inprocess import LoopThread, Serving, TroubledAliases

from ekiben.model import CardSpec, InputSpec, ModelFile, ModelSpec, OutputSpec, Provenance
from ekiben.model.artifact import MANIFEST, read_artifact
from ekiben.model.build import build_artifact
from ekiben.model.spec import BatchingSpec
from ekiben.registry import FolderRegistry


@pytest.fixture(autouse=True, scope="session")
def _process():
    """Undoes what a worker does to its process."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    access = logging.getLogger("uvicorn.access")
    handlers, propagate = access.handlers[:], access.propagate
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    access.handlers[:], access.propagate = handlers, propagate
    gc.unfreeze()


@pytest.fixture
def loop_thread():
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def registry(tmp_path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "store", TroubledAliases())


@pytest.fixture
def start(loop_thread, registry, tmp_path, monkeypatch):
    """Starts a server: ``start("tiny", …, setting=value)``; looks for changes a hundred times a second."""
    monkeypatch.setattr("ekiben.serving.host.POLL_S", 0.01)
    running: list[Serving] = []

    def started(*models: str, **settings) -> Serving:
        serving = Serving(registry, list(models), thread=loop_thread, home=tmp_path, **settings)
        running.append(serving)
        return serving.start()

    yield started
    for serving in running:
        if serving.is_running:
            serving.stop()


MODELS = ("tiny", "plane", "grid")


@pytest.fixture
def serving(start, registry, tiny_artifact, plane_artifact, grid_artifact) -> Serving:
    """A server with tiny, plane and grid, each in version 1."""
    for artifact in (tiny_artifact, plane_artifact, grid_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    return start(*MODELS)


@pytest.fixture(scope="session")
def _steady(tmp_path_factory):
    home = tmp_path_factory.mktemp("steady")
    thread = LoopThread()
    serving = Serving(FolderRegistry(home / "store", TroubledAliases()), list(MODELS), thread=thread, home=home)
    yield serving
    if serving.is_running:
        serving.stop()
    thread.close()


@pytest.fixture
def steady(request, _steady) -> Serving:
    """As `serving`, and one for all tests: for those that change nothing in it and read no metrics."""
    if not _steady.is_running:
        for name in MODELS:
            _steady.registry.register(request.getfixturevalue(f"{name}_artifact").path, tag=f"{name}:1")
        _steady.start()
    return _steady


@pytest.fixture
def another(tmp_path):
    """Makes an artifact with the same content and another manifest, with a spec changed as told."""

    def make(artifact, note: str, **spec):
        folder = tmp_path / f"{artifact.spec.name}-{note}"
        shutil.copytree(artifact.path, folder)
        manifest = msgspec.structs.replace(artifact.manifest, spec=msgspec.structs.replace(artifact.spec, **spec))
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return read_artifact(folder)

    return make


@pytest.fixture
def eventually():
    """Waits until a condition holds."""

    def wait(condition, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.005)

    return wait


@pytest.fixture
def build(tmp_path):
    """Makes an artifact of a spec, a graph and golden rows."""

    def make(spec: ModelSpec, graph, golden):
        return build_artifact(
            tmp_path / spec.name,
            spec=spec,
            model=ModelFile(framework="onnx", file="model.onnx"),
            files={"model.onnx": graph},
            provenance=Provenance(created="2026-01-01T00:00:00Z"),
            golden_rows=golden,
            reference=golden,
        )

    return make


@pytest.fixture
def logarithm_artifact(build, save_graph):
    """A regressor, ``x`` to its logarithm: NaN below 0."""
    graph = save_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        file="logarithm.onnx",
    )
    spec = ModelSpec(name="logarithm", task="regression", inputs=(InputSpec(name="x", type="float"),), card=CardSpec(owner="tests"))
    return build(spec, graph, [[float(n)] for n in range(1, 33)])


@pytest.fixture
def words_artifact(build, save_graph):
    """A tensor model over strings, ``word`` to ``same``."""
    graph = save_graph(
        [helper.make_node("Identity", ["word"], ["same"])],
        [helper.make_tensor_value_info("word", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("same", TensorProto.STRING, ["n"])],
        file="words.onnx",
    )
    spec = ModelSpec(
        name="words",
        task="tensor",
        inputs=(InputSpec(name="word", type="string"),),
        outputs=(OutputSpec(name="same", dtype="string"),),
        card=CardSpec(owner="tests"),
    )
    return build(spec, graph, [[f"w{n}"] for n in range(32)])


@pytest.fixture
def whole_artifact(build, save_graph):
    """A model without a rows' dimension: ``v [3]`` to ``sum []`` and ``twice [3]``."""
    graph = save_graph(
        [helper.make_node("Add", ["v", "v"], ["twice"]), helper.make_node("ReduceSum", ["v"], ["sum"], keepdims=0)],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, []), helper.make_tensor_value_info("twice", TensorProto.FLOAT, [3])],
        file="whole.onnx",
    )
    spec = ModelSpec(
        name="whole",
        task="tensor",
        inputs=(InputSpec(name="v", type="tensor", dtype="float32", shape=(3,)),),
        outputs=(OutputSpec(name="sum", dtype="float32"), OutputSpec(name="twice", dtype="float32", shape=(3,))),
        card=CardSpec(owner="tests"),
        batching=BatchingSpec(enabled=False),
    )
    return build(spec, graph, [[float(n), 1.0, 2.0] for n in range(32)])
