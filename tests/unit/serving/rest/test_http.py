import asyncio
import json

import pytest

from ekiben.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvalidRows,
    MethodNotAllowed,
    NotReady,
    PayloadTooLarge,
    PredictionFailed,
    QueueFull,
    RequestError,
    RowError,
    UnknownModel,
    UnsupportedMediaType,
)
from ekiben.serving.rest.http import (
    Disconnected,
    check_json,
    error_response,
    fits_header,
    id_of,
    is_json,
    json_response,
    only_post,
    read_body,
    respond,
    timeout_of,
)

FAULT = RowError(3, "d", 99, "must be a finite number")


def read(messages, *, limit=10, headers=None):
    waiting = iter(messages)

    async def receive():
        return next(waiting)

    return asyncio.run(read_body(receive, headers or {}, limit))


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_one_or_many_pieces():
    assert read([part(b"0123456789")]) == b"0123456789"
    assert read([part(b"012", more=True), part(b"", more=True), part(b"345")]) == b"012345"
    assert read([part(b"0", more=True), {"type": "http.request"}]) == b"0"
    assert read([{"type": "http.request"}]) == b""
    assert read([part(b"01")], headers={b"content-length": b"10"}) == b"01"


@pytest.mark.parametrize(
    "messages", [[part(b"01234567890")], [part(b"01234567890", more=True)], [part(b"012345", more=True), part(b"678901", more=True)]]
)
def test_a_body_over_the_limit_is_not_read_further(messages):
    with pytest.raises(PayloadTooLarge, match="more than 10 bytes"):
        read(messages)


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read():
    with pytest.raises(PayloadTooLarge, match="has 11 bytes; the limit is 10"):
        read([], headers={b"content-length": b"11"})
    with pytest.raises(PayloadTooLarge):
        read([], headers={b"content-length": b"9" * 5000})


@pytest.mark.parametrize("length", [b"ten", b"-1", b"", b"1.5"])
def test_a_length_that_is_no_number(length):
    with pytest.raises(InvalidRequest, match="Content-Length"):
        read([part(b"")], headers={b"content-length": length})


@pytest.mark.parametrize("messages", [[{"type": "http.disconnect"}], [part(b"0", more=True), {"type": "http.disconnect"}]])
def test_a_client_that_goes_away(messages):
    with pytest.raises(Disconnected):
        read(messages)


def test_only_post():
    only_post({"method": "POST", "path": "/x"})
    with pytest.raises(MethodNotAllowed, match="/x takes POST, not PUT") as refusal:
        only_post({"method": "PUT", "path": "/x"})
    assert refusal.value.allow == "POST"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/vnd.x+json", True),
        (b"text/csv", False),
        (b"application/jsonp", False),
        (b"multipart/form-data; boundary=x", False),
    ],
)
def test_what_is_json(content_type, expected):
    headers = {} if content_type is None else {b"content-type": content_type}
    assert is_json(headers) is expected
    if expected:
        check_json(headers)
    else:
        with pytest.raises(UnsupportedMediaType, match="application/json"):
            check_json(headers)


def test_what_is_compressed_is_refused():
    check_json({b"content-encoding": b"Identity"})
    with pytest.raises(UnsupportedMediaType, match="'gzip'"):
        check_json({b"content-encoding": b"gzip"})


def test_timeouts():
    assert timeout_of({}) is None
    assert timeout_of({b"x-request-timeout-ms": b"1.5"}) == 1.5
    for bad in (b"soon", b"0", b"-1", b"nan", b"inf", b"", b"\xff"):
        with pytest.raises(InvalidRequest, match="X-Request-Timeout-Ms"):
            timeout_of({b"x-request-timeout-ms": bad})


def test_request_ids():
    assert id_of({}) is None
    assert id_of({b"x-request-id": b"a b-1"}) == "a b-1"
    for bad in (b"", b"a\x00", b"\xe9", b"x" * 129):
        with pytest.raises(InvalidRequest, match="X-Request-Id"):
            id_of({b"x-request-id": bad})
    assert fits_header("x" * 128)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("no"), 400, []),
        (UnknownModel("no"), 404, []),
        (MethodNotAllowed("no", "GET, HEAD"), 405, [(b"allow", b"GET, HEAD")]),
        (PayloadTooLarge("no"), 413, []),
        (UnsupportedMediaType("no"), 415, []),
        (InvalidRows([FAULT]), 422, []),
        (NotReady("no"), 503, [(b"retry-after", b"1")]),
        (QueueFull("no", retry_after_s=2.1), 503, [(b"retry-after", b"3")]),
        (DeadlineExceeded("no"), 504, []),
        (PredictionFailed("no"), 500, []),
        (RequestError("no"), 500, []),
    ],
)
def test_each_error_has_its_status_and_all_have_one_form(error, status, headers):
    response = error_response(error)
    assert response.status == status
    assert response.headers == headers
    body = json.loads(response.body)
    assert body["error"] == str(error)
    assert set(body) == ({"error", "details"} if error.details else {"error"})


def test_details_say_row_field_value_and_rule():
    body = json.loads(error_response(InvalidRows([FAULT])).body)
    assert body["details"] == [{"row": 3, "field": "d", "value": 99, "rule": "must be a finite number"}]


@pytest.mark.parametrize("closing", [False, True])
def test_an_answer_tells_its_length_and_whether_to_come_back_over_this_connection(closing):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(respond(send, json_response({"a": 1}, 201), closing=closing))
    start, body = sent
    headers = dict(start["headers"])
    assert start["status"] == 201
    assert body["body"] == b'{"a":1}'
    assert headers[b"content-length"] == b"7"
    assert headers[b"content-type"] == b"application/json"
    assert headers.get(b"connection") == (b"close" if closing else None)
