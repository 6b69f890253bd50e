import numpy as np
import pytest

from ekiben.model import InputSpec, Predictor
from ekiben.model.runtimes import TensorInfo
from ekiben.serving.datatypes import DATATYPE_OF, NUMPY_OF, datatype_of, input_metadata, output_metadata


def test_the_names_go_both_ways():
    assert {DATATYPE_OF[numpy]: numpy for numpy in NUMPY_OF.values()} == NUMPY_OF
    for name, numpy in NUMPY_OF.items():
        assert datatype_of(np.zeros(1, numpy)) == name
    assert datatype_of(np.array(["a", "bc"])) == "BYTES"


@pytest.mark.parametrize(
    ("item", "datatype", "shape"),
    [
        (InputSpec(name="x", type="bool"), "BOOL", [-1]),
        (InputSpec(name="x", type="int"), "INT64", [-1]),
        (InputSpec(name="x", type="int", dtype="int32"), "INT32", [-1]),
        (InputSpec(name="x", type="int", nullable=True), "FP64", [-1]),
        (InputSpec(name="x", type="float"), "FP32", [-1]),
        (InputSpec(name="x", type="string"), "BYTES", [-1]),
        (InputSpec(name="x", type="tensor", dtype="string", shape=(2,)), "BYTES", [-1, 2]),
        (InputSpec(name="x", type="tensor", dtype="uint8", shape=(-1, 3)), "UINT8", [-1, -1, 3]),
        (InputSpec(name="x", type="tensor", dtype="float16", shape=()), "FP16", [-1]),
    ],
)
def test_inputs(item, datatype, shape):
    assert input_metadata(item) == {"name": "x", "datatype": datatype, "shape": shape}


def test_a_regressors_output_is_of_the_type_and_size_its_runtime_gives(plane_artifact):
    predictor = Predictor.of(plane_artifact)
    predictor.runtime.outputs = (TensorInfo(predictor.runtime.outputs[0].name, "float64", (None, 3)),)

    assert output_metadata(predictor) == [{"name": "prediction", "datatype": "FP64", "shape": [-1, 3]}]


def test_outputs(tiny_artifact, plane_artifact, words_artifact):
    assert [o["name"] for o in output_metadata(Predictor.of(tiny_artifact))] == ["prediction", "confidence", "probabilities"]
    assert output_metadata(Predictor.of(tiny_artifact))[2]["shape"] == [-1, 2]
    assert output_metadata(Predictor.of(plane_artifact)) == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    assert output_metadata(Predictor.of(words_artifact)) == [{"name": "same", "datatype": "BYTES", "shape": [-1]}]
