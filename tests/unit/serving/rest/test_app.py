import asyncio
import gzip
import json
import zlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.serving.inprocess import Fallback

from ekiben.serving.access_log import AccessLog
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.rest.app import RestApp
from ekiben.serving.rest.platforms import PlatformRoutes
from ekiben.settings import Settings

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}
V1 = "/v1/models/tiny:predict"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ok(serving, **headers):
    return serving.predict("tiny", [ROW], headers=headers)


# who answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/docs.json", "/metrics", "/livez", "/v3", "/tinyx", "/tiny/", "/static_content/x", "/readyz/x"])
def test_paths_that_are_not_the_data_planes_are_the_fallbacks(steady, path):
    for method in ("GET", "POST"):
        assert steady.request(method, path).status_code == 418
    assert steady.fallback.scopes[-1]["path"] == path


def test_lifespan_and_websockets_are_the_fallbacks(steady):
    for kind in ("lifespan", "websocket"):
        steady.thread.run(steady.server.app({"type": kind, "path": V1}, None, None))
        assert steady.fallback.scopes[-1]["type"] == kind


def test_a_content_type_that_bentoml_cannot_decode_is_refused_before_it_tries(steady):
    answer = steady.request("GET", "/docs.json", headers={"content-type": b"text/\xff"})
    assert answer.status_code == 415
    assert answer.json() == {"error": "Content-Type must be ASCII"}


def test_a_connection_that_uvicorn_has_closed_is_no_error(steady):
    def send_failing(text):
        async def send(_):
            raise RuntimeError(text)

        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/readyz", "headers": []}
        steady.thread.run(steady.server.app(scope, None, send))

    send_failing("unable to perform operation on <TCPTransport>; the handler is closed")
    with pytest.raises(RuntimeError, match="something else"):
        send_failing("something else")


# statuses ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/models/ghost:predict", "there is no model 'ghost'; this server has tiny, plane, grid"),
        ("/v2/models/ghost/infer", "there is no model 'ghost'"),
        ("/v1/models/tiny/versions/9:predict", "version '9' of tiny is not loaded; loaded: 1"),
        ("/v2/models/tiny/versions/9/infer", "version '9'"),
        ("/v1/models/tiny:explain", "no route"),
        ("/v1/models/tiny:predict/", "no route"),
        ("/v2/models/tiny/infer/more", "no route"),
        ("/v1", "no route"),
        ("/v2/nothing", "no route"),
    ],
)
def test_404(steady, path, says):
    answer = steady.post(path, json={"instances": [ROW]}, headers={"x-request-id": "r-1"})
    assert answer.status_code == 404
    assert says in answer.json()["error"]
    assert "x-model-version" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
@pytest.mark.parametrize("path", [V1, "/v2/models/tiny/infer", "/v1/models/ghost:predict", "/v2/models/tiny/versions/9/infer"])
def test_405_on_an_inference_path(steady, path, method):
    answer = steady.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/health/live", "/readyz", "/v2/models/tiny", "/v1/models", "/v1/models/tiny/ready"])
def test_405_on_a_metadata_path(steady, path):
    for method in ("POST", "DELETE"):
        answer = steady.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD"
    assert steady.request("HEAD", path).status_code == 200


def test_413_by_the_declared_length_and_by_what_comes(start, registry, tiny_artifact):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny", max_body_bytes=2000)
    assert serving.predict("tiny", [ROW] * 100).status_code == 413

    async def pieces():
        for _ in range(10):
            yield b" " * 500

    assert serving.post(V1, content=pieces()).status_code == 413
    # One message, no length: nothing says how long it is before it is there.
    status, body = serving.raw(V1, [{"type": "http.request", "body": b" " * 2001}])
    assert status == 413
    assert "EKIBEN_MAX_BODY_BYTES" in body["error"]
    exact = json.dumps({"instances": [ROW]}).encode().ljust(2000)
    assert serving.post(V1, content=exact).status_code == 200
    assert serving.metric("ekiben_predictions_total", status="invalid") == 3
    assert serving.metric("ekiben_prediction_errors_total", error="PayloadTooLarge") == 3


