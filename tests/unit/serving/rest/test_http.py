import asyncio
import gzip
import json
import zlib

import pytest

from ekiben.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    InvalidRows,
    LoadFailed,
    MethodNotAllowed,
    NotAcceptable,
    NotReady,
    PayloadTooLarge,
    PredictionFailed,
    QueueFull,
    ReadTimeout,
    RequestError,
    RowError,
    UnknownModel,
    UnsupportedMediaType,
)
from ekiben.serving.compression import SMALLEST_BYTES
from ekiben.serving.rest.http import (
    Disconnected,
    Response,
    check_json,
    compressed,
    decoded_body,
    error_response,
    fits_header,
    id_of,
    is_json,
    json_response,
    only_post,
    read_body,
    respond,
    skip_body,
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


@pytest.mark.parametrize(
    ("version", "length", "expected"),
    [("2", b"6", 2), ("1.1", b"6", 0), ("2", None, 0), ("2", b"many", 0), ("2", b"9" * 30, 0), (None, b"6", 0)],
)
def test_a_small_body_is_skipped_over_http2(version, length, expected):
    waiting = [part(b"012", more=True), part(b"345")]

    async def receive():
        return waiting.pop(0)

    scope = {} if version is None else {"http_version": version}
    asyncio.run(skip_body(scope, receive, {} if length is None else {b"content-length": length}))
    assert 2 - len(waiting) == expected


@pytest.mark.parametrize("message", [{"type": "http.disconnect"}, part(b"x" * 10_000_001)], ids=["gone", "large"])
def test_skipping_a_body_never_fails(message):
    async def receive():
        return message

    asyncio.run(skip_body({"http_version": "2"}, receive, {b"content-length": b"5"}))


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


# compression ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def decoded(body, encoding, limit=100):
    return asyncio.run(decoded_body(body, {} if encoding is None else {b"content-encoding": encoding}, limit))


@pytest.mark.parametrize("encoding", [None, b"", b"identity", b"Identity", b" identity "])
def test_a_body_that_is_not_compressed(encoding):
    assert decoded(b"x" * 200, encoding) == b"x" * 200


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(b"abc", mtime=0)),
        (b"GZip ", gzip.compress(b"abc", mtime=0)),
        (b"gzip", gzip.compress(b"a", mtime=0) + gzip.compress(b"bc", mtime=0)),
        (b"deflate", zlib.compress(b"abc")),
        (b"deflate", zlib.compress(b"abc")[2:-4]),
    ],
)
def test_a_body_that_is_compressed(encoding, body):
    assert decoded(body, encoding) == b"abc"


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, deflate", b"x", b"\xff"])
def test_an_encoding_that_is_not_known(encoding):
    with pytest.raises(UnsupportedMediaType, match=r"Content-Encoding is .*; there are gzip, deflate and identity"):
        decoded(b"", encoding)


def test_a_body_that_is_not_what_it_says_or_too_large():
    with pytest.raises(InvalidRequest, match="is not gzip"):
        decoded(b"{}", b"gzip")
    with pytest.raises(InvalidRequest, match="cut off"):
        decoded(gzip.compress(b"abc")[:-1], b"gzip")
    with pytest.raises(PayloadTooLarge, match="more than 100 bytes once decompressed"):
        decoded(gzip.compress(bytes(101)), b"gzip")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        (b"", None),
        (b"identity", None),
        (b"br, zstd", None),
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"deflate, gzip", b"deflate"),
        (b"br, GZIP;q=0.5", b"gzip"),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q = 0.000", None),
        (b"gzip;q=0,deflate;q=0", None),
        (b"gzip;q=", b"gzip"),
        (b"gzip;q=x", b"gzip"),
        (b"*", None),
        (b"\xff, gzip", b"gzip"),
    ],
)
def test_a_response_is_compressed_as_the_client_accepts(accept, expected):
    body = b"x" * SMALLEST_BYTES
    headers = {} if accept is None else {b"accept-encoding": accept}
    response = asyncio.run(compressed(Response(200, body, [(b"a", b"b")]), headers))
    found = dict(response.headers)
    assert found[b"a"] == b"b"
    assert found.get(b"content-encoding") == expected
    assert found.get(b"vary") == (None if expected is None else b"accept-encoding")
    unpack = {None: bytes, b"gzip": gzip.decompress, b"deflate": zlib.decompress}[expected]
    assert unpack(response.body) == body


def test_a_small_response_is_not_worth_it():
    response = Response(200, b"x" * (SMALLEST_BYTES - 1))
    assert asyncio.run(compressed(response, {b"accept-encoding": b"gzip"})).headers == []


# headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        (LoadFailed("no"), 400, []),
        (Forbidden("no"), 403, []),
        (UnknownModel("no"), 404, []),
        (MethodNotAllowed("no", "GET, HEAD"), 405, [(b"allow", b"GET, HEAD")]),
        (NotAcceptable("no"), 406, []),
        (ReadTimeout("slow"), 408, []),
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
    assert response.headers == [(b"x-content-type-options", b"nosniff"), *headers]
    body = json.loads(response.body)
    assert body["error"] == str(error)
    assert set(body) == ({"error", "details"} if error.details else {"error"})


def test_details_say_row_field_value_and_rule():
    body = json.loads(error_response(InvalidRows([FAULT])).body)
    assert body["details"] == [{"row": 3, "field": "d", "value": 99, "rule": "must be a finite number"}]


@pytest.mark.parametrize(("closing", "version", "expected"), [(False, "1.1", None), (True, "1.1", b"close"), (True, "2", None)])
def test_an_answer_tells_its_length_and_whether_to_come_back_over_this_connection(closing, version, expected):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(respond({"http_version": version}, send, json_response({"a": 1}, 201), closing=closing))
    start, body = sent
    headers = dict(start["headers"])
    assert start["status"] == 201
    assert body["body"] == b'{"a":1}'
    assert headers[b"content-length"] == b"7"
    assert headers[b"content-type"] == b"application/json"
    assert headers.get(b"connection") == expected


@pytest.mark.parametrize(("status", "version", "closes"), [(408, "1.1", True), (413, "1.1", True), (413, "2", False), (404, "1.1", False)])
def test_an_answer_to_a_body_that_was_not_read_ends_the_connection(status, version, closes):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(respond({"http_version": version}, send, Response(status, b"{}")))

    assert ((b"connection", b"close") in sent[0]["headers"]) == closes


def test_no_browser_takes_an_error_for_a_page():
    assert (b"x-content-type-options", b"nosniff") in error_response(InvalidRequest("<script>")).headers
