import pytest

from ekiben.model import Predictor

PLANE = "/v2/models/plane/infer"
TINY = "/v2/models/tiny/infer"


def column(name, data, datatype="FP32", shape=None):
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def xyz(**changed):
    columns = {name: column(name, [1.0, 2.0]) for name in "xyz"}
    return {"inputs": list({**columns, **changed}.values())}


def answer_of(serving, path, body):
    answer = serving.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal_of(serving, path, body, status=400):
    answer = serving.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_a_column_a_tensor(steady, tiny_artifact, tiny_rows):
    rows = tiny_rows(5)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    body = answer_of(steady, TINY, {"id": "7", "inputs": [column(n, [r[n] for r in rows]) for n in "abcd"]})
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "1", "7")
    prediction, confidence, probabilities = body["outputs"]
    assert prediction == {"name": "prediction", "datatype": "BYTES", "shape": [5], "data": [e["prediction"] for e in expected]}
    assert confidence == {"name": "confidence", "datatype": "FP32", "shape": [5], "data": [e["confidence"] for e in expected]}
    assert probabilities["shape"] == [5, 2]
    assert probabilities["data"] == [p for e in expected for p in e["probabilities"].values()]


def test_one_matrix_stands_for_all_columns(steady):
    expected = [14.5, 32.5]
    flat = column("input-0", [1, 2, 3, 4, 5, 6], shape=[2, 3])
    nested = column("input-0", [[1, 2, 3], [4, 5, 6]], shape=[2, 3])
    wide = column("whatever", [1, 2, 3, 4, 5, 6], "INT64", shape=[2, 3])
    for matrix in (flat, nested, wide):
        assert answer_of(steady, PLANE, {"inputs": [matrix]})["outputs"] == [
            {"name": "prediction", "datatype": "FP32", "shape": [2], "data": expected}
        ]


@pytest.mark.parametrize(
    "x",
    [
        column("x", [1.0, 4.0], shape=[2, 1]),
        column("x", [[1.0], [4.0]], shape=[2, 1]),
        column("x", [[[1.0], [4.0]]], shape=[2]),
        column("x", [1, 4], "INT8"),
        column("x", [1, 4], "UINT64"),
        column("x", [1.0, 4.0], "FP64"),
        column("x", [1.0, 4.0], "FP16"),
    ],
)
def test_columns_of_any_shape_and_number_type_that_fit(steady, x):
    body = {"inputs": [x, column("y", [2.0, 5.0]), column("z", [3.0, 6.0])]}
    assert answer_of(steady, PLANE, body)["outputs"][0]["data"] == [14.5, 32.5]


def test_nulls_are_missing_values(steady, tiny_artifact):
    rows = [{"a": 1.0, "b": 2.0, "c": c, "d": 0.0} for c in (None, 5.0)]
    body = answer_of(steady, TINY, {"inputs": [column(n, [r[n] for r in rows]) for n in "abcd"]})
    assert body["outputs"][0]["data"] == [e["prediction"] for e in Predictor.open(tiny_artifact.path).predict(rows)]
    nested = {"inputs": [column("c", [[None], [5.0]], shape=[2, 1]), *(column(n, [r[n] for r in rows]) for n in "abd")]}
    assert answer_of(steady, TINY, nested)["outputs"] == body["outputs"]
    assert "row 0, field 'a'" in refusal_of(steady, TINY, {"inputs": [column(n, [None]) for n in "abcd"]}, 422)


def test_outputs_are_those_asked_for_in_the_order_asked_for(steady):
    body = {"inputs": [column(n, [1.0]) for n in "abcd"], "outputs": [{"name": "probabilities"}, {"name": "prediction"}]}
    assert [o["name"] for o in answer_of(steady, TINY, body)["outputs"]] == ["probabilities", "prediction"]
    body["outputs"] = []
    assert len(answer_of(steady, TINY, body)["outputs"]) == 3
    body["outputs"] = [{"name": "probability"}]
    assert "'probability' does not exist; the outputs are prediction, confidence, probabilities" in refusal_of(steady, TINY, body)


