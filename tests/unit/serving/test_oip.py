from types import SimpleNamespace

import numpy as np
import pytest

from ekiben.errors import InvalidRequest
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec, Predictor
from ekiben.model.outputs import Outputs
from ekiben.model.runtimes.base import Runtime, TensorInfo
from ekiben.model.spec import BatchingSpec
from ekiben.serving.batch_run import Answer
from ekiben.serving.oip import OipModel, Wanted, check_sequence, timeout_ms

FLOAT = InputSpec(name="x", type="float")
VECTOR = (OutputSpec(name="y", dtype="float32", shape=(3,)),)


class Silent(Runtime):
    """A graph with named inputs and outputs, which is never run."""

    def __init__(self, inputs, outputs):
        self.inputs = tuple(TensorInfo(i.name, i.array_dtype, (None, *(None if d == -1 else d for d in i.shape or ()))) for i in inputs)
        self.outputs = outputs

    def run(self, feeds, outputs):
        raise AssertionError("not to be run")


def model(*inputs, batched=True, outputs=VECTOR, task="tensor", labels=()):
    spec = ModelSpec(
        name="m",
        task=task,
        inputs=inputs,
        outputs=outputs,
        labels=labels,
        card=CardSpec(owner="tests"),
        batching=BatchingSpec(enabled=batched),
    )
    graph = [TensorInfo(o.name, o.dtype, (None, *o.shape)) for o in outputs] or [
        TensorInfo("probabilities", "float32", (None, len(labels)))
    ]
    predictor = Predictor(spec, Silent(inputs, tuple(graph)))
    return OipModel(SimpleNamespace(model="m", version="1", predictor=predictor, spec=spec))


def classified(array, classes, *, oip=None, name="y"):
    found = (oip or model(FLOAT)).chosen(Answer(Outputs(len(array), {name: array}), 0, len(array)), [Wanted(name, classes)])
    ((_, texts),) = found
    return texts.tolist()


# a body of bare bytes ────────────────────────────────────────────────────────────────────────────────────────────────


def tensor(shape, dtype="float32"):
    return InputSpec(name="t", type="tensor", dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    ("item", "n_bytes", "expected"),
    [
        (FLOAT, 12, ("x", [3], "float32")),
        (FLOAT, 0, ("x", [0], "float32")),
        (InputSpec(name="x", type="float", dtype="float64"), 16, ("x", [2], "float64")),
        (InputSpec(name="x", type="int"), 16, ("x", [2], "int64")),
        (InputSpec(name="x", type="int", dtype="int32"), 16, ("x", [4], "int32")),
        (InputSpec(name="x", type="bool"), 3, ("x", [3], "bool")),
        (InputSpec(name="x", type="string"), 77, ("x", [1], "object")),
        (tensor((2, 3)), 48, ("t", [2, 2, 3], "float32")),
        (tensor((2, 3), "uint8"), 6, ("t", [1, 2, 3], "uint8")),
        (tensor((2,), "string"), 7, ("t", [1, 1], "object")),
        (tensor((-1, 2)), 24, ("t", [1, 3, 2], "float32")),
        (tensor(()), 8, ("t", [2], "float32")),
    ],
)
def test_the_size_of_bare_bytes_says_the_shape(item, n_bytes, expected):
    assert model(item).raw_input(n_bytes) == expected


@pytest.mark.parametrize(
    ("item", "n_bytes", "expected"),
    [
        (tensor((3,)), 12, ("t", [3], "float32")),
        (tensor((-1, 2)), 24, ("t", [3, 2], "float32")),
        (tensor(()), 4, ("t", [], "float32")),
        (InputSpec(name="x", type="string"), 5, ("x", [], "object")),
    ],
)
def test_bare_bytes_of_a_model_without_a_batch_dimension(item, n_bytes, expected):
    assert model(item, batched=False).raw_input(n_bytes) == expected


@pytest.mark.parametrize(
    ("item", "n_bytes", "batched"),
    [
        (FLOAT, 13, True),
        (tensor((2, 3)), 25, True),
        (tensor((-1, -1)), 24, True),
        (tensor((-1, -1)), 24, False),
        (tensor((-1, 2)), 12, True),
        (tensor((3,)), 24, False),
        (tensor((3,)), 8, False),
    ],
)
def test_a_size_that_does_not_say_the_shape(item, n_bytes, batched):
    with pytest.raises(InvalidRequest, match=f"the body has {n_bytes} bytes, which do not say how large input"):
        model(item, batched=batched).raw_input(n_bytes)