def test_a_length_that_is_no_number_is_400(steady):
    status, body = steady.raw(V1, [{"type": "http.request", "body": b""}], {b"content-length": b"many"})
    assert status == 400
    assert "Content-Length" in body["error"]


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/csv"}, {"content-type": "application/octet-stream"}, {"content-encoding": "br"}],
)
def test_415(serving, headers):
    answer = serving.post(V1, content=json.dumps({"instances": [ROW]}), headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"] or "there are gzip, deflate and identity" in answer.json()["error"]
    assert serving.metric("ekiben_predictions_total", model="tiny", status="invalid") == 1


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("path", [V1, "/tiny", "/v2/models/tiny/infer"])
def test_compressed_both_ways(steady, tiny_rows, path, encoding, pack):
    rows = tiny_rows(100)
    columns = [{"name": n, "datatype": "FP32", "shape": [100], "data": [r[n] for r in rows]} for n in "abcd"]
    body = json.dumps({"instances": rows, "inputs": columns, "id": "7"}).encode()
    plain = steady.post(path, content=body, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = steady.post(path, content=pack(body), headers={"content-encoding": encoding, "accept-encoding": encoding})
    assert packed.headers["content-encoding"] == encoding
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.json() == plain.json()


def test_a_compressed_body_that_is_none_or_cut_off_or_too_large(start, registry, tiny_artifact):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny", max_body_bytes=2000)
    good = json.dumps({"instances": [ROW]}).encode()
    for bad, status in ((good, 400), (gzip.compress(good)[:-1], 400), (b"", 400), (gzip.compress(good.ljust(2001)), 413)):
        answer = serving.post(V1, content=bad, headers={"content-encoding": "gzip", "x-request-id": "r-1"})
        assert answer.status_code == status, answer.text
        assert answer.headers["x-request-id"] == "r-1"
    assert serving.post(V1, content=gzip.compress(good.ljust(2000)), headers={"content-encoding": "gzip"}).status_code == 200
    assert serving.metric("ekiben_predictions_total", status="invalid") == 4


def test_an_error_is_not_compressed(steady):
    answer = steady.post(V1, content=b"x" * 5000, headers={"accept-encoding": "gzip"})
    assert answer.status_code == 400
    assert "content-encoding" not in answer.headers


def test_json_by_any_of_its_names(steady):
    content = json.dumps({"instances": [ROW]})
    for kind in ("application/json; charset=utf-8", "application/cloudevents+json", None):
        headers = {} if kind is None else {"content-type": kind}
        assert steady.post(V1, content=content, headers=headers).status_code == 200


def test_400_for_headers_that_make_no_sense(steady):
    for timeout in ("soon", "-1", "0", "nan", "inf"):
        answer = ok(steady, **{"x-request-timeout-ms": timeout})
        assert answer.status_code == 400
        assert "X-Request-Timeout-Ms" in answer.json()["error"]
    answer = ok(steady, **{"x-request-id": "x" * 200})
    assert answer.status_code == 400
    assert answer.headers["x-request-id"] != "x" * 200


def test_504_when_the_deadline_has_passed(serving):
    answer = ok(serving, **{"x-request-timeout-ms": "0.000001"})
    assert answer.status_code == 504
    assert "deadline" in answer.json()["error"]
    assert ok(serving, **{"x-request-timeout-ms": "60000"}).status_code == 200
    assert serving.metric("ekiben_predictions_total", model="tiny", status="expired") == 1


def test_500_says_what_kind_and_the_log_says_more(serving, caplog, monkeypatch):
    (route,) = [r for path, r in serving.server.app._routes.items() if path == V1]

    def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(route._codec, "encode", fail)
    answer = ok(serving, **{"x-request-id": "r-1"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed: ZeroDivisionError; its log says more"}
    assert answer.headers["x-request-id"] == "r-1"
    assert "secret" in caplog.text


def test_500_before_a_version_was_found(serving, caplog, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(serving.server.plane, "admit", fail)
    assert ok(serving).status_code == 500


def test_503_when_a_model_is_not_ready_and_the_others_answer(start, registry, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    serving = start("ghost", "plane")
    for path in ("/v1/models/ghost:predict", "/v2/models/ghost/infer", "/ghost"):
        answer = serving.post(path, json={"instances": [[1]]}, headers={"x-request-id": "r-1", "traceparent": PARENT})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["x-request-id"] == "r-1"
        assert answer.headers["traceparent"] == PARENT
        assert "ghost is not ready: there is no model 'ghost' in the store" in answer.json()["error"]
    assert serving.get("/ghost").status_code == 418
    assert serving.predict("plane", [[1, 2, 3]]).status_code == 200


def test_a_client_that_goes_away_gets_no_answer(serving):
    assert serving.raw(V1, [{"type": "http.disconnect"}]) == (None, None)
    half = {"type": "http.request", "body": b"{", "more_body": True}
    assert serving.raw(V1, [half, {"type": "http.disconnect"}]) == (None, None)
    assert ok(serving).status_code == 200


# headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_request_id_is_the_headers_or_made(steady):
    answer = ok(steady, **{"x-request-id": "r-1"})
    assert answer.headers["x-request-id"] == answer.json()["id"] == "r-1"
    made = [ok(steady).json()["id"] for _ in range(3)]
    assert len(set(made)) == 3
    bad = steady.post(V1, content=b"{", headers={"x-request-id": "r-2"})
    assert bad.headers["x-request-id"] == "r-2"
    assert steady.get(V1, headers={"x-request-id": "r-3"}).headers["x-request-id"] == "r-3"
    assert steady.post(V1, content=b"{").headers["x-request-id"]


def test_version_and_traceparent_are_echoed_on_errors_too(steady):
    for answer in (ok(steady, traceparent=PARENT), steady.post(V1, content=b"{", headers={"traceparent": PARENT})):
        assert answer.headers["x-model-version"] == "1"
        assert answer.headers["x-model-arm"] == "champion"
        assert answer.headers["traceparent"] == PARENT
        assert "connection" not in answer.headers


def test_while_draining_it_answers_and_asks_to_close_the_connection(serving):
    serving.server.plane.draining = True
    answer = ok(serving)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert serving.get("/v2/models/tiny").headers["connection"] == "close"
    ready = serving.get("/readyz")
    assert ready.status_code == 503
    assert ready.headers["retry-after"] == "2"
    assert "stopping" in ready.json()["error"]


# nasty bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────

DEEP = [b'{"instances": [' + b"[" * n + b"]" * n + b"]}" for n in (10, 100, 980, 1100, 5000)]
NASTY = [
    *DEEP,
    b'{"a":' * 5000,
    b'{"instances": [' + b'{"a":' * 990 + b"1" + b"}" * 990 + b"]}",
    b'{"instances": [{"a": ' + b"9" * 400 + b', "b": 1, "c": 1, "d": 1}]}',
    b'{"instances": [{"a": ' + b"9" * 4299 + b', "b": 1, "c": 1, "d": 1}]}',
    b'{"instances": [{"a": ' + b"9" * 5000 + b', "b": 1, "c": 1, "d": 1}]}',
    b'{"instances": [' + b"9" * 4300 + b"]}",
    b'{"instances": [[1,2,3,1]], "id": ' + b"9" * 4300 + b"}",
    b'{"instances": [[NaN,1,1,1]]}',
    b'{"instances": [[Infinity,1,1,1]]}',
    b'{"instances": [[1e400,1,1,1]]}',
    b'{"instances": [[-1e39,1,1,1]]}',
    b'{"instances": [[1e-400,1,1,1]]}',
    b'{"instances": [[1,1,1,1],]}',
    b'{"instances": [[1,1,1,"\\ud800"]]}',
    b'{"instances": [[1,1,1,"\xff"]]}',
    b'{"instances": [{"\xff": 1}]}',
    b'{"instances": [{"\\u0000": 1}]}',
    b'{"instances": [{"a": 1, "a": "x", "b": 1, "c": 1, "d": 1}]}',
    b'{"instances": [[1,1,1,1]], "id": "\xff"}',
    b'{"instances": [[1,1,1,1]], "id": ""}',
    b'{"instances": [[1,1,1,1]], "id": [' + b"[" * 990 + b"]" * 991 + b"}",
    b"\xef\xbb\xbf{}",
    b'{"instances": [[1,1,1,1]]}\x00',
    b'\xff\xfe{\x00"\x00',
    b'{"inputs": [{"name": "a", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}',
    b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [' + b"9" * 4300 + b'], "data": []}]}',
    b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [0, ' + b",".join([b"9" * 4200] * 3) + b'], "data": []}]}',
    b'{"inputs": [{"name": "a", "datatype": "INT64", "shape": [1], "data": [' + b"9" * 4200 + b"]}]}",
    b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [], "data": []}]}',
    b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [0, 4], "data": []}]}',
    b'{"inputs": [{"name": "m", "datatype": "BOOL", "shape": [1, 4], "data": [true, true, true, true]}]}',
    b'{"inputs": [{"name": "m", "datatype": "BYTES", "shape": [1, 4], "data": ["1", "2", "3", "4"]}]}',
    b'{"inputs": [{"name": "m", "datatype": "UINT64", "shape": [1, 3], "data": [18446744073709551615, 1, 1]}]}',
    b'{"inputs": [{"name": "image", "datatype": "FP64", "shape": [1, 2, 3], "data": [1e308, 1, 1, 1, 1, null]}]}',
    b'{"inputs": [{"name": "image", "datatype": "FP16", "shape": [1, 2, 3], "data": [1e5, 1, 1, 1, 1, 1]}]}',
    b'{"instances": [[[1, 2, 3], [4, 5, 1e39]]]}',
    b'{"instances": [[[1, 2, 3], [4, 5]]]}',
    b'{"instances": [[[1, 2, 3], [4, 5, null]]]}',
    b'{"instances": [{"image": {}}]}',
    b'{"instances": [[], []]}',
]
PATHS = [
    V1, "/v1/models/plane:predict", "/v1/models/grid:predict", "/tiny", "/grid",
    "/v2/models/tiny/infer", "/v2/models/plane/infer", "/v2/models/grid/infer",
]  # fmt: skip


