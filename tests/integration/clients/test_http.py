"""Plain HTTP: curl over HTTP/1.1 and HTTP/2, requests and httpx; JSON, bare bytes, compressed bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import zlib

import httpx
import numpy as np
import pytest
import requests
from integration.clients.pantry import tiny_probabilities
from integration.clients.tensors import tiny_rows

pytestmark = pytest.mark.processes

ROWS = tiny_rows(3)
VERSIONS = {"--http1.1": "1.1", "--http2-prior-knowledge": "2"}
IMAGE = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


@pytest.fixture
def curl(server, tmp_path):
    """Runs curl on the data port; returns the status, the headers and the body."""

    def run(path: str, *arguments: str, version: str = "--http1.1", data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        head, body = tmp_path / "head", tmp_path / "body"
        command = ["curl", "-sS", version, "-D", head, "-o", body, "-w", "%{http_version}", *arguments, server.data_url + path]
        if data is not None:
            (tmp_path / "data").write_bytes(data)
            command += ["--data-binary", f"@{tmp_path / 'data'}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, VERSIONS[version]), done.stderr
        first, *lines = head.read_bytes().decode().split("\r\n\r\n")[-2].split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers, body.read_bytes()

    return run


def instances(rows: np.ndarray = ROWS) -> bytes:
    return json.dumps({"instances": rows.tolist()}).encode()


def found(body: bytes) -> list[float]:
    return [p["probabilities"]["yes"] for p in json.loads(body)["predictions"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_asks_for_everything_there_is_to_read(curl, version):
    for path in (
        "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready", "/v2/models/tiny/versions/1",
        "/v2/models/tiny/versions/1/ready", "/v2/models/tiny/config", "/v2/models/tiny/stats", "/v2/models/stats", "/v1/models",
        "/v1/models/tiny", "/v1/models/tiny/versions/1", "/readyz", "/livez",
    ):  # fmt: skip
        status, headers, body = curl(path, version=version)
        assert (path, status) == (path, 200)
        assert path == "/livez" or (headers["content-type"] == "application/json" and json.loads(body))
    status, headers, shown = curl("/v2/health/ready", "--head", version=version)
    assert (status, headers["content-length"]) == (200, "14")
    assert shown.endswith(b"\r\n\r\n")  # curl shows the head; no body comes after it


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_predicts(curl, version):
    status, headers, body = curl(
        "/v1/models/tiny:predict", "-H", "Content-Type: application/json", "-H", "X-Request-Id: mine", version=version, data=instances()
    )

    assert (status, headers["x-request-id"], headers["x-model-version"]) == (200, "mine", "1")
    np.testing.assert_allclose(found(body), tiny_probabilities(ROWS)[:, 1], rtol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_curl_compresses(curl, version, encoding, pack):
    rows = tiny_rows(300)
    headers = ["-H", "Content-Type: application/json", "-H", f"Content-Encoding: {encoding}", "-H", f"Accept-Encoding: {encoding}"]

    status, told, body = curl("/v1/models/tiny:predict", *headers, version=version, data=pack(instances(rows)))

    assert (status, told["content-encoding"]) == (200, encoding)
    unpacked = gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body)
    np.testing.assert_allclose(found(unpacked), tiny_probabilities(rows)[:, 1], rtol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_sends_the_bytes_of_the_only_input(curl, version):
    headers = ["-H", "Content-Type: application/octet-stream", "-H", "Inference-Header-Content-Length: 0"]

    status, told, body = curl("/v2/models/image/infer", *headers, version=version, data=IMAGE.tobytes())

    size = int(told["inference-header-content-length"])
    outputs = json.loads(body[:size])["outputs"]
    assert (status, [o["name"] for o in outputs]) == (200, ["doubled", "total"])
    sizes = [o["parameters"]["binary_data_size"] for o in outputs]
    assert len(body) == size + sum(sizes)
    doubled = np.frombuffer(body[size : size + sizes[0]], np.float32).reshape(outputs[0]["shape"])
    assert doubled.tolist() == (2 * IMAGE).tolist()


def test_what_is_too_large_is_refused_before_it_is_sent_and_the_reason_read(curl):
    # NOTE: not over HTTP/2: curl 7.88 takes the RST_STREAM with NO_ERROR behind the whole answer (RFC 9113, 8.1) for a failure.
    status, _, body = curl("/v1/models/tiny:predict", "-H", "Content-Type: application/json", data=b" " * 17_000_000)

    assert (status, "EKIBEN_MAX_BODY_BYTES" in json.loads(body)["error"]) == (413, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_becomes_too_large_is_refused_and_the_reason_read(curl, version):
    headers = ["-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip"]

    status, _, body = curl("/v1/models/tiny:predict", *headers, version=version, data=gzip.compress(b" " * 17_000_000))

    assert (status, "EKIBEN_MAX_BODY_BYTES" in json.loads(body)["error"]) == (413, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_wrong_paths_methods_and_bodies(curl, version):
    as_json = ["-H", "Content-Type: application/json"]
    assert curl("/v2/nothing", version=version)[0] == 404
    assert curl("/v2/models/tiny/infer", version=version)[0] == 405
    assert curl("/v2/health/ready", "-X", "POST", version=version)[0] == 405
    assert curl("/v2/models/ghost/infer", *as_json, version=version, data=b"{}")[0] == 404
    assert curl("/v2/models/tiny/infer", *as_json, version=version, data=b"{")[0] == 400
    assert curl("/v2/models/tiny/infer", "-H", "Content-Type: text/csv", version=version, data=b"1,2")[0] == 415
    too_wide = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 4], "data": [0] * 8}]}).encode()
    assert curl("/v2/models/image/infer", *as_json, version=version, data=too_wide)[0] == 400


def test_curl_upgrades_no_connection(curl):
    """``--http2`` without TLS asks to upgrade; the server may stay with HTTP/1.1, and answers."""
    status, _, body = curl("/v2/health/ready", "-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c")

    assert (status, json.loads(body)) == (200, {"ready": True})


def test_grpc_over_http_1_is_told_apart(curl):
    status, _, _ = curl("/inference.GRPCInferenceService/ServerLive", "-H", "Content-Type: application/grpc", data=b"\0\0\0\0\0")

    assert 400 <= status < 500


@pytest.mark.parametrize("port", ["data_url", "url"])
def test_requests_and_httpx_keep_their_connections(server, port):
    url = getattr(server, port) + "/v1/models/tiny:predict"
    with requests.Session() as session, httpx.Client() as client:
        for n in range(20):
            rows = tiny_rows(2, n)
            for ask in (session.post, client.post):
                np.testing.assert_allclose(
                    found(ask(url, json={"instances": rows.tolist()}).content), tiny_probabilities(rows)[:, 1], rtol=1e-5
                )
        chunked = session.post(url, data=iter([instances()[:20], instances()[20:]]), headers={"Content-Type": "application/json"})
        assert chunked.status_code == 200

    async def many() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            return await asyncio.gather(*(client.post(url, json={"instances": tiny_rows(1, n).tolist()}) for n in range(100)))

    for n, answer in enumerate(asyncio.run(many())):
        np.testing.assert_allclose(found(answer.content), tiny_probabilities(tiny_rows(1, n))[:, 1], rtol=1e-5)


@pytest.mark.parametrize("port", ["data_url", "url"])
def test_bentomls_clients(server, port):
    """In a process of its own: BentoML's client leaves the clean-up of a folder to the interpreter's end."""
    script = (
        "import asyncio, bentoml, json, sys\n"
        "rows = json.loads(sys.argv[2])\n"
        "async def ask():\n"
        "    async with bentoml.AsyncHTTPClient(sys.argv[1]) as client:\n"
        "        return await client.tiny(instances=rows)\n"
        "with bentoml.SyncHTTPClient(sys.argv[1]) as client:\n"
        "    assert client.is_ready()\n"
        "    print(json.dumps([client.tiny(instances=rows), asyncio.run(ask())]))\n"
    )
    records = [dict(zip("abcd", row, strict=True)) for row in ROWS.tolist()]

    asked = subprocess.run(
        [sys.executable, "-c", script, getattr(server, port), json.dumps(records)],
        env=server.project.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert asked.returncode == 0, asked.stderr
    for answers in json.loads(asked.stdout):
        np.testing.assert_allclose([p["probabilities"]["yes"] for p in answers], tiny_probabilities(ROWS)[:, 1], rtol=1e-5)
