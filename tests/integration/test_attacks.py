"""What a hostile client sends to a real server with two workers, and that it hurts only itself.

Each attack is made on both ports where both take it. At the end of each the server answers others, in the same processes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from integration.clients.pantry import fill, wait_for_workers
from integration.fuzzing.http2 import BEGIN, CONTINUATION, END_HEADERS, HEADERS, RST_STREAM, Http2, frame, header_block
from integration.running import Project, Running
from tritonclient.grpc import service_pb2 as pb

pytestmark = pytest.mark.processes

READ_TIMEOUT_S = 2.0
MOST_GROWTH_BYTES = 150 * 2**20
"""Of what 16 MiB, the largest body, may become on its way, and far below what any of these attacks asks for."""

V1 = "/v1/models/tiny:predict"
ROW = [1.0, 2.0, 3.0, 4.0]
GOOD = b'{"instances":[[1,2,3,4]]}'
PREDICT = b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
ALIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("attacks")
    project = Project(root / "project")
    fill(project, root / "files")
    with Running(
        project,
        workers=2,
        EKIBEN_READ_TIMEOUT_S=str(READ_TIMEOUT_S),
        EKIBEN_PLATFORM_MODEL="tiny",
        MALLOC_ARENA_MAX="2",
        MALLOC_MMAP_THRESHOLD_="131072",
        MALLOC_TRIM_THRESHOLD_="131072",
    ) as running:
        wait_for_workers(running, 2)
        yield running


@pytest.fixture(autouse=True)
def _unhurt(server):
    """After each attack: the same workers, no traceback, no growth, and an answer at once."""
    pids = sorted(server.workers())
    before = resident_bytes(pids)
    yield
    assert sorted(server.workers()) == pids
    for port in (server.port, server.data_port):
        for _ in range(2):
            began = time.monotonic()
            assert post(port, V1, GOOD).status_code == 200
            assert time.monotonic() - began < 5
    end = time.monotonic() + 15
    while resident_bytes(pids) - before >= MOST_GROWTH_BYTES and time.monotonic() < end:
        time.sleep(0.5)  # the thread that read a large body gives it back when it ends
    assert resident_bytes(pids) - before < MOST_GROWTH_BYTES
    log = server.log.read_text(errors="replace")
    assert not [line for line in log.splitlines() if "Traceback" in line or "request failed" in line or "panicked" in line]


@pytest.fixture(params=["port", "data_port"])
def port(request, server) -> int:
    return getattr(server, request.param)


def resident_bytes(pids: list[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def post(port: int, path: str, body: bytes, **headers: str) -> httpx.Response:
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    # Reading the certificates of authorities, which nobody asks for here, would take longer than most attacks.
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=named, timeout=30, verify=False)


def refused(answer: httpx.Response, *statuses: int) -> str:
    """The error of an answer that must be one of the client's."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    error: str = answer.json()["error"]
    assert len(error) < 3000
    return error


# the head ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        with suppress(ConnectionError):
            for start in range(0, len(data), 2**18):
                writer.write(data[start : start + 2**18])
                await writer.drain()
        with suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(400), 10)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return answer


