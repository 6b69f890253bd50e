"""Mutated requests over REST: V2 binary, V2 JSON, V1, the typed endpoints, the platforms' paths, the repository, health."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import quote

from integration.fuzzing import corpus
from integration.fuzzing.corpus import HttpRequest
from integration.fuzzing.mutations import NUMBERS, TEXTS, encoded, mutated_bytes, mutated_json, weird

TENSORS = corpus.tensors()
BINARY = [corpus.v2_binary(valid) for valid in TENSORS]
JSON = ("content-type", "application/json")
SHAPES = (
    [],
    [0],
    [-1],
    [2**31 - 1],
    [2**62, 4],
    [0, 2**31 - 1, 2**31 - 1],
    [1] * 17,
    [1] * 33,
    [2],
    [2, 2],
    [3, 1, 1],
    [1.0],
    [[1]],
    None,
    "1",
    [True],
    [2**70],
)
DATATYPES = ("BF16", "FP16", "FP8", "bool", "", "STRING", "OBJECT", None, 1, "BYTES", "UINT64", "INT8", "FP64", "é" * 400)
OUTPUTS = (
    [], [{}], [{"name": "nothing"}], [{"name": "prediction"}] * 3, [{"name": "probabilities", "parameters": {"classification": 10**20}}],
    [{"name": "probabilities", "parameters": {"classification": -1}}], [{"name": "prediction", "parameters": {"classification": 1}}],
    [{"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}}],
    [{"name": "y", "parameters": {"binary_data": "yes"}}],
    [{"name": "out_STRING", "parameters": {"binary_data": True}}, {"name": "out_FLOAT16"}], "y", None, 1, [None], [["y"]],
    [{"name": "out_BOOL", "parameters": {"classification": 2}}], [{"name": "out_FLOAT16", "parameters": {"classification": 2}}],
    [{"name": "out_UINT64", "parameters": {"classification": 99}}],
)  # fmt: skip
PARAMETERS = (
    None, [], {"timeout": -1}, {"timeout": 0}, {"timeout": 1e308}, {"timeout": 10**400}, {"timeout": "5"}, {"sequence_id": 1},
    {"sequence_id": "s"},
    {"sequence_id": 10**30}, {"binary_data_output": 1}, {"binary_data_output": True}, {"": None}, {"timeout": 10**12}, {"priority": {}},
)  # fmt: skip
HEADERS = (
    "content-type", "accept", "accept-encoding", "content-encoding", "x-request-id", "traceparent", "x-request-timeout-ms",
    "inference-header-content-length",
    "x-amzn-sagemaker-target-variant", "x-amzn-sagemaker-inference-id", "x-amzn-sagemaker-custom-attributes", "x-ms-request-id", "range",
    "origin",
    "if-match", "accept-language", "expect-ct", "forwarded", "cookie", "authorization", "te", "upgrade-insecure-requests",
)  # fmt: skip
VALUES = (
    "", " ", "0", "-1", "1e9", "nan", "1_0", "\uff11", "é", "\xff", "gzip", "deflate, gzip;q=0", "*;q=x", "identity", "gzip, gzip", "*/*",
    "text/csv;q=9", "text/csv",
    "application/x-npy", "application/jsonlines", "a" * 200, "a" * 7000, "\t", ";;;,,,", "application/json;charset=utf-16",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "multipart/form-data", "application/vnd.bentoml+pickle", "00-" + "0" * 32 + "-" + "0" * 16 + "-00",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "application/octet-stream", "99999999999999999999", "application/grpc",
    "text/event-stream",
)  # fmt: skip
PATHS = (
    "/v2/models/%00/infer", "/v2/models/tiny/versions/9/infer", "/v2/models/tiny/versions//infer", "/v2/models//infer",
    "/v2/models/tiny%2Finfer", "/v1/models/tiny:predict:predict",
    "/v1/models/%F0%9F%8D%B1:predict", "/v2/models/%ff/infer", "/v2/repository/models/tiny/load", "/v2/repository/models/x/unload",
    "/v2/repository/index",
    "/v2/models/tiny/stats", "/v2/models/tiny/config", "/v2/models/stats", "/v2/health/ready", "/v2", "/v2/", "/v2/models/tiny/ready",
    "/v1/models/tiny", "/readyz",
    "/v2/models/tiny/infer?x=%25", "/ping", "/version", "//v2/models/tiny/infer", "/v2/models/tiny/infer/",
    "/v2/models/" + "a" * 3000 + "/infer", "/v1/", "/v2/x",
    "/v2/models/tiny/versions/1/stats", "/v2/models/tiny%0a/infer", "/v1/models/tiny%0a:predict", "/v2/models/tiny/infer%0a",
)  # fmt: skip


def v2_body(rng: Random) -> HttpRequest:
    """A mutated body of V2 with binary tensors."""
    at = rng.randrange(len(TENSORS))
    model = TENSORS[at].model
    head, blobs = BINARY[at]
    if rng.random() < 0.45:
        head = _changed_head(rng, head)
    if rng.random() < 0.5:
        head = mutated_json(rng, head)
    tail = b"".join(blobs)
    if rng.random() < 0.4:
        tail = mutated_bytes(rng, tail)
    text = encoded(head)
    length = str(len(text))
    body = text + tail
    if rng.random() < 0.3:
        body = mutated_bytes(rng, body, [b"".join(b) for _, b in BINARY])
    if rng.random() < 0.2:
        length = rng.choice((str(len(text) + rng.choice((-1, 1, 10))), "0", str(len(body)), "-1", "", "1" * 30, "0x10", "1.0", "٣"))
    headers = [("content-type", "application/octet-stream")]
    if rng.random() < 0.95:
        headers.append(("inference-header-content-length", length))
    return _packed(rng, HttpRequest("POST", _infer(rng, model), headers, body, has_deadline=b"timeout" in text))


def _changed_head(rng: Random, head: dict[str, Any]) -> dict[str, Any]:
    """Changes that look like the protocol and are not."""
    inputs = [dict(item) for item in head["inputs"]]
    item = rng.choice(inputs)
    head = {**head, "inputs": inputs}
    choice = rng.randrange(8)
    if choice == 0:
        item["shape"] = rng.choice(SHAPES)
    elif choice == 1:
        item["datatype"] = rng.choice(DATATYPES)
    elif choice == 2:
        item["parameters"] = {
            "binary_data_size": rng.choice((*NUMBERS, 10**400, 1.5, "4", None, item["parameters"]["binary_data_size"] - 1))
        }
    elif choice == 3:
        item["name"] = rng.choice((*TEXTS, rng.choice(inputs)["name"]))
    elif choice == 4:
        head["outputs"] = rng.choice(OUTPUTS)
    elif choice == 5:
        head["parameters"] = rng.choice(PARAMETERS)
    elif choice == 6:
        head["id"] = weird(rng)
    else:
        shape = item["shape"]
        # As many elements, in another shape: what the bytes do not tell.
        item["shape"] = rng.choice(([*shape, 1], [1, *shape], shape[::-1], [int(abs(_product(shape)))], [0, *shape]))
    return head


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _infer(rng: Random, model: str) -> str:
    return f"/v2/models/{model}{'/versions/1' if model == 'tiny' and rng.random() < 0.3 else ''}/infer"


def v2_text(rng: Random) -> HttpRequest:
    """A mutated body of V2 in JSON."""
    valid = rng.choice(TENSORS)
    value = corpus.v2_json(valid)
    if rng.random() < 0.3:
        item = rng.choice(value["inputs"])
        item["data"] = rng.choice(([], [[]], [[1], [2, 3]], [None], ["a", 1], [True], [1e39], [10**30], [[[[1]]]], [-1] * 2, {}, "x", 1))
        if rng.random() < 0.3:
            item["shape"] = rng.choice(SHAPES)
    if rng.random() < 0.2:
        value["outputs"] = rng.choice(OUTPUTS)
    if rng.random() < 0.7:
        value = mutated_json(rng, value)
    return _json_request(rng, _infer(rng, valid.model), value)


def v1_text(rng: Random) -> HttpRequest:
    """A mutated body of V1, to V1's path or to the typed endpoint."""
    valid = rng.choice(TENSORS)
    value = mutated_json(rng, {"instances": corpus.rows(valid), "id": "c-1"})
    return _json_request(rng, rng.choice((f"/v1/models/{valid.model}:predict", f"/{valid.model}")), value)