def test_bare_bytes_need_one_input():
    with pytest.raises(InvalidRequest, match="needs a model with one input; m has x, t"):
        model(FLOAT, tensor((2,))).raw_input(8)


# inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_without_a_batch_dimension_gets_one_row():
    array = np.zeros(3, np.float32)
    assert model(tensor((3,)), batched=False).payload({"t": array}).n == 1
    assert model(FLOAT).payload({"x": array}).n == 3
    with pytest.raises(InvalidRequest, match='"inputs" is empty'):
        model(FLOAT).payload({})


# outputs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

TWO = (OutputSpec(name="y", dtype="float32", shape=(3,)), OutputSpec(name="s", dtype="string"), OutputSpec(name="b", dtype="bool"))


def test_what_may_be_asked_for():
    oip = model(FLOAT, outputs=TWO)
    assert oip.check_wanted(()) == oip.all_outputs == (Wanted("y"), Wanted("s"), Wanted("b"))
    wanted = [Wanted("s"), Wanted("y", 2, is_binary=True)]
    assert oip.check_wanted(wanted) == wanted


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Wanted("z"), "output 'z' does not exist; the outputs are y, s, b"),
        (Wanted("y", -1), "classification is -1; it must be 1 or more"),
        (Wanted("s", 1), "output 's' holds no numbers"),
        (Wanted("b", 1), "output 'b' holds no numbers"),
    ],
)
def test_what_may_not(wanted, says):
    with pytest.raises(InvalidRequest, match=says):
        model(FLOAT, outputs=TWO).check_wanted([Wanted("y"), wanted])


def test_the_highest_values_first():
    assert classified(np.array([[0.1, 0.7, 0.2], [3, 1, 2]], np.float32), 2) == [
        ["0.700000:1", "0.200000:2"],
        ["3.000000:0", "2.000000:2"],
    ]


def test_ties_go_by_index():
    assert classified(np.array([[1, 2, 2, 1]], np.float32), 4) == [["2.000000:1", "2.000000:2", "1.000000:0", "1.000000:3"]]


@pytest.mark.parametrize("classes", [3, 4, 10**6, 10**30])
def test_more_classes_than_there_are(classes):
    assert classified(np.array([[1, 3, 2]], np.float32), classes) == [["3.000000:1", "2.000000:2", "1.000000:0"]]


def test_values_of_every_kind():
    assert classified(np.array([[np.nan, -np.inf, np.inf]]), 3) == [["inf:2", "-inf:1", "nan:0"]]
    assert classified(np.array([[-128, 127]], np.int8), 2) == [["127.000000:1", "-128.000000:0"]]
    assert classified(np.array([[0, 255]], np.uint8), 1) == [["255.000000:1"]]
    assert classified(np.array([[0.5, 1.5]], np.float16), 1) == [["1.500000:1"]]


def test_scalars_matrices_and_nothing():
    assert classified(np.array([5.0, 6.0]), 1) == [["5.000000:0"], ["6.000000:0"]]
    assert classified(np.arange(6.0).reshape(1, 2, 3), 2) == [["5.000000:5", "4.000000:4"]]
    assert classified(np.zeros((1, 0)), 2) == [[]]


def test_labels_are_those_of_the_probabilities():
    oip = model(FLOAT, task="multiclass_classification", outputs=(), labels=("a", "b", "c"))
    found = classified(np.array([[0.2, 0.3, 0.5]], np.float32), 2, oip=oip, name="probabilities")
    assert found == [["0.500000:2:c", "0.300000:1:b"]]
    assert classified(np.array([0.5]), 1, oip=oip, name="confidence") == [["0.500000:0"]]


# parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sequences():
    for none in (0, "", None):
        check_sequence(none)
    for some in (1, "a", -1):
        with pytest.raises(InvalidRequest, match="sequence_id is set"):
            check_sequence(some)


def test_timeouts():
    assert timeout_ms(0) is None
    assert timeout_ms(1500) == 1.5
    assert timeout_ms(0.5) == 0.0005
    assert timeout_ms(10**4000) > 1e9
    with pytest.raises(InvalidRequest, match="timeout is -1"):
        timeout_ms(-1)