def check_never_5xx(serving, path, body):
    answer = serving.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 422), (path, body[:200], answer.text[:500])
    if answer.status_code != 200:
        assert answer.json()["error"]
    return answer.status_code


def test_no_body_gives_a_5xx(steady):
    seen = [check_never_5xx(steady, path, body) for body in NASTY for path in PATHS]
    assert {200, 400, 422} == set(seen)
    assert ok(steady).status_code == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "d", "image", "x"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
v2_inputs = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["a", "b", "c", "d", "x", "image", "m"]),
            "datatype": st.sampled_from(["BOOL", "INT8", "UINT64", "INT64", "FP16", "FP32", "FP64", "BYTES", "X"]),
            "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
            "data": st.lists(st.integers(-300, 300) | st.floats() | st.none() | st.text(max_size=2), max_size=8) | json_values,
        }
    ),
    max_size=4,
)
bodies = st.one_of(
    st.fixed_dictionaries({"instances": st.lists(json_values, max_size=4) | json_values, "id": json_values}),
    st.fixed_dictionaries({"inputs": v2_inputs | json_values}, optional={"id": json_values, "outputs": json_values}),
    json_values,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(body=bodies.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40), path=st.sampled_from(PATHS))
def test_whatever_the_body_no_5xx(steady, body, path):
    check_never_5xx(steady, path, body)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), insert=st.binary(max_size=3), cut=st.integers(0, 4), path=st.sampled_from(PATHS))
