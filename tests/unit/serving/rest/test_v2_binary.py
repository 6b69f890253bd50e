"""V2 with tensors as bytes: the binary tensor data extension, both ways."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.serving.tensors import from_raw, object_array, to_raw

PLANE, GRID, TINY = ("/v2/models/plane/infer", "/v2/models/grid/infer", "/v2/models/tiny/infer")
LENGTH = "inference-header-content-length"
NUMBERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")


def blob(name, array, datatype="FP32", **changed):
    """An input and its bytes."""
    raw = to_raw(array)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": {"binary_data_size": len(raw)}, **changed}, raw


def matrix(*rows):
    return blob("m", np.array(rows, np.float32))


def body_of(*blobs, tail=b"", **fields):
    """The body and its headers."""
    head = json.dumps({"inputs": [item for item, _ in blobs], **fields}).encode()
    return head + b"".join(raw for _, raw in blobs) + tail, {LENGTH: str(len(head))}


def post(serving, path, *blobs, tail=b"", headers=None, **fields):
    content, own = body_of(*blobs, tail=tail, **fields)
    return serving.post(path, content=content, headers={**own, "content-type": "application/octet-stream", **(headers or {})})


def outputs_of(answer):
    """The JSON of an answer, and its outputs as arrays."""
    assert answer.status_code == 200, answer.text
    if LENGTH not in answer.headers:
        assert answer.headers["content-type"] == "application/json"
        return answer.json(), {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer.json()["outputs"]}
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers[LENGTH])
    head, rest = json.loads(answer.content[:size]), answer.content[size:]
    arrays = {}
    for output in head["outputs"]:
        if "data" in output:
            arrays[output["name"]] = np.array(output["data"]).reshape(output["shape"])
            continue
        length = output["parameters"]["binary_data_size"]
        arrays[output["name"]] = from_raw(output["name"], output["datatype"], output["shape"], rest[:length])
        rest = rest[length:]
    assert rest == b""
    return head, arrays


def refusal_of(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


# inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_matrix(steady):
    head, arrays = outputs_of(post(steady, PLANE, matrix([1, 2, 3], [4, 5, 6]), id="7"))
    assert (head["model_name"], head["model_version"], head["id"]) == ("plane", "1", "7")
    assert arrays["prediction"].tolist() == [14.5, 32.5]


def test_a_blob_a_column_in_their_order_and_json_between(steady):
    x, z = (blob(n, np.array(v, np.float32)) for n, v in (("x", [1, 4]), ("z", [3, 6])))
    y = ({"name": "y", "datatype": "INT8", "shape": [2], "data": [2, 5]}, b"")
    assert outputs_of(post(steady, PLANE, z, y, x))[1]["prediction"].tolist() == [14.5, 32.5]


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [(d, np.dtype(d.lower().replace("fp", "float"))) for d in NUMBERS],
)
@pytest.mark.parametrize("pad", ["", " ", "  ", "   "])
def test_numbers_of_each_type_at_any_offset(steady, datatype, dtype, pad):
    answer = post(steady, PLANE, blob("m", np.array([[1, 2, 3]], dtype), datatype), note=pad)
    assert outputs_of(answer)[1]["prediction"].tolist() == [14.5]


def test_bf16(steady):
    halves = (np.array([[1, 2, 3]], np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    assert outputs_of(post(steady, PLANE, blob("m", halves, "BF16")))[1]["prediction"].tolist() == [14.5]


def test_nan_is_a_missing_value_as_null_is(steady):
    row = np.array([[1, 2, np.nan, 0]], np.float32)
    null = {"inputs": [{"name": "m", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, None, 0]}]}
    expected = outputs_of(steady.post(TINY, json=null))[1]
    found = outputs_of(post(steady, TINY, blob("m", row)))[1]
    assert {n: a.tolist() for n, a in found.items()} == {n: a.tolist() for n, a in expected.items()}
    assert "field 'a'" in refusal_of(post(steady, TINY, blob("m", row[:, [2, 0, 1, 3]])), 422)


def test_the_head_alone_with_its_length_is_json(steady):
    head = json.dumps({"inputs": [{"name": "m", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
    assert outputs_of(steady.post(PLANE, content=head, headers={LENGTH: str(len(head))}))[1]["prediction"].tolist() == [14.5]


@pytest.mark.parametrize(
    "length", ["-1", "", "abc", "1.5", "0x10", "1e3", "9" * 30, "9" * 5000, "1000000", "²"], ids=lambda text: text[:12]
)
def test_a_header_length_that_is_none_or_larger_than_the_body(steady, length):
    content, _ = body_of(matrix([1, 2, 3]))
    says = refusal_of(steady.post(PLANE, content=content, headers={LENGTH: length.encode()}))
    assert f"it must be the number of bytes of JSON that the body of {len(content)} bytes begins with" in says
    assert len(says) < 400


def test_a_header_length_that_lies(steady):
    content, headers = body_of(matrix([1, 2, 3]))
    right = int(headers[LENGTH])
    for wrong in (1, right - 1, right + 1, len(content)):
        assert refusal_of(steady.post(PLANE, content=content, headers={LENGTH: str(wrong)}))


def test_bytes_without_a_header_length(steady):
    content, _ = body_of(matrix([1, 2, 3]))
    octets = {"content-type": "application/octet-stream"}
    assert "send Content-Type: application/json" in refusal_of(steady.post(PLANE, content=content, headers=octets), 415)
    assert "is not JSON" in refusal_of(steady.post(PLANE, content=content))
    item, _ = matrix([1, 2, 3])
    assert "binary_data_size 12, and 0 bytes are left" in refusal_of(steady.post(PLANE, json={"inputs": [item]}))


def test_data_beside_binary_data_size(steady):
    item, raw = matrix([1, 2, 3])
    assert 'has both "data" and "binary_data_size"' in refusal_of(post(steady, PLANE, ({**item, "data": [1, 2, 3]}, raw)))


@pytest.mark.parametrize("size", [-1, 13, 2**40, 10**400])
def test_a_size_beyond_the_body(steady, size):
    item, raw = matrix([1, 2, 3])
    item["parameters"]["binary_data_size"] = size
    assert "and 12 bytes are left of the body" in refusal_of(post(steady, PLANE, (item, raw)))


@pytest.mark.parametrize("size", [0, 8, 11])
def test_a_size_that_is_not_the_shapes(steady, size):
    item, raw = matrix([1, 2, 3])
    item["parameters"]["binary_data_size"] = size
    assert f"has {size} bytes; its shape [1, 3] and datatype take 12" in refusal_of(post(steady, PLANE, (item, raw)))


@pytest.mark.parametrize("size", ["12", 12.5, True, [12]])
def test_a_size_that_is_no_number(steady, size):
    item, raw = matrix([1, 2, 3])
    item["parameters"]["binary_data_size"] = size
    assert "not a V2 inference request" in refusal_of(post(steady, PLANE, (item, raw)))


def test_bytes_that_belong_to_no_input(steady):
    assert "1 bytes of the body belong to no input" in refusal_of(post(steady, PLANE, matrix([1, 2, 3]), tail=b"x"))


@pytest.mark.parametrize("shape", [[3], [3, 1], [1, 4], [0, 3], [-1, 3], [2**31, 3], [1, 3, 1], [1] * 17, []])
def test_shapes_that_lie(steady, shape):
    item, raw = matrix([1, 2, 3])
    assert refusal_of(post(steady, PLANE, ({**item, "shape": shape}, raw)))


def test_a_datatype_that_is_none(steady):
    item, raw = matrix([1, 2, 3])
    assert "datatype 'F32'; there are BOOL" in refusal_of(post(steady, PLANE, ({**item, "datatype": "F32"}, raw)))


def test_other_parameters_are_let_be(steady):
    item, raw = matrix([1, 2, 3])
    item["parameters"]["note"] = {"anything": [1]}
    assert outputs_of(post(steady, PLANE, (item, raw), parameters={"priority": 1}))


# strings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def words(start, registry, words_artifact):
    registry.register(words_artifact.path, tag="words:1")
    serving = start("words")
    return lambda *blobs, **fields: post(serving, "/v2/models/words/infer", *blobs, **fields)


def test_strings_both_ways(words):
    texts = ["ab", "é", "", "a\0b"]
    answer = words(blob("word", object_array(texts), "BYTES"), parameters={"binary_data_output": True})
    assert outputs_of(answer)[1]["same"].tolist() == texts
    assert outputs_of(words(blob("word", object_array(texts), "BYTES")))[1]["same"].tolist() == texts


def test_a_string_that_is_not_utf8_is_a_fault_of_its_row(words):
    answer = words(blob("word", object_array(["ok", b"\xff", "ok"]), "BYTES"))
    assert "row 1, field 'word': must be a string" in refusal_of(answer, 422)


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\2\0\0\0a", b"\1\0\0\0ab", b"\0\0\0", b"\1\0\0\0a" * 2])
def test_strings_whose_lengths_lie(words, raw):
    item = {"name": "word", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    assert "which are not the 1 elements" in refusal_of(words((item, raw)))


def test_strings_hold_no_highest_values(words):
    outputs = [{"name": "same", "parameters": {"classification": 1}}]
    assert "holds no numbers" in refusal_of(words(blob("word", object_array(["a"]), "BYTES"), outputs=outputs))


# a body of bare bytes ────────────────────────────────────────────────────────────────────────────────────────────────


def bare(serving, path, content):
    return serving.post(path, content=content, headers={LENGTH: "0"})


def test_bare_bytes_are_the_only_input_and_the_answer_goes_as_bytes(steady):
    images = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    answer = bare(steady, GRID, images.tobytes())
    assert LENGTH in answer.headers
    head, arrays = outputs_of(answer)
    assert all("data" not in o for o in head["outputs"])
    assert arrays["doubled"].tolist() == (2 * images).tolist()
    assert arrays["total"].tolist() == [[15.0], [51.0]]


def test_bare_bytes_of_several_inputs_or_of_no_size(steady):
    assert "needs a model with one input; plane has x, y, z" in refusal_of(bare(steady, PLANE, bytes(12)))
    assert "25 bytes, which do not say how large input 'image' is" in refusal_of(bare(steady, GRID, bytes(25)))
    assert "no rows" in refusal_of(bare(steady, GRID, b""))


def test_bare_bytes_of_a_string_and_of_a_model_without_a_batch_dimension(start, registry, words_artifact, whole_artifact):
    registry.register(words_artifact.path, tag="words:1")
    registry.register(whole_artifact.path, tag="whole:1")
    serving = start("words", "whole")
    assert outputs_of(bare(serving, "/v2/models/words/infer", "é!".encode()))[1]["same"].tolist() == ["é!"]
    assert "must be a string" in refusal_of(bare(serving, "/v2/models/words/infer", b"\xff"), 422)
    arrays = outputs_of(bare(serving, "/v2/models/whole/infer", np.array([1, 2, 3], np.float32).tobytes()))[1]
    assert (arrays["sum"].tolist(), arrays["twice"].tolist()) == (6.0, [2.0, 4.0, 6.0])


def test_bare_bytes_of_a_scalar(start, registry, logarithm_artifact):
    registry.register(logarithm_artifact.path, tag="logarithm:1")
    serving = start("logarithm")
    values = np.array([1, 10, 100], np.float32)
    arrays = outputs_of(bare(serving, "/v2/models/logarithm/infer", values.tobytes()))[1]
    np.testing.assert_allclose(arrays["prediction"], np.log(values), rtol=1e-5)


# outputs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ROW = matrix([1, 2, 3, 4])
BINARY, PLAIN = {"binary_data": True}, {"binary_data": False}


@pytest.mark.parametrize(
    ("outputs", "parameters", "expected"),
    [
        (None, None, [("prediction", False), ("confidence", False), ("probabilities", False)]),
        (None, {"binary_data_output": True}, [("prediction", True), ("confidence", True), ("probabilities", True)]),
        (None, {"binary_data_output": False}, [("prediction", False), ("confidence", False), ("probabilities", False)]),
        ([("probabilities", BINARY), ("prediction", None)], None, [("probabilities", True), ("prediction", False)]),
        ([("probabilities", PLAIN), ("prediction", None)], {"binary_data_output": True}, [("probabilities", False), ("prediction", True)]),
        ([("confidence", {}), ("confidence", BINARY)], {"binary_data_output": True}, [("confidence", True), ("confidence", True)]),
        ([("confidence", BINARY)], {"binary_data_output": False}, [("confidence", True)]),
        ([], {"binary_data_output": True}, [("prediction", True), ("confidence", True), ("probabilities", True)]),
    ],
)
def test_which_outputs_in_which_order_and_how(steady, outputs, parameters, expected):
    fields = {} if parameters is None else {"parameters": parameters}
    if outputs is not None:
        fields["outputs"] = [{"name": name, **({} if own is None else {"parameters": own})} for name, own in outputs]
    answer = post(steady, TINY, ROW, **fields)
    head, arrays = outputs_of(answer)
    assert [(o["name"], "data" not in o) for o in head["outputs"]] == expected
    assert (LENGTH in answer.headers) == any(is_binary for _, is_binary in expected)
    reference = outputs_of(post(steady, TINY, ROW))[1]
    for name, array in arrays.items():
        if name == "prediction":
            assert array.tolist() == reference[name].tolist()
        else:
            np.testing.assert_array_equal(array.astype(np.float32), reference[name].astype(np.float32))


def test_classification(steady):
    for own in ({"classification": 5}, {"classification": 5, "binary_data": True}):
        head, arrays = outputs_of(post(steady, TINY, ROW, outputs=[{"name": "probabilities", "parameters": own}]))
        assert (head["outputs"][0]["datatype"], head["outputs"][0]["shape"]) == ("BYTES", [1, 2])
        (texts,) = arrays["probabilities"].tolist()
        assert [t.split(":")[1:] for t in texts] == [["0", "no"], ["1", "yes"]]
    head, _ = outputs_of(post(steady, TINY, ROW, outputs=[{"name": "probabilities", "parameters": {"classification": 0}}]))
    assert head["outputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"name": "prediction", "parameters": {"classification": 1}}, "holds no numbers"),
        ({"name": "probabilities", "parameters": {"classification": -1}}, "it must be 1 or more"),
        ({"name": "probabilities", "parameters": {"classification": "2"}}, "not a V2 inference request"),
        ({"name": "probabilities", "parameters": {"binary_data": 1}}, "not a V2 inference request"),
        ({"name": "ghost", "parameters": {"binary_data": True}}, "output 'ghost' does not exist"),
    ],
)
def test_outputs_that_cannot_be_asked_for(steady, output, says):
    assert says in refusal_of(post(steady, TINY, ROW, outputs=[output]))


# parameters ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_timeout_parameter_is_in_microseconds(steady):
    for good in (0, 5_000_000, 0.5e7, 10**400):
        assert post(steady, TINY, ROW, parameters={"timeout": good}).status_code == 200
    assert "deadline" in refusal_of(post(steady, TINY, ROW, parameters={"timeout": 0.001}), 504)
    assert "timeout is -1" in refusal_of(post(steady, TINY, ROW, parameters={"timeout": -1}))
    assert refusal_of(post(steady, TINY, ROW, parameters={"timeout": "soon"}))


def test_sequences_are_refused(steady):
    for some in (1, "a"):
        assert "sequence_id is set" in refusal_of(post(steady, TINY, ROW, parameters={"sequence_id": some}))
    for none in (0, ""):
        assert post(steady, TINY, ROW, parameters={"sequence_id": none}).status_code == 200


# whatever comes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 10**6), insert=st.binary(max_size=3), cut=st.integers(0, 4), shift=st.integers(-3, 3),
    path=st.sampled_from([PLANE, GRID, TINY]),
)  # fmt: skip
def test_a_good_body_with_a_few_bytes_changed_gives_no_5xx(steady, at, insert, cut, shift, path):
    image = blob("image", np.zeros((1, 2, 3), np.float32))
    content, headers = body_of(image if path == GRID else matrix([1, 2, 3]), id="x", outputs=[{"name": "prediction", "parameters": BINARY}])
    at %= len(content)
    changed = content[:at] + insert + content[at + cut :]
    answer = steady.post(path, content=changed, headers={LENGTH: str(max(int(headers[LENGTH]) + shift, 0))})
    assert answer.status_code in (200, 400, 422), (changed, answer.text)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60), length=st.integers(0, 70), path=st.sampled_from([PLANE, GRID, TINY]))
def test_any_bytes_give_no_5xx(steady, content, length, path):
    assert steady.post(path, content=content, headers={LENGTH: str(length)}).status_code in (200, 400, 422)
