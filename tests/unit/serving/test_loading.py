import numpy as np
import pytest
from unit.serving.inprocess import SeenRuntime, seen_predictor

from ekiben.model import Predictor
from ekiben.model.spec import BatchingSpec
from ekiben.registry import LoadPolicy
from ekiben.serving.loading import load_checked, warm


@pytest.fixture
def tiny(registry, tiny_artifact):
    """Registers tiny:1."""
    return registry.register(tiny_artifact.path, tag="tiny:1")


def test_load_checked_gives_a_predictor_that_was_taught_its_cost(tiny, tiny_rows, tiny_artifact):
    predictor, manifest, cost = load_checked(tiny, (), LoadPolicy())
    assert predictor.predict(tiny_rows(3)) == Predictor.open(tiny_artifact.path).predict(tiny_rows(3))
    assert manifest == tiny_artifact.manifest
    assert cost.seconds(100) > 0


def test_warming_never_exceeds_the_models_batch():
    runtime = SeenRuntime()
    warm(seen_predictor(runtime, max_batch_size=5), [[1.0, 1, "x"], [2.0, 2, "y"]])
    assert {len(run) for run in runtime.runs} == {1, 2, 5}
    assert set(runtime.seen) == {1.0, 2.0}


def test_warming_stops_where_a_run_would_take_long(monkeypatch):
    runtime = SeenRuntime()
    clock = iter(np.arange(0, 10_000, 10.0))
    monkeypatch.setattr("ekiben.serving.loading.time.monotonic", lambda: next(clock))
    cost = warm(seen_predictor(runtime), [[1.0, 1, "x"]])
    assert {len(run) for run in runtime.runs} == {1}
    assert cost.seconds(1) == pytest.approx(10)


def test_without_rows_nothing_is_warmed():
    runtime = SeenRuntime()
    assert warm(seen_predictor(runtime), []).seconds(1) == 0
    assert runtime.runs == []


def test_rows_of_varying_shape_are_warmed_one_shape_at_a_time(save_graph):
    from onnx import TensorProto, helper

    from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
    from ekiben.model.runtimes import open_runtime

    graph = save_graph(
        [helper.make_node("Add", ["t", "t"], ["u"])],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n", "w"])],
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, ["n", "w"])],
    )
    spec = ModelSpec(
        name="varying",
        task="tensor",
        inputs=(InputSpec(name="t", type="tensor", dtype="float32", shape=(-1,)),),
        outputs=(OutputSpec(name="u", dtype="float32", shape=(-1,)),),
        card=CardSpec(owner="tests"),
        batching=BatchingSpec(max_batch_size=4),
    )
    cost = warm(Predictor(spec, open_runtime("onnx", graph)), [[1.0, 2.0], [1.0, 2.0, 3.0]])
    assert cost.seconds(4) > 0