def test_a_good_body_with_a_few_bytes_changed_gives_no_5xx(steady, tiny_rows, at, insert, cut, path):
    image = {"name": "image", "datatype": "FP32", "shape": [1, 2, 3], "data": [1, 2, 3, 4, 5, 6]}
    body = json.dumps({"instances": tiny_rows(2), "inputs": [image], "id": "x"}).encode()
    at %= len(body)
    check_never_5xx(steady, path, body[:at] + insert + body[at + cut :])


# notes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_request_is_noted_with_how_it_ended(serving):
    lines = []
    app = serving.server.app
    app.access_log = AccessLog(1.0, lines.append, wall=lambda: 12.5)
    ok(serving, **{"x-request-id": "r-1", "traceparent": PARENT})
    serving.post(V1, content=b"{", headers={"x-request-id": "r-2"})
    serving.post("/v1/models/ghost:predict", content=b"{", headers={"x-request-id": "r-3"})
    serving.get("/readyz")
    asyncio.run(app.access_log.stop())
    found = [msgspec.json.decode(line) for line in b"".join(lines).splitlines()]
    assert all(line.pop("duration_ms") >= 0 for line in found)
    common, tiny = {"time": 12.5, "logger": "ekiben.access"}, {"model": "tiny", "version": "1", "arm": "champion"}
    assert found == [
        {**common, "path": V1, "status": 200, "request_id": "r-1", "traceparent": PARENT, **tiny},
        {**common, "path": V1, "status": 400, "request_id": "r-2", **tiny},
        {**common, "path": "/v1/models/ghost:predict", "status": 404, "request_id": "r-3", "model": "ghost", "version": None, "arm": None},
    ]