def platform(rng: Random) -> HttpRequest:
    """A mutated body of a hosting platform."""
    path = rng.choice(("/invocations", "/score"))
    accept = [("accept", rng.choice(("*/*", "text/csv", "text/csv;header=present", "application/x-npy", "application/jsonlines")))]
    if rng.random() < 0.5:
        request = _json_request(rng, path, mutated_json(rng, rng.choice(corpus.platform_json())))
        return request._replace(headers=[*request.headers, *accept])
    bodies = corpus.platform_bodies()
    kind, body = rng.choice(bodies)
    body = mutated_bytes(rng, body, [other for _, other in bodies])
    if rng.random() < 0.1:
        kind = rng.choice(bodies)[0]
    return _packed(rng, HttpRequest("POST", path, [("content-type", kind), *accept], body))


def form(rng: Random) -> HttpRequest:
    """A mutated form, which typed endpoints take."""
    valid = rng.choice(TENSORS)
    value = encoded(mutated_json(rng, corpus.rows(valid)) if rng.random() < 0.5 else corpus.rows(valid))
    if rng.random() < 0.3:
        kind, body = (
            "application/x-www-form-urlencoded",
            b"instances=" + quote(value).encode() + rng.choice((b"", b"&x", b"&id=%ff", b"&=")),
        )
    else:
        kind = rng.choice(("multipart/form-data; boundary=x", "multipart/form-data;boundary=y", "multipart/form-data"))
        file = rng.choice((b"", b'; filename="f"', b'; filename="\xff"\r\ncontent-type: x'))
        body = b'--x\r\ncontent-disposition: form-data; name="instances"' + file + b"\r\n\r\n" + value + b"\r\n--x--\r\n"
    return HttpRequest("POST", f"/{valid.model}", [("content-type", kind)], mutated_bytes(rng, body) if rng.random() < 0.7 else body)