ENDLESS = {
    "fields": ALIVE + b"x: a\r\n" * 200_000,
    "one field": ALIVE + b"x: " + b"a" * 5_000_000,
    "a name": ALIVE + b"a" * 5_000_000,
    "path": b"GET /" + b"a" * 5_000_000,
    "trailers": PREDICT + b"transfer-encoding: chunked\r\n\r\n19\r\n" + GOOD + b"\r\n0\r\n" + b"x: aaaa\r\n" * 200_000,
    "extension of a chunk": PREDICT + b"transfer-encoding: chunked\r\n\r\n19;" + b"a" * 5_000_000,
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_head_without_end_is_not_kept(server, what):
    for port in (server.port, server.data_port):
        answer = asyncio.run(_exchange(port, ENDLESS[what]))

        # Where the connection is closed with bytes unread, the refusal can get lost.
        assert answer == b"" or answer.split()[1] in (b"400", b"414", b"431")


def test_as_many_fields_as_there_may_be(port):
    for fields, status in ((90, b"200"), (101, b"431")):
        answer = asyncio.run(_exchange(port, ALIVE + b"x: a\r\n" * fields + b"\r\n"))

        assert answer.split()[1] == status


def test_no_field_comes_in_by_a_trailer(server):
    chunked = PREDICT + b"transfer-encoding: chunked\r\n\r\n19\r\n" + GOOD + b"\r\n0\r\nx-request-id: smuggled\r\n\r\n"

    for port in (server.port, server.data_port):
        answer = asyncio.run(_exchange(port, chunked))
        assert answer.split()[1] == b"200"
        assert b"smuggled" not in answer


# slow clients ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _drip(port: int, first: bytes, piece: bytes, *, most_s: float) -> tuple[bytes, float]:
    """Sends a piece every tenth of a second until the connection is closed; what came back, and after how long."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    answer = asyncio.create_task(reader.read(500))
    try:
        while not answer.done() and time.monotonic() - began < most_s:
            with suppress(ConnectionError):
                writer.write(piece)
                await writer.drain()
            await asyncio.sleep(0.1)
        ended = time.monotonic() - began
        if not answer.done():
            answer.cancel()
            return b"silent", ended
        with suppress(ConnectionError):
            return await answer, ended
        return b"", ended
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


DRIPS = {
    "nothing": (b"", b""),
    "empty lines": (b"", b"\r\n"),
    "a head": (ALIVE, b"x: y\r\n"),
    "a field": (ALIVE + b"x: ", b"y"),
    "a body": (PREDICT + b"content-length: 5000\r\n\r\n", b" "),
    "chunks": (PREDICT + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "the body of a request that was refused": (ALIVE.replace(b"GET", b"PUT") + b"content-length: 5000\r\n\r\n", b" "),
}


async def _drip_all(port: int, names: Iterable[str]) -> dict[str, tuple[bytes, float]]:
    """All at once, each on ten connections; the one of the ten that lasted longest."""
    drips = [(name, _drip(port, *DRIPS[name], most_s=4 * READ_TIMEOUT_S)) for name in names for _ in range(10)]
    ended = await asyncio.gather(*(drip for _, drip in drips))
    return dict(sorted(zip((name for name, _ in drips), ended, strict=True), key=lambda item: item[1][1]))


def test_who_drips_is_shut_out_of_bentomls_port(server):
    for name, (answer, seconds) in asyncio.run(_drip_all(server.port, DRIPS)).items():
        assert answer == b"" or answer.split()[1] in (b"408", b"405"), name
        assert seconds < 2.5 * READ_TIMEOUT_S, name


def test_who_drips_a_body_is_shut_out_of_the_data_port(server):
    for name, (answer, seconds) in asyncio.run(_drip_all(server.data_port, ["a body", "chunks"])).items():
        assert answer.split()[1] == b"408", name
        assert b"EKIBEN_READ_TIMEOUT_S" in answer
        assert READ_TIMEOUT_S < seconds < 2.5 * READ_TIMEOUT_S, name


def test_a_grpc_message_that_never_ends_is_given_up(server):
    async def call() -> Any:
        client = Http2(server.data_port)
        ended = await client.call(_grpc_headers(), [b"\0\0\0\0\xff" + b"x"], end=False)
        await client.close()
        return ended

    ended = asyncio.run(call())

    assert ended.headers["grpc-status"] == "4"
    assert "EKIBEN_READ_TIMEOUT_S" in ended.headers["grpc-message"]


def test_who_reads_no_answer_keeps_no_connection(server):
    rows = json.dumps({"instances": [ROW] * 20_000}).encode()

    async def attack() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(PREDICT + b"x-request-timeout-ms: 20000\r\ncontent-length: %d\r\n\r\n" % len(rows) + rows)
        writer.transport.pause_reading()
        began = time.monotonic()
        for _ in range(75):
            if not _connections_to(server):
                break
            await asyncio.sleep(0.2)
        writer.transport.abort()
        del reader
        return time.monotonic() - began

    assert asyncio.run(attack()) < 12


def _connections_to(server: Running) -> int:
    """Connections to BentoML's port that its workers have."""
    return sum(
        c.status == "ESTABLISHED" and bool(c.laddr) and c.laddr.port == server.port
        for pid in server.workers()
        for c in psutil.Process(pid).net_connections("tcp")
    )


# the body ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def test_bombs_are_not_inflated(port):
    zeros = bytes(40_000_000)
    assert "decompressed" in refused(post(port, V1, gzip.compress(zeros, 9), content_encoding="gzip"), 413)
    assert "decompressed" in refused(post(port, V1, zlib.compress(zeros, 9), content_encoding="deflate"), 413)
    assert "decompressed" in refused(post(port, V1, _bare_deflate(zeros), content_encoding="deflate"), 413)
    assert "decompressed" in refused(post(port, V1, gzip.compress(bytes(1_000_000), 9) * 40, content_encoding="gzip"), 413)
    nested = gzip.compress(gzip.compress(zeros, 9), 9)
    assert "gzip, gzip" in refused(post(port, V1, nested, content_encoding="gzip, gzip"), 415)
    assert "not JSON" in refused(post(port, V1, nested, content_encoding="gzip"), 400)
    assert "not JSON" in refused(post(port, V1, gzip.compress(b"") * 100_000, content_encoding="gzip"), 400)


@pytest.mark.parametrize("deep", [1_000, 100_000, 2_000_000])
def test_nesting_is_refused(port, deep):
    brackets = b"[" * deep + b"]" * deep
    assert "deep" in refused(post(port, V1, brackets), 400)
    assert "deep" in refused(post(port, V1, b'{"instances":' + brackets + b"}"), 400)
    assert "deep" in refused(post(port, "/invocations", b'{"a":' * deep + b"1" + b"}" * deep), 400)
    data = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + brackets + b"}]}"
    assert refused(post(port, "/v2/models/tiny/infer", data), 400)


NUMBERS = (
    "NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', "1e999", "-1e999", "1e" + "9" * 5000, "9" * 100_000, "-" + "9" * 100_000,
    "1" + "0" * 400, "null", "true", "01", "+1", ".5", "0x1", "1_0", '"\\ud800"', '"\ud800"', "\ufeff1",
)  # fmt: skip


def test_what_is_no_finite_number_is_refused(server):
    for number in NUMBERS:
        text = f'{{"instances":[{{"a":1,"b":2,"c":3,"d":{number}}}]}}'.encode("utf-8", "surrogatepass")
        refused(post(server.data_port, V1, text), 400, 422)
        refused(post(server.data_port, "/invocations", text), 400, 422)
        data = f'{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,{number}]}}]}}'.encode("utf-8", "surrogatepass")
        refused(post(server.data_port, "/v2/models/tiny/infer", data), 400, 422)


def test_text_that_is_not_utf_8_is_refused(port):
    for body in (b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), b"\xff" + GOOD, GOOD + b"\0"):
        refused(post(port, V1, body), 400)


