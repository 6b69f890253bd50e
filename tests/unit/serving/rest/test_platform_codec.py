import io
import json

import numpy as np
import pytest

from ekiben.errors import NotAcceptable, UnsupportedMediaType
from ekiben.model import Predictor
from ekiben.serving.rest.platform_codec import PlatformCodec

LISTS = [[1.0, 2.0, 0.5, -3.0], [0.0, 0.0, 1.0, 5.0]]
NPY = io.BytesIO()
np.save(NPY, np.array(LISTS, np.float32))
BODIES = {
    "application/json": json.dumps({"instances": LISTS}).encode(),
    "application/json; charset=UTF-8": json.dumps(LISTS).encode(),
    "application/cloudevents+json": json.dumps({"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in LISTS]}).encode(),
    "application/jsonlines": b"\n".join(json.dumps(row).encode() for row in LISTS),
    "application/x-ndjson": b"\n".join(json.dumps(row).encode() for row in LISTS) + b"\n",
    "text/csv": b"1,2,0.5,-3\n0,0,1,5\n",
    "Text/CSV; header=present": b"d,c,b,a\n-3,0.5,2,1\n5,1,0,0\n",
    'text/csv; charset="utf-8"; header=absent': b"1,2,0.5,-3\n0,0,1,5\n",
    "application/x-npy": NPY.getvalue(),
}


@pytest.fixture
def expected(tiny_artifact):
    return Predictor.open(tiny_artifact.path).predict(LISTS)


@pytest.fixture
def ask(steady):
    def asked(body=BODIES["application/json"], content_type=None, accept=None):
        headers = {k: v for k, v in (("content-type", content_type), ("accept", accept)) if v is not None}
        return steady.post("/invocations/tiny", content=body, headers=headers)

    route = steady.server.app._routes["/v1/models/tiny:predict"]
    steady.server.app._routes["/invocations/tiny"] = type(route)(
        steady.server.app, "tiny", None, PlatformCodec(steady.server.host.find("tiny", None))
    )
    yield asked
    del steady.server.app._routes["/invocations/tiny"]


@pytest.mark.parametrize("content_type", BODIES)
def test_every_type_of_body_is_answered_as_the_predictor_does(ask, expected, content_type):
    answer = ask(BODIES[content_type], content_type)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": expected}


@pytest.mark.parametrize("form", ["input_data", "data"])
def test_azures_forms_are_answered_with_the_list_alone(ask, expected, form):
    body = json.dumps({form: LISTS}).encode()
    assert ask(body).json() == expected
    assert ask(body, accept="application/jsonlines").text == ask(accept="application/jsonlines").text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*;q=0.5", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("application/jsonlines, text/csv", "application/jsonlines"),
        ("application/json;q=0, application/x-npy;q=0.1", "application/x-npy"),
        ("application/json;q=2, application/json;q=x, application/x-ndjson;q=0.001", "application/jsonlines"),
    ],
)
def test_the_answers_type_is_the_one_the_client_likes_best(ask, accept, kind):
    answer = ask(accept=accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind


def test_the_answer_says_the_same_in_every_type(ask, expected):
    assert [json.loads(line) for line in ask(accept="application/jsonlines").text.splitlines()] == expected
    table = ask(accept="text/csv;header=present").text.splitlines()
    assert table[0] == "prediction,confidence,probabilities.no,probabilities.yes"
    assert table[1:] == ask(accept="text/csv").text.splitlines()
    assert [line.split(",")[0] for line in table[1:]] == [row["prediction"] for row in expected]
    array = np.load(io.BytesIO(ask(accept="application/x-npy").content))
    assert array["prediction"].tolist() == [row["prediction"] for row in expected]
    assert array["probabilities"].tolist() == [list(row["probabilities"].values()) for row in expected]


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "text/plain", "image/png;q=1", "text/csv; charset=latin-1", "x" * 5000]
)
def test_415(ask, content_type):
    answer = ask(b"1", content_type)
    assert answer.status_code == 415
    assert len(answer.text) < 300
    assert "application/jsonlines, text/csv, application/x-npy" in answer.json()["error"] or "utf-8" in answer.json()["error"]


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", "x" * 5000, ",;,"])
def test_406_before_anything_is_computed(ask, accept):
    answer = ask(accept=accept)
    assert answer.status_code == 406
    assert len(answer.text) < 300
    assert "application/json, application/jsonlines, text/csv, application/x-npy" in answer.json()["error"]


@pytest.mark.parametrize("content_type", BODIES)
def test_a_row_out_of_range_is_422_and_named(ask, content_type):
    body = {
        "application/x-npy": npy([[1, 2, 3, -3], [0, 0, 1, 99]]),
        "text/csv": b"1,2,0.5,-3\n0,0,1,99\n",
    }.get(content_type, BODIES[content_type].replace(b"5.0", b"99"))
    if "header" in content_type:
        body = body.replace(b"\n5,", b"\n99,").replace(b"1,5\n", b"1,99\n")
    answer = ask(body, content_type)
    assert answer.status_code == 422, answer.text
    assert answer.json()["details"] == [{"row": 1, "field": "d", "value": 99.0, "rule": "must be a finite number between -10 and 10"}]


def npy(rows):
    out = io.BytesIO()
    np.save(out, np.array(rows, np.float32))
    return out.getvalue()


@pytest.mark.parametrize("content_type", ["text/csv", "application/jsonlines"])
def test_no_rows_are_400(ask, content_type):
    answer = ask(b"", content_type)
    assert answer.status_code == 400
    assert "no rows" in answer.json()["error"]


def test_the_errors_are_the_data_planes():
    assert {UnsupportedMediaType.__base__, NotAcceptable.__base__} == {UnsupportedMediaType.__mro__[1]}


def test_other_models(start, registry, plane_artifact, grid_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    registry.register(grid_artifact.path, tag="grid:1")
    plane = start("plane")
    answer = plane.post("/invocations", content="x,y,z\n1,2,3\n", headers={"content-type": "text/csv", "accept": "text/csv"})
    assert answer.text == "14.5\n"
    grid = start("grid")
    answer = grid.post("/invocations", content="1,2,3,4,5,6\n", headers={"content-type": "text/csv", "accept": "text/csv"})
    assert [float(cell) for cell in answer.text.split(",")] == [2, 4, 6, 8, 10, 12, 21]