def head_only(rng: Random) -> HttpRequest:
    """A sound body, with headers, methods and paths that are not."""
    valid = rng.choice(TENSORS)
    path = rng.choice((_infer(rng, valid.model), f"/v1/models/{valid.model}:predict", f"/{valid.model}", "/invocations"))
    value: Any = corpus.v2_json(valid) if path.endswith("infer") else {"instances": corpus.rows(valid)}
    headers = [JSON] if rng.random() < 0.7 else []
    headers += [(rng.choice(HEADERS), rng.choice(VALUES)) for _ in range(rng.choice((1, 1, 2)))]
    method = "POST"
    if rng.random() < 0.3:
        method = rng.choice(("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY", "post"))
    if rng.random() < 0.3:
        path, value = rng.choice(PATHS), rng.choice((value, {}, {"parameters": weird(rng)}, {"ready": weird(rng)}, weird(rng)))
    body = encoded(value) if method != "GET" else b""
    has_deadline = any(name == "x-request-timeout-ms" for name, _ in headers)
    return HttpRequest(method, path, headers, body, has_deadline)


def _json_request(rng: Random, path: str, value: Any) -> HttpRequest:
    body = encoded(value)
    has_deadline = b"timeout" in body
    if rng.random() < 0.2:
        body = mutated_bytes(rng, body)
    return _packed(rng, HttpRequest("POST", path, [JSON], body, has_deadline))


def _packed(rng: Random, request: HttpRequest) -> HttpRequest:
    """Some are compressed, and some of those are damaged."""
    if rng.random() > 0.12:
        return request
    encoding = rng.choice(("gzip", "deflate"))
    body = gzip.compress(request.body, 1) if encoding == "gzip" else zlib.compress(request.body)
    if rng.random() < 0.6:
        body = mutated_bytes(rng, body)
    if rng.random() < 0.05:
        body = gzip.compress(bytes(20_000_000), 9)
        encoding = "gzip"
    headers = [*request.headers, ("content-encoding", encoding), ("accept-encoding", rng.choice(("gzip", "deflate", "*", "gzip;q=0")))]
    return request._replace(headers=headers, body=body)


def other(rng: Random) -> HttpRequest:
    """Any of those that are not V2 with binary tensors."""
    kinds: tuple[Callable[[Random], HttpRequest], ...] = (v2_text, v1_text, platform, form, head_only)
    return rng.choice(kinds)(rng)