def test_strings_have_a_length_that_is_enough(port):
    def ask(text: str) -> httpx.Response:
        return post(port, "/v1/models/texts:predict", json.dumps({"instances": [{"a": text, "b": "x"}]}).encode())

    assert ask("é" * 65_536).status_code == 200
    assert "at most 65536 characters; it has 65537" in refused(ask("é" * 65_537), 422)
    refused(ask("a" * 10_000_000), 422)


SHAPES: tuple[Any, ...] = (
    [2**31, 2**31], [2**31 - 1, 2**31 - 1], [2**62, 4], [-1, 4], [-1, -4], [0, 4], [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], [2**63, 2],
    [1] * 17, [1] * 64, [4], [], [4, 1], [1e300], [10**30], ["1", 4], [True, 4], None, [[1], [4]],
)  # fmt: skip


def test_shapes_that_lie_are_refused(server):
    for shape in SHAPES:
        item = {"name": "x", "shape": shape, "datatype": "FP32"}
        head = json.dumps({"inputs": [{**item, "parameters": {"binary_data_size": 16}}]}).encode()
        refused(post(server.data_port, "/v2/models/tiny/infer", head + bytes(16), inference_header_content_length=str(len(head))), 400, 422)
        refused(post(server.data_port, "/v2/models/tiny/infer", json.dumps({"inputs": [{**item, "data": ROW}]}).encode()), 400, 422)
        npy = _npy("'<f4'", repr(tuple(shape) if isinstance(shape, list) else shape), bytes(16))
        refused(post(server.data_port, "/invocations", npy, content_type="application/x-npy"), 400, 422)
        if isinstance(shape, list) and all(type(d) is int and abs(d) < 2**62 for d in shape):
            assert _grpc_status(server, shape, [struct.pack("<4f", *ROW)]) == "3"


