import msgspec
import numpy as np

from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.model.default_outputs import DefaultOutputs
from ekiben.model.guard_spec import BreakerSpec


def spec(task, default, **more):
    breaker = BreakerSpec(fallback="default", default=default)
    inputs = (InputSpec(name="a", type="float"),)
    return ModelSpec(name="m", task=task, inputs=inputs, card=CardSpec(owner="tests"), breaker=breaker, **more)


def test_a_label_without_probabilities_says_that_nobody_computed_them():
    outputs = DefaultOutputs(spec("binary_classification", {"prediction": "yes"}, labels=("no", "yes"))).outputs(2)
    assert outputs.tensors()["prediction"].tolist() == ["yes", "yes"]
    assert np.isnan(outputs.arrays["probabilities"]).all()
    shown = msgspec.json.decode(msgspec.json.encode(outputs.rows()))
    assert shown == [{"prediction": "yes", "confidence": None, "probabilities": {"no": None, "yes": None}}] * 2


def test_a_label_with_probabilities():
    default = {"prediction": "b", "probabilities": {"c": 0.2, "a": 0.3, "b": 0.5}}
    outputs = DefaultOutputs(spec("multiclass_classification", default, labels=("a", "b", "c"))).outputs(3)
    assert outputs.arrays["probabilities"].dtype == np.float32
    np.testing.assert_allclose(outputs.arrays["probabilities"], [[0.3, 0.5, 0.2]] * 3, rtol=1e-6)
    assert outputs.tensors()["confidence"].tolist() == [0.5, 0.5, 0.5]


def test_a_number():
    outputs = DefaultOutputs(spec("regression", {"prediction": 7})).outputs(2)
    assert outputs.rows() == [{"prediction": 7.0}] * 2


def test_tensors_by_name():
    declared = (
        OutputSpec(name="vector", dtype="int64", shape=(-1,)),
        OutputSpec(name="text", dtype="string"),
        OutputSpec(name="grid", dtype="float32", shape=(1, 2)),
    )
    default = {"vector": [1, 2, 3], "text": "none", "grid": [[0, 0.5]]}
    outputs = DefaultOutputs(spec("tensor", default, outputs=declared)).outputs(2)
    assert outputs.n == 2
    assert {name: (array.shape, array.dtype.name) for name, array in outputs.tensors().items()} == {
        "vector": ((2, 3), "int64"),
        "text": ((2,), "object"),
        "grid": ((2, 1, 2), "float32"),
    }
    assert outputs.rows()[1] == {"vector": [1, 2, 3], "text": "none", "grid": [[0.0, 0.5]]}
