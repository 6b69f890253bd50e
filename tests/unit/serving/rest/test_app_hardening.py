"""What the fuzz test once found at the front, each by its smallest example."""

from __future__ import annotations

import pytest

from ekiben.serving.rest.http import fits_header

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


@pytest.mark.parametrize("path", ["/v1/models/tiny:predict%0a", "/v2/models/tiny/infer%0a", "/v2/repository/index%0a"])
def test_a_line_feed_behind_a_path_makes_it_another(serving, path):
    for method in ("GET", "POST"):
        answer = serving.request(method, path, json={})
        assert answer.status_code == 404
        assert answer.json()["error"]


@pytest.mark.parametrize(("text", "expected"), [("a b", True), (" a", False), ("a ", False), (" ", False), ("", False)])
def test_an_id_with_space_at_an_end_does_not_go_into_a_header(serving, text, expected):
    assert fits_header(text) is expected
    answer = serving.post("/v1/models/tiny:predict", json={"instances": [ROW], "id": text})
    assert answer.status_code == 200
    assert (answer.headers.get("x-request-id") == text) is expected


def test_bentoml_is_not_handed_a_content_type_that_its_access_log_cannot_read(serving):
    before = len(serving.fallback.scopes)

    answer = serving.request("GET", "/elsewhere", headers={b"content-type": b"text/\xff"})

    assert (answer.status_code, answer.json()) == (415, {"error": "Content-Type must be ASCII"})
    assert len(serving.fallback.scopes) == before


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-anything", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_what_is_posted_to_a_typed_endpoint_is_bounded_and_answered_here(serving, content_type):
    answer = serving.post("/tiny", content=b"a=[", headers={"content-type": content_type})

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_typed_endpoint_takes_a_form(serving):
    answer = serving.post("/tiny", data={"instances": '[{"a":1,"b":2,"d":-3}]'})

    assert (answer.status_code, [p["prediction"] for p in answer.json()]) == (200, ["yes"])


@pytest.mark.parametrize(
    ("message", "is_raised"), [("unable to perform operation on <…>; the handler is closed", False), ("unexpected", True)]
)
def test_a_connection_that_the_server_closed_ends_the_request_quietly(serving, message, is_raised):
    async def send(_):
        raise RuntimeError(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/v2/health/live", "headers": []}
    call = serving.server.app(scope, None, send)

    if is_raised:
        with pytest.raises(RuntimeError, match=message):
            serving.thread.run(call)
    else:
        serving.thread.run(call)
