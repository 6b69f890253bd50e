import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from load_tests.open_inference import (
    JSON_LENGTH_HEADER,
    Malformed,
    binary_body,
    binary_outputs,
    grpc_outputs,
    grpc_request,
    json_body,
    json_outputs,
    tensor,
)

ROW = [
    tensor("who", "BYTES", np.array(["Ü", ""], object)),
    tensor("n", "INT64", np.array([3, -4])),
    tensor("x", "FP32", np.array([[1.5], [math.nan]], np.float32)),
]


def test_json_has_the_values_and_null_where_there_is_none():
    assert msgspec.json.decode(json_body(ROW, ["y"])) == {
        "inputs": [
            {"name": "who", "shape": [2], "datatype": "BYTES", "data": ["Ü", ""]},
            {"name": "n", "shape": [2], "datatype": "INT64", "data": [3, -4]},
            {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.5, None]},
        ],
        "outputs": [{"name": "y"}],
    }
    assert "outputs" not in msgspec.json.decode(json_body(ROW))


def test_binary_has_the_bytes_behind_the_json_in_the_order_of_the_inputs():
    body, length = binary_body(ROW, ["y"])

    head = msgspec.json.decode(body[:length])
    assert [t["parameters"] for t in head["inputs"]] == [{"binary_data_size": n} for n in (10, 16, 8)]
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    assert "data" not in head["inputs"][0]
    raw = body[length:]
    assert raw[:10] == b"\x02\0\0\0\xc3\x9c\0\0\0\0"
    assert np.frombuffer(raw[10:26], "<i8").tolist() == [3, -4]
    assert np.frombuffer(raw[26:], "<f4")[0] == 1.5


def test_binary_without_named_outputs_asks_for_all_of_them_binary():
    body, length = binary_body(ROW)

    assert msgspec.json.decode(body[:length])["parameters"] == {"binary_data_output": True}


def test_grpc_has_raw_contents():
    request = grpc_request("m", ROW, outputs=["y"], request_id="7")

    assert (request.model_name, request.id, [o.name for o in request.outputs]) == ("m", "7", ["y"])
    assert [(i.name, i.datatype, list(i.shape)) for i in request.inputs] == [
        ("who", "BYTES", [2]),
        ("n", "INT64", [2]),
        ("x", "FP32", [2, 1]),
    ]
    assert list(request.raw_input_contents) == [t.raw for t in ROW]


@given(st.lists(st.text()), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_what_is_written_is_read_again(texts, numbers):
    tensors = [tensor("t", "BYTES", np.array(texts, object)), tensor("n", "INT64", np.array(numbers, np.int64))]
    body, length = binary_body(tensors)
    as_answer = body[:length].replace(b'"inputs"', b'"outputs"') + body[length:]
    # The header's name is longer by one letter, so its length is too.
    headers = {JSON_LENGTH_HEADER.lower(): str(length + 1)}

    assert binary_outputs(as_answer, headers) == {"t": texts, "n": numbers}


def test_an_answer_may_mix_binary_and_json_or_be_json_only():
    head = b'{"outputs":[{"name":"a","datatype":"FP32","data":[1.0]},{"name":"b","datatype":"UINT8","parameters":{"binary_data_size":2}}]}'

    assert binary_outputs(head + b"\x07\x08", {JSON_LENGTH_HEADER: str(len(head))}) == {"a": [1.0], "b": [7, 8]}
    assert binary_outputs(b'{"outputs":[{"name":"a","data":[2]}]}', {}) == {"a": [2]}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"outputs":[{"name":"a"}]}', b'{"outputs":3}', b'{"error":"no"}', b"\xff"])
def test_no_answer_is_malformed(body):
    with pytest.raises(Malformed):
        json_outputs(body)
    with pytest.raises(Malformed):
        binary_outputs(body, {JSON_LENGTH_HEADER: str(len(body))})


@pytest.mark.parametrize("length", ["x", "9999", "-5"])
def test_a_wrong_length_is_malformed(length):
    with pytest.raises(Malformed):
        binary_outputs(
            b'{"outputs":[{"name":"a","datatype":"FP32","parameters":{"binary_data_size":4}}]}\0\0\0', {JSON_LENGTH_HEADER: length}
        )


def test_grpc_answers_are_read_raw_or_typed():
    raw = service_pb2.ModelInferResponse(raw_output_contents=[np.float32([1, 2]).tobytes()])
    raw.outputs.add(name="y", datatype="FP32")
    typed = service_pb2.ModelInferResponse()
    typed.outputs.add(name="y", datatype="FP32").contents.fp32_contents.extend([1, 2])

    assert grpc_outputs(raw) == grpc_outputs(typed) == {"y": [1.0, 2.0]}
    raw.outputs[0].datatype = "FP128"
    with pytest.raises(Malformed, match="FP128"):
        grpc_outputs(raw)