def test_sizes_of_tensors_that_lie_are_refused(server):
    for size in (-1, 0, 15, 17, 2**63, 10**30):
        head = json.dumps(
            {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}]}
        ).encode()
        refused(post(server.data_port, "/v2/models/tiny/infer", head + bytes(16), inference_header_content_length=str(len(head))), 400)


def _npy(descr: str, shape: str, data: bytes) -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + data


NPY = (
    _npy("'|O'", "(1, 4)", b"cos\nsystem\n(S'true'\ntR."),
    _npy("'<U999999999'", "(1,)", b""),
    _npy("'|V2000000000'", "(0,)", b""),
    _npy("'<f4'", "(" * 2000 + ")" * 2000, b""),
    _npy("__import__('os').getpid()", "(1, 4)", bytes(16)),
    _npy("'<f4'", f"(1, {'9' * 5000})", bytes(16)),
    _npy("'<f4'", "(1, 4)", np.array([[np.nan, np.inf, -np.inf, 1]], "<f4").tobytes()),
    b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"x" * 100,
)


def test_npy_that_lies_is_refused(port):
    for body in NPY:
        refused(post(port, "/invocations", body, content_type="application/x-npy"), 400, 422)


def test_no_nan_and_no_infinity_comes_in_as_bytes(server):
    for bits in (0x7FC00000, 0x7F800001, 0xFFC00001, 0x7F800000, 0xFF800000):
        raw = struct.pack("<4I", *[bits] * 4)
        head = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'
        refused(post(server.data_port, "/v2/models/tiny/infer", head + raw, inference_header_content_length=str(len(head))), 422)
        assert _grpc_status(server, [1, 4], [raw]) == "3"


MANY = 2_500_000
LARGE_AND_WRONG = {
    "rows that are none": (V1, "application/json", b'{"instances":[' + b"0," * MANY + b"0]}"),
    "unknown fields": (V1, "application/json", b'{"instances":[{' + b",".join(b'"f%d":0' % n for n in range(500_000)) + b"}]}"),
    "tensors of a wrong shape": ("/v1/models/image:predict", "application/json", b'{"instances":[' + b"[[0]]," * MANY + b"[[0]]]}"),
    "rows of a frame": ("/invocations", "application/json", b'{"dataframe_split":{"columns":["a"],"data":[' + b"0," * MANY + b"0]}}"),
    "JSON lines": ("/invocations", "application/jsonlines", b"0\n" * MANY),
    "lines of CSV": ("/invocations", "text/csv", b"0\n" * MANY),
    "cells of CSV": ("/invocations", "text/csv", b"," * 5_000_000),
    "a cell of CSV": ("/invocations", "text/csv", b'"' + b"a" * 10_000_000),
    "fields of a form": ("/tiny", "application/x-www-form-urlencoded", b"a=1&" * MANY),
    "parts of a form": (
        "/tiny",
        "multipart/form-data; boundary=x",
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 90_000,
    ),
}


@pytest.mark.parametrize("what", LARGE_AND_WRONG)
def test_a_body_of_nothing_but_mistakes_is_refused_soon(server, what):
    path, kind, body = LARGE_AND_WRONG[what]
    began = time.monotonic()

    refused(post(server.port, path, body, content_type=kind, x_request_timeout_ms="60000"), 400, 415, 422)

    assert time.monotonic() - began < 10  # it took minutes to say what was wrong with each


# gRPC and HTTP/2 ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _grpc_headers(**more: str) -> list[tuple[str, str]]:
    path = "/inference.GRPCInferenceService/ModelInfer"
    begin = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    return [*begin, ("content-type", "application/grpc"), ("te", "trailers"), *((n.replace("_", "-"), v) for n, v in more.items())]