def test_nothing_is_noted_when_the_log_does_not_want_it(start, registry, tiny_artifact, capfd):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny", access_log_rate=0.0)
    ok(serving, **{"x-request-id": "r-quiet"})
    serving.stop()
    assert '"r-quiet"' not in capfd.readouterr().out


def test_before_any_model_is_loaded_nothing_answers_and_says_so(registry, tmp_path):
    from prometheus_client import CollectorRegistry

    from ekiben.guards.auth import Authenticator
    from ekiben.guards.gate import open_gate
    from ekiben.monitoring.metrics import Metrics
    from ekiben.serving.control_link import ControlLink
    from ekiben.serving.host import Host
    from ekiben.serving.repository import Repository
    from ekiben.state import memory_control

    metrics = Metrics(CollectorRegistry())
    control = memory_control(aliases=registry.aliases)
    host = Host(["tiny"], registry, control, metrics, link=ControlLink(metrics, metrics.wall))
    plane = DataPlane(host, lambda: 0.0)
    settings = Settings(home=tmp_path, database_url="sqlite://", workers=1)
    platforms = PlatformRoutes(settings)
    gate = open_gate(settings, Authenticator.of(settings, control), metrics.limits, folder=tmp_path)
    app = RestApp(
        plane, Fallback(), gate=gate, platforms=platforms, models=Repository(host, registry, allowed=False),
        clock=lambda: 0.0, max_body_bytes=100,
        access_log=AccessLog(0, print), tracer=None,
    )  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": V1, "headers": []}, None, send))
    assert sent[0]["status"] == 503
    assert b"is being loaded" in sent[1]["body"]


def test_the_root_is_a_page_for_browsers_and_a_sign_of_life_for_programs(steady):
    assert steady.get("/", headers={"accept": "text/html,application/xhtml+xml"}).status_code == 418
    assert steady.get("/").json() == {"status": "alive"}
    assert steady.post("/").status_code == 418