def test_tensors(steady):
    image = column("image", [1, 2, 3, 4, 5, 6], shape=[1, 2, 3])
    doubled, total = answer_of(steady, "/v2/models/grid/versions/1/infer", {"inputs": [image]})["outputs"]
    assert doubled == {"name": "doubled", "datatype": "FP32", "shape": [1, 2, 3], "data": [2, 4, 6, 8, 10, 12]}
    assert total == {"name": "total", "datatype": "FP32", "shape": [1, 1], "data": [21]}


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (column("x", [1.0, 2.0], "FLOAT"), "datatype 'FLOAT'"),
        (column("x", [1.0, 2.0], shape=[3]), "2 values, which do not fill the shape [3]"),
        (column("x", [1.0, 2.0], shape=[-1]), "dimensions are 0 to"),
        (column("x", [1.0, 2.0], shape=[2] + [1] * 16), "16 of them at most"),
        (column("x", [1.0, 2.0], shape=[2, 10**4000]), "dimensions are 0 to"),
        (column("x", [], shape=[0, *[2**31 - 1] * 3]), "too large"),
        (column("x", [], "BYTES", shape=[0, *[2**31 - 1] * 3]), "too large"),
        (column("x", ["a", "b"]), "not a list of FP32 values"),
        (column("x", [1.5, 2.0], "INT32"), "not a list of INT32 values"),
        (column("x", [True, False], "INT32"), "not a list of INT32 values"),
        (column("x", [1, 0], "BOOL"), "not a list of BOOL values"),
        (column("x", [None, 1], "INT32"), "not a list of INT32 values"),
        (column("x", [300, 1], "UINT8"), "out of range for UINT8"),
        (column("x", [2**70, 1], "INT64"), "out of range for INT64"),
        (column("x", [[1.0], [2.0, 3.0]], shape=[2, 1]), "3 values"),
        (column("x", [[1.0], 2.0], shape=[2]), "not a list"),
        ({"name": "x", "datatype": "FP32", "shape": [], "data": 5}, "not a list"),
        ({"name": "x", "datatype": "FP32", "shape": [1], "data": {}}, "not a list"),
        (column("x", [1.0], shape=[]), "shape"),
        (column("x", [1.0, 2.0, 3.0]), "same number of rows"),
        (column("x", ["a", "b"], "BYTES"), "'x'"),
        (column("w", [1.0, 2.0]), "'w' does not exist"),
        ({"name": "x", "datatype": "FP32", "shape": [2]}, 'has no "data"'),
        ({"name": "x", "datatype": "FP32", "shape": "2", "data": []}, "not a V2 inference request"),
        (column("x", [1, 2], shape=[2**70]), "dimensions"),
    ],
)
def test_a_tensor_whose_parts_do_not_fit(steady, x, says):
    assert says in refusal_of(steady, PLANE, xyz(x=x))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": []}, "is empty"),
        ({}, "not a V2 inference request"),
        ([], "not a V2 inference request"),
        ({"inputs": [column("x", [1.0]), column("x", [1.0])]}, "given twice"),
        ({"inputs": [column("x", [1.0]), column("y", [1.0])]}, "'z' is missing"),
        ({"inputs": [column("m", [1.0, 2.0], shape=[1, 2])]}, "not that of a matrix"),
        ({"id": 5, "inputs": []}, "not a V2 inference request"),
        (xyz(x=column("x", [])), "same number of rows"),
        ({"inputs": [column(n, []) for n in "xyz"]}, "no rows"),
    ],
)
def test_a_request_whose_tensors_do_not_fit(steady, body, says):
    assert says in refusal_of(steady, PLANE, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}',
        b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [["\xff"]]}]}',
        b'{"inputs": [{"name": "\xff", "datatype": "FP32", "shape": [1], "data": [1]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ' + b"[" * 100_000,
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ' + b"[" * 500 + b"]" * 500 + b"}]}",
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [NaN]}]}',
    ],
)
def test_bytes_that_are_no_request(steady, body):
    answer = steady.post(PLANE, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_rows_that_break_the_signature_are_422(steady):
    body = {"inputs": [column(n, [1.0, 11.0]) for n in "abcd"]}
    answer = steady.post(TINY, json=body)
    assert answer.status_code == 422
    assert answer.json()["details"] == [{"row": 1, "field": "d", "value": 11.0, "rule": "must be a finite number between -10 and 10"}]


def test_strings_are_bytes(start, registry, words_artifact):
    registry.register(words_artifact.path, tag="words:1")
    words = start("words")
    body = {"inputs": [column("word", ["ab", "é", ""], "BYTES")]}
    assert answer_of(words, "/v2/models/words/infer", body)["outputs"] == [
        {"name": "same", "datatype": "BYTES", "shape": [3], "data": ["ab", "é", ""]}
    ]
    assert "an array of float32 does not hold" in refusal_of(words, "/v2/models/words/infer", {"inputs": [column("word", [1.0])]})


def test_a_model_without_a_batch_dimension_takes_and_gives_its_tensors_whole(start, registry, whole_artifact):
    registry.register(whole_artifact.path, tag="whole:1")
    unbatched = start("whole")
    body = answer_of(unbatched, "/v2/models/whole/infer", {"inputs": [column("v", [1.0, 2.0, 3.0])]})
    assert body["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [], "data": [6.0]},
        {"name": "twice", "datatype": "FP32", "shape": [3], "data": [2.0, 4.0, 6.0]},
    ]
    metadata = unbatched.get("/v2/models/whole").json()
    assert metadata["inputs"] == [{"name": "v", "datatype": "FP32", "shape": [3]}]
    assert metadata["outputs"][0] == {"name": "sum", "datatype": "FP32", "shape": []}
    assert "must be a tensor of float32 with shape [3]" in refusal_of(
        unbatched, "/v2/models/whole/infer", {"inputs": [column("v", [1.0] * 6, shape=[2, 3])]}
    )
    assert unbatched.predict("whole", [[1.0, 2.0, 3.0]]).json()["predictions"] == [{"sum": 6.0, "twice": [2.0, 4.0, 6.0]}]