def _grpc_call(server: Running, message: bytes, **headers: str) -> dict[str, str]:
    async def call() -> Any:
        client = Http2(server.data_port)
        ended = await client.call(_grpc_headers(**headers), [message])
        await client.close()
        return ended

    return asyncio.run(call()).headers


def _grpc_status(server: Running, shape: list[int], raw: list[bytes]) -> str:
    request = pb.ModelInferRequest(model_name="tiny")
    item = request.inputs.add()
    item.name, item.datatype = "x", "FP32"
    item.shape.extend(shape)
    request.raw_input_contents.extend(raw)
    data = request.SerializeToString()
    return _grpc_call(server, b"\0" + len(data).to_bytes(4) + data)["grpc-status"]


def test_grpc_tensors_that_lie_are_refused(server):
    good = struct.pack("<4f", *ROW)
    assert _grpc_status(server, [1, 4], [good]) == "0"
    for raw in ([good, good], [b""], [good[:-1]], [good + b"x"], [b""] * 1000):
        assert _grpc_status(server, [1, 4], raw) == "3"


def test_grpc_messages_that_lie_are_refused(server):
    bomb = gzip.compress(bytes(50_000_000), 9)
    assert _grpc_call(server, b"\1" + len(bomb).to_bytes(4) + bomb, grpc_encoding="gzip")["grpc-status"] == "8"
    assert _grpc_call(server, b"\0\xff\xff\xff\xffx")["grpc-status"] == "8"
    assert _grpc_call(server, b"\1\0\0\0\1x")["grpc-status"] == "3"
    assert _grpc_call(server, b"\0\0\0\0\5\xff\xff\xff\xff\xff")["grpc-status"] == "3"


class Flood(NamedTuple):
    """Frames that are sent for as long as the server takes them.

    Attributes:
        first: Sent once.
        piece: Sent again and again.
        times: How often.
    """

    first: bytes
    piece: bytes
    times: int


_FIELDS = header_block([(":method", "GET"), (":scheme", "http"), (":path", "/v2/health/live"), (":authority", "x")])
_LONG = header_block([("x-long", "a" * 4000)])
# A field of 4,000 bytes goes into the table, and is then named by one byte, 15,000 times over: 60 MB.
_TABLE = _FIELDS + b"\x40\x06x-long\x7f\xa1\x1e" + b"a" * 4000 + b"\xbe" * 15_000


def _resets() -> bytes:
    """A hundred requests that are taken back at once."""
    streams = range(1, 200, 2)
    parts = (frame(HEADERS, END_HEADERS, s, _FIELDS) + frame(RST_STREAM, 0, s, (8).to_bytes(4)) for s in streams)
    return b"".join(parts)


FLOODS = {
    "continuations": Flood(BEGIN + frame(HEADERS, 0, 1, _FIELDS), frame(CONTINUATION, 0, 1, _LONG), 5_000),
    "empty continuations": Flood(BEGIN + frame(HEADERS, 0, 1, _FIELDS), frame(CONTINUATION, 0, 1) * 1000, 2_000),
    "a bomb of fields": Flood(BEGIN + frame(HEADERS, END_HEADERS | 1, 1, _TABLE), b"", 0),
    "resets": Flood(BEGIN + _resets(), b"", 0),
    "settings": Flood(BEGIN, frame(4) * 1000, 500),
    "pings": Flood(BEGIN, frame(6, 0, 0, bytes(8)) * 1000, 500),
}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_of_frames_end(server, what):
    flood = FLOODS[what]

    async def attack() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.data_port)
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):  # who sends and reads nothing is not read any more either
                writer.write(flood.first)
                for _ in range(flood.times):
                    writer.write(flood.piece)
                    await writer.drain()
                await asyncio.sleep(0.3)
        writer.transport.abort()

    asyncio.run(attack())


# pages ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/", "/docs.json", "/static_content/swagger-initializer.js", "/nothing-here"])
def test_pages_may_not_be_framed_and_run_no_foreign_script(port, path):
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers={"accept": "text/html"}, verify=False)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


def test_an_error_is_no_page(port):
    answer = post(port, V1, b"<script>alert(1)</script>")

    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
