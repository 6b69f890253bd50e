import json

import pytest

from ekiben.errors import InvalidRequest, InvalidRows
from ekiben.model import Predictor
from ekiben.serving.rest.v1 import V1Codec

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


def test_rows_as_objects_and_as_lists_are_answered_as_the_predictor_does(steady, tiny_artifact, tiny_rows):
    rows = tiny_rows(9)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    for instances in (rows, [list(r.values()) for r in rows]):
        answer = steady.predict("tiny", instances)
        assert answer.status_code == 200
        assert answer.json()["predictions"] == expected
    # A nullable field may be left out.
    without = [{k: v for k, v in r.items() if v is not None} for r in rows]
    assert steady.predict("tiny", without).json()["predictions"] == expected


def test_the_envelope(steady):
    body = steady.post("/v1/models/plane:predict", json={"instances": [[1, 2, 3], [0, 0, 0]], "id": "mine"}).json()
    assert body == {"predictions": [{"prediction": 14.5}, {"prediction": 0.5}], "model_name": "plane", "model_version": "1", "id": "mine"}


def test_tensors(steady):
    image = [[1, 2, 3], [4, 5, 6]]
    expected = [{"doubled": [[2, 4, 6], [8, 10, 12]], "total": [21]}]
    for row in (image, {"image": image}):
        assert steady.predict("grid", [row]).json()["predictions"] == expected


def test_a_version_is_asked_for_by_path(steady):
    assert steady.post("/v1/models/plane/versions/1:predict", json={"instances": [[1, 1, 1]]}).json()["model_version"] == "1"
    missing = steady.post("/v1/models/plane/versions/2:predict", json={"instances": [[1, 1, 1]]})
    assert missing.status_code == 404
    assert "loaded: 1" in missing.json()["error"]


def test_the_native_endpoint_answers_the_list_alone(steady):
    answer = steady.post("/plane", json={"instances": [[1, 2, 3]]})
    assert answer.json() == [{"prediction": 14.5}]
    assert answer.headers["x-model-version"] == "1"
    assert answer.headers["x-request-id"]
    bad = steady.post("/plane", json={"instances": [[1, 2]]})
    assert bad.status_code == 422


@pytest.mark.parametrize(
    "kw",
    [
        {"data": {"instances": "[[1, 2, 3]]"}},
        {"files": {"instances": b"[[1, 2, 3]]"}},
        {"content": b'{"instances": [[1, 2, 3]]}', "headers": {"content-type": "text/plain"}},
    ],
)
def test_the_native_endpoint_takes_forms_and_what_is_not_called_json(steady, kw):
    answer = steady.post("/plane", **kw)

    assert (answer.status_code, answer.json()) == (200, [{"prediction": 14.5}])


def test_other_methods_on_the_native_endpoint_are_bentomls(steady):
    assert steady.get("/plane").status_code == 418


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", '"instances"'),
        (b"null", '"instances"'),
        (b"{}", '"instances"'),
        (b'{"instances": {}}', "must be a list"),
        (b'{"instances": null}', "must be a list"),
        (b'{"instances": "abc"}', "must be a list"),
        (b'{"instances": []}', "no rows"),
        (b'{"instances": [[1,2,3]], "id": {}}', "not a valid V1 request"),
        (b'{"instances": [[1,2,3]], "id": 1.5}', "not a valid V1 request"),
        (b'{"instances": [[1,2,3]], "id": "\xff"}', "not JSON"),
    ],
)
def test_a_malformed_body_is_told_what_would_be_right(steady, body, says):
    answer = steady.post("/v1/models/plane:predict", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ({**ROW, "d": 11}, "d", 11),
        ({**ROW, "a": None}, "a", None),
        ({**ROW, "a": "1"}, "a", "1"),
        ({**ROW, "a": True}, "a", True),
        ({**ROW, "a": 1e39}, "a", "inf"),
        ({**ROW, "e": 5}, "e", 5),
        ({"b": 2, "c": 1, "d": 1}, "a", None),
        ([1, 2, 3], None, "[1, 2, 3]"),
        ("abc", None, "abc"),
        (5, None, 5),
        (None, None, None),
    ],
)
def test_a_row_that_breaks_the_signature_is_told_row_field_value_and_rule(steady, row, field, value):
    answer = steady.predict("tiny", [ROW, row])
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["details"]
    assert fault["row"] == 1
    assert fault["field"] == field
    assert fault["value"] == value
    assert fault["rule"]
    assert answer.json()["error"].startswith("row 1")


def test_many_bad_rows_are_counted_and_some_are_shown(steady):
    answer = steady.predict("tiny", [{**ROW, "d": 11}] * 50)
    assert answer.status_code == 422
    assert len(answer.json()["details"]) == 20
    assert "50 problems in all" in answer.json()["error"]


def test_a_tensor_of_another_shape(steady):
    answer = steady.predict("grid", [[[1, 2, 3], [4, 5, 6]], [[1, 2], [3, 4]]])
    assert answer.status_code == 422
    assert answer.json()["details"][0]["row"] == 1


@pytest.mark.parametrize(("given", "echoed"), [("mine", "mine"), (7, "7"), (10**30, str(10**30)), ("é\n", "é\n")])
def test_the_bodys_id_is_echoed_and_wins_over_the_headers(steady, given, echoed):
    answer = steady.post("/v1/models/plane:predict", json={"instances": [[1, 2, 3]], "id": given}, headers={"x-request-id": "other"})
    assert answer.json()["id"] == echoed
    # What cannot stand in a header stays out of it.
    assert answer.headers.get("x-request-id") == (echoed if echoed.isascii() else None)


@pytest.mark.parametrize("model", ["plane", "grid"])
def test_nesting_is_refused_at_every_depth(steady, model):
    # Reading, checking and showing a value each need a little more of the stack than the one before.
    codec = V1Codec(steady.server.host.find(model, None))
    refusals = set()
    for depth in range(700, 1100):
        with pytest.raises((InvalidRequest, InvalidRows)) as refusal:
            codec.decode(b'{"instances": [' + b"[" * depth + b"]" * depth + b"]}", {})
        refusals.add(refusal.type)
    assert refusals == {InvalidRequest, InvalidRows}


def test_duplicate_keys_take_the_last(steady):
    answer = steady.post("/v1/models/plane:predict", content=b'{"instances": [[9,9,9]], "instances": [[1,2,3]]}')
    assert answer.json()["predictions"] == [{"prediction": 14.5}]


def test_nan_outputs_are_null(start, registry, logarithm_artifact):
    registry.register(logarithm_artifact.path, tag="logarithm:1")
    answer = start("logarithm").predict("logarithm", [[-1.0], [1.0]])
    assert answer.status_code == 200
    assert json.loads(answer.text)["predictions"] == [{"prediction": None}, {"prediction": 0.0}]
