"""ModelInfer's messages, through a running server: tensors in, tensors out."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import INFER, TYPED, Client, floats, framed, matrix, part, request, typed

from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec, Predictor
from ekiben.serving.grpc.status import Code
from ekiben.serving.tensors import from_raw, object_array, to_raw

DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
ONNX = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
}  # fmt: skip
VALUES = {"BOOL": [True, False], "FP16": [1.5, -2.0], "FP32": [0.1, -2.5e30], "FP64": [0.1, -2.5e100]}


def values_of(datatype):
    if datatype in VALUES:
        return VALUES[datatype]
    info = np.iinfo(DTYPES[datatype])
    return [info.min, info.max]


@pytest.fixture
def same(start, registry, build, save_graph):
    """Serves a model that gives each row of two values back: ``same(datatype)``."""

    def make(datatype):
        dtype = DTYPES[datatype]
        graph = save_graph(
            [helper.make_node("Identity", ["t"], ["u"])],
            [helper.make_tensor_value_info("t", ONNX[datatype], ["n", 2])],
            [helper.make_tensor_value_info("u", ONNX[datatype], ["n", 2])],
        )
        spec = ModelSpec(
            name="same",
            task="tensor",
            inputs=(InputSpec(name="t", type="tensor", dtype=dtype, shape=(2,)),),
            outputs=(OutputSpec(name="u", dtype=dtype, shape=(2,)),),
            card=CardSpec(owner="tests"),
        )
        registry.register(build(spec, graph, [values_of(datatype) for _ in range(32)]).path, tag="same:1")
        return Client(start("same"))

    return make


# every datatype ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("datatype", DTYPES)
def test_each_datatype_both_ways(same, datatype):
    client = same(datatype)
    array = np.array([values_of(datatype)] * 3, DTYPES[datatype])
    response = client.infer(request("same", ("t", datatype, [3, 2]), raws=[array.tobytes()]))
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("u", datatype, [3, 2])
    assert list(response.raw_output_contents) == [array.tobytes()]
    assert not output.HasField("contents")

    message = pb.ModelInferRequest(model_name="same")
    item = message.inputs.add(name="t", datatype=datatype, shape=[3, 2])
    if datatype not in TYPED:
        assert "FP16 has no typed contents; send raw_input_contents" in client.refusal(message)
        return
    getattr(item.contents, TYPED[datatype]).extend(array.reshape(-1).tolist())
    response = client.infer(message)
    (output,) = response.outputs
    assert not response.raw_output_contents
    assert list(getattr(output.contents, TYPED[datatype])) == array.reshape(-1).tolist()
    assert (output.datatype, list(output.shape)) == (datatype, [3, 2])


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "UINT8", "UINT16"])
def test_typed_values_that_are_out_of_range(client, datatype):
    for value in (np.iinfo(DTYPES[datatype]).max + 1, *([-129, -40000] if datatype == "INT8" else [])):
        message = typed("plane", x=(datatype, [value]), y=("FP32", [1.0]), z=("FP32", [1.0]))
        assert f"'x' has values out of range for {datatype}" in client.refusal(message)


def test_bf16_is_read_raw_only(client):
    halves = (np.array([[1, 2, 3]], np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    response = client.infer(request("plane", ("m", "BF16", [1, 3]), raws=[halves.tobytes()]))
    assert floats(response.outputs[0], response) == [14.5]
    message = pb.ModelInferRequest(model_name="plane")
    message.inputs.add(name="m", datatype="BF16", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    assert "BF16 has no typed contents" in client.refusal(message)


@pytest.fixture
def words(start, registry, words_artifact):
    registry.register(words_artifact.path, tag="words:1")
    return Client(start("words"))


def test_strings_raw_and_typed(words):
    texts = ["ab", "", "é", "a\0b"]
    raw = to_raw(object_array(texts))
    response = words.infer(request("words", ("word", "BYTES", [4]), raws=[raw]))
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [4])
    assert list(response.raw_output_contents) == [raw]

    response = words.infer(typed("words", word=("BYTES", [t.encode() for t in texts])))
    assert list(response.outputs[0].contents.bytes_contents) == [t.encode() for t in texts]
    assert not response.raw_output_contents


def test_a_string_that_is_not_utf8_is_a_fault_of_its_row(words):
    raw = to_raw(object_array(["ok", b"\xff"]))
    for message in (request("words", ("word", "BYTES", [2]), raws=[raw]), typed("words", word=("BYTES", [b"ok", b"\xff"]))):
        assert "row 1, field 'word': must be a string" in words.refusal(message)


def test_lengths_that_lie(words):
    for raw in (b"\xff\xff\xff\xff", b"\2\0\0\0a", b"\1\0\0\0ab", b""):
        assert "which are not the 1 elements" in words.refusal(request("words", ("word", "BYTES", [1]), raws=[raw]))


def test_a_class_is_a_string_and_a_probability_a_number(client, tiny_artifact, tiny_rows):
    rows = tiny_rows(5)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    columns = {n: ("FP32", [float("nan") if r[n] is None else r[n] for r in rows]) for n in "abcd"}
    prediction, confidence, probabilities = client.infer(typed("tiny", **columns)).outputs
    assert [v.decode() for v in prediction.contents.bytes_contents] == [e["prediction"] for e in expected]
    assert list(confidence.contents.fp32_contents) == [e["confidence"] for e in expected]
    assert list(probabilities.contents.fp32_contents) == [p for e in expected for p in e["probabilities"].values()]
    assert list(probabilities.shape) == [5, 2]


# what does not fit ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_as_many_raw_contents_as_inputs(client):
    columns = [(n, "FP32", [1]) for n in "xyz"]
    one = np.float32(1).tobytes()
    assert client.infer(request("plane", *columns, raws=[one] * 3)).outputs
    assert "has 2 tensors for 3 inputs" in client.refusal(request("plane", *columns, raws=[one] * 2))
    assert "has 4 tensors for 3 inputs" in client.refusal(request("plane", *columns, raws=[one] * 4))
    assert "has 1 tensors for 0 inputs" in client.refusal(request("plane", raws=[one]))


def test_contents_beside_raw_contents(client):
    message = matrix([1, 2, 3])
    message.inputs[0].contents.fp32_contents.append(1)
    assert "'m' has contents, beside raw_input_contents" in client.refusal(message)
    del message.inputs[0].contents.fp32_contents[:]
    assert message.inputs[0].HasField("contents")  # as MLServer's converters leave it
    assert client.infer(message).outputs


@pytest.mark.parametrize("field", sorted({*TYPED.values()} - {"fp32_contents"}))
def test_contents_in_the_wrong_place(client, field):
    message = pb.ModelInferRequest(model_name="plane")
    contents = message.inputs.add(name="m", datatype="FP32", shape=[1, 3]).contents
    getattr(contents, field).append(b"x" if field == "bytes_contents" else 1)
    assert f"'m' has {field}; those of FP32 are fp32_contents" in client.refusal(message)


@pytest.mark.parametrize("shape", [[], [1], [1, 2], [4], [2, 3]])
def test_contents_that_do_not_fill_the_shape(client, shape):
    message = pb.ModelInferRequest(model_name="plane")
    message.inputs.add(name="m", datatype="FP32", shape=shape).contents.fp32_contents.extend([1.0, 2.0, 3.0])
    assert f"3 values in fp32_contents, which do not fill its shape {shape}" in client.refusal(message)


@pytest.mark.parametrize("shape", [[-1, 3], [2**31, 3], [1] * 17, [2**63 - 1] * 16])
def test_shapes_that_are_none(client, shape):
    for message in (request("plane", ("m", "FP32", shape), raws=[b""]), request("plane", ("m", "FP32", shape))):
        assert "16 of them at most" in client.refusal(message)


@pytest.mark.parametrize("datatype", ["", "FLOAT", "fp32", "é"])
def test_datatypes_that_are_none(client, datatype):
    for raws in ([b"1234"], []):
        assert f"has the datatype '{datatype}'" in client.refusal(request("plane", ("m", datatype, [1]), raws=raws))


def test_an_empty_tensor_too_large_for_numpy(client):
    shape = [0, *[2**31 - 1] * 3]
    for datatype in ("FP32", "BYTES"):
        for raws in ([b""], []):
            assert "which is too large" in client.refusal(request("plane", ("m", datatype, shape), raws=raws))


def test_inputs_that_do_not_fit_the_signature(client):
    assert '"inputs" is empty' in client.refusal(request("plane"))
    twice = [("x", "FP32", [1])] * 2
    one = np.float32(1).tobytes()
    assert "'x' is given twice" in client.refusal(request("plane", *twice, raws=[one] * 2))
    assert "'z' is missing" in client.refusal(request("plane", ("x", "FP32", [1]), ("y", "FP32", [1]), raws=[one] * 2))
    assert "'w' does not exist" in client.refusal(request("plane", *((n, "FP32", [1]) for n in "wxyz"), raws=[one] * 4))
    assert "not that of a matrix" in client.refusal(matrix([1, 2]))
    assert "no rows" in client.refusal(request("plane", ("m", "FP32", [0, 3]), raws=[b""]))


# what is asked for ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_are_those_asked_for_in_the_order_asked_for(client):
    message = matrix([1, 2, 3, 4], model="tiny")
    for name in ("probabilities", "prediction", "probabilities"):
        message.outputs.add(name=name)
    response = client.infer(message)
    assert [o.name for o in response.outputs] == ["probabilities", "prediction", "probabilities"]
    assert response.raw_output_contents[0] == response.raw_output_contents[2]
    message.outputs.add(name="ghost")
    assert "output 'ghost' does not exist; the outputs are prediction, confidence, probabilities" in client.refusal(message)


def test_classification(client):
    message = matrix([1, 2, 3, 4], model="tiny")
    output = message.outputs.add(name="probabilities")
    output.parameters["classification"].int64_param = 2
    response = client.infer(message)
    (found,) = response.outputs
    assert (found.datatype, list(found.shape)) == ("BYTES", [1, 2])
    texts = from_raw("x", "BYTES", [2], response.raw_output_contents[0]).tolist()
    assert [t.split(":")[1:] for t in texts] == [["0", "no"], ["1", "yes"]]
    output.parameters["classification"].int64_param = -1
    assert "classification is -1" in client.refusal(message)


@pytest.fixture
def whole(start, registry, whole_artifact):
    registry.register(whole_artifact.path, tag="whole:1")
    return Client(start("whole"))


def test_a_model_without_a_batch_dimension(whole):
    response = whole.infer(request("whole", ("v", "FP32", [3]), raws=[np.array([1, 2, 3], np.float32).tobytes()]))
    assert [(o.name, list(o.shape)) for o in response.outputs] == [("sum", []), ("twice", [3])]
    assert floats(response.outputs[0], response, 0) == [6.0]
    assert floats(response.outputs[1], response, 1) == [2.0, 4.0, 6.0]
    response = whole.infer(typed("whole", v=("FP32", [1.0, 2.0, 3.0])))
    assert [list(o.contents.fp32_contents) for o in response.outputs] == [[6.0], [2.0, 4.0, 6.0]]


# parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [{"int64_param": 5}, {"string_param": "s"}, {"uint64_param": 5}])
def test_a_sequence_is_refused(client, value):
    message = matrix([1, 2, 3])
    for name, given_value in value.items():
        setattr(message.parameters["sequence_id"], name, given_value)
    assert "sequence_id is set" in client.refusal(message)


@pytest.mark.parametrize("value", [{"int64_param": 0}, {"string_param": ""}, {}])
def test_no_sequence(client, value):
    message = matrix([1, 2, 3])
    message.parameters["sequence_id"].SetInParent()
    for name, given_value in value.items():
        setattr(message.parameters["sequence_id"], name, given_value)
    assert client.infer(message).outputs


def test_the_timeout_parameter_is_in_microseconds(client):
    message = matrix([1, 2, 3])
    for good in (0, 5_000_000, 2**63 - 1):
        message.parameters["timeout"].int64_param = good
        assert client.infer(message).outputs
    message.parameters["timeout"].int64_param = 1
    assert "deadline passed" in client.refusal(message, Code.DEADLINE_EXCEEDED)
    message.parameters["timeout"].int64_param = -1
    assert "timeout is -1" in client.refusal(message)


def test_parameters_of_other_servers_are_let_be(client):
    message = matrix([1, 2, 3])
    message.parameters["priority"].uint64_param = 3
    message.inputs[0].parameters["anything"].bool_param = True
    assert client.infer(message).outputs


# whatever comes ──────────────────────────────────────────────────────────────────────────────────────────────────────

PLAIN_CODES = (Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.DEADLINE_EXCEEDED)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), insert=st.binary(max_size=3), cut=st.integers(0, 4), is_raw=st.booleans())
def test_a_good_message_with_a_few_bytes_changed_is_answered_or_refused(client, at, insert, cut, is_raw):
    message = matrix([1, 2, 3], id="7") if is_raw else typed("plane", x=("FP32", [1.0]), y=("INT8", [1]), z=("FP64", [1.0]))
    message.outputs.add(name="prediction")
    message.parameters["timeout"].int64_param = 10**9
    data = message.SerializeToString()
    at %= len(data)
    reply = client.raw(INFER, [part(framed(data[:at] + insert + data[at + cut :]))])
    assert reply.code in PLAIN_CODES, reply.message


datatypes = st.sampled_from([*DTYPES, "BF16", "BYTES", "X"])
tensors = st.tuples(st.sampled_from(["x", "y", "z", "m", "image"]), datatypes, st.lists(st.integers(-1, 4), max_size=3))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(tensors, max_size=3), st.lists(st.binary(max_size=24), max_size=3), st.sampled_from(["plane", "grid", "tiny"]))
def test_any_tensors_are_answered_or_refused(client, inputs, raws, model):
    reply = client.unary(INFER, request(model, *inputs, raws=raws))
    assert reply.code in PLAIN_CODES, reply.message
