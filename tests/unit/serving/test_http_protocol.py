"""The protocol on a real uvicorn in a thread, with an app that tells what it got."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from ekiben.serving import http_protocol
from ekiben.serving.http_protocol import MAX_FIELDS, MAX_HEAD_BYTES, GuardedProtocol, guard_uvicorn

LIMIT_S = 0.4
POST = b"POST /echo HTTP/1.1\r\nhost: x\r\n"
GET = b"GET /echo HTTP/1.1\r\nhost: x\r\n"


async def app(scope, receive, send):
    """Answers with the fields and the size of the body; ``/large`` with 40 MB, ``/early`` before it has read anything."""
    size = 0
    while scope["path"] != "/early":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    fields = sorted(name.decode() for name, _ in scope["headers"])
    body = bytes(40_000_000) if scope["path"] == "/large" else json.dumps({"fields": fields, "size": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def server():
    before = HTTP_PROTOCOLS["auto"]
    pause, http_protocol._LOOK_S = http_protocol._LOOK_S, 0.05
    guard_uvicorn(LIMIT_S)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", access_log=False, loop="asyncio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join()
    HTTP_PROTOCOLS["auto"], http_protocol._LOOK_S = before, pause


@pytest.fixture
def connect(server):
    """A new connection: ``connect()``."""
    opened = []

    def connected() -> socket.socket:
        opened.append(socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=5))
        return opened[-1]

    yield connected
    for one in opened:
        one.close()


def answer(one: socket.socket, *parts: bytes) -> tuple[int, bytes]:
    """The status and body of what comes back until the connection is closed or quiet; 0 where nothing does."""
    data = b""
    with suppress(ConnectionError, TimeoutError):
        for part in parts:
            one.sendall(part)
        one.settimeout(2)
        while (got := one.recv(2**16)) and not data.endswith(b"}"):
            data += got
            one.settimeout(0.2)
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def test_a_sound_request_is_answered_and_the_next_on_the_same_connection(connect):
    one = connect()
    for _ in range(3):
        status, body = answer(one, POST + b"content-length: 5\r\n\r\nhello")
        assert (status, json.loads(body)["size"]) == (200, 5)


def test_a_large_body_is_no_large_head(connect):
    size = 20 * MAX_HEAD_BYTES
    status, body = answer(connect(), POST + b"content-length: %d\r\n\r\n" % size, bytes(size))
    assert (status, json.loads(body)["size"]) == (200, size)


def test_so_many_fields_and_no_more(connect):
    assert answer(connect(), GET + b"x: y\r\n" * (MAX_FIELDS - 1) + b"\r\n")[0] == 200
    status, body = answer(connect(), GET + b"x: y\r\n" * MAX_FIELDS + b"\r\n")
    assert status == 431
    assert f"{MAX_FIELDS} fields" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "parts",
    [
        [GET + b"x: " + bytes(MAX_HEAD_BYTES).replace(b"\0", b"a") + b"\r\n\r\n"],
        [GET + b"x: ", *[b"a" * 10_000] * 40],
        [GET + (b"x: " + b"a" * 900 + b"\r\n") * (MAX_FIELDS + 50) + b"\r\n"],
        [b"GET /" + b"a" * (MAX_HEAD_BYTES + 1) + b" HTTP/1.1\r\n\r\n"],
        [GET, *[b"x: %s\r\n" % (b"a" * 5_000)] * 40],
        [POST + b"transfer-encoding: chunked\r\n\r\n1;", *[b"a" * 10_000] * 40],
        [POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", *[b"x: aaaaaaaa\r\n" * 1000] * 40],
    ],
    ids=["one field", "field in pieces", "many large ones", "path", "fields in pieces", "chunk's extension", "trailers"],
)
def test_what_has_no_end_is_refused(connect, parts):
    assert answer(connect(), *parts)[0] in (0, 400, 431)  # the refusal gets lost where bytes are left unread


def test_trailers_are_no_fields(connect):
    chunked = POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nauthorization: me\r\n\r\n"
    status, body = answer(connect(), chunked)
    assert (status, json.loads(body)) == (200, {"fields": ["host", "transfer-encoding"], "size": 1})


@pytest.mark.parametrize(
    ("first", "piece"),
    [(b"", b""), (b"", b"\r\n"), (GET, b"x: y\r\n"), (POST + b"content-length: 5000\r\n\r\n", b"a")],
    ids=["nothing", "empty lines", "head", "body"],
)
def test_who_drips_is_ended(connect, first, piece):
    one = connect()
    began = time.monotonic()
    data = b""
    with suppress(ConnectionError):
        one.sendall(first)
        one.settimeout(0.05)
        while time.monotonic() - began < 5:
            with suppress(TimeoutError):
                data = one.recv(1000)
                break
            one.sendall(piece)
    assert data == b"" or data.split()[1] == b"408"
    assert LIMIT_S / 2 < time.monotonic() - began < 4


def test_the_rest_of_a_body_that_was_answered_already_may_not_drip_for_ever(connect, server):
    one = connect()
    assert answer(one, POST.replace(b"echo", b"early") + b"content-length: 5000\r\n\r\n")[0] == 200
    began = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - began < 5:
            one.sendall(b"a")
            time.sleep(0.05)
    assert time.monotonic() - began < 4


def test_a_connection_that_was_good_may_be_idle(connect):
    one = connect()
    assert answer(one, GET + b"\r\n")[0] == 200
    time.sleep(2 * LIMIT_S)
    assert answer(one, GET + b"\r\n")[0] == 200


def test_who_takes_a_large_answer_in_his_time_gets_all_of_it(connect):
    one = connect()
    one.sendall(GET.replace(b"echo", b"large") + b"\r\n")
    data, size, began = one.recv(100), 0, time.monotonic()
    head, _, body = data.partition(b"\r\n\r\n")
    while got := one.recv(2**20):
        size += len(got)
        time.sleep(0.02 if time.monotonic() - began < 3 * LIMIT_S else 0)
        if len(body) + size >= 40_000_000:
            break
    assert head.split()[1] == b"200"
    assert len(body) + size >= 40_000_000


def test_who_reads_nothing_is_ended(connect, server):
    one = connect()
    one.sendall(GET.replace(b"echo", b"large") + b"\r\n")
    began = time.monotonic()
    stuck = []
    while time.monotonic() - began < 5 and not (stuck and stuck[0].transport.is_closing()):
        stuck = stuck or [c for c in server.server_state.connections if isinstance(c, GuardedProtocol) and c.stuck]
        time.sleep(0.02)
    assert stuck
    assert LIMIT_S < time.monotonic() - began < 4
    assert stuck[0] not in server.server_state.connections


def test_nothing_behind_a_refusal_is_read(connect):
    status, body = answer(connect(), (GET + b"x: y\r\n" * MAX_FIELDS + b"\r\n") * 3 + POST + b"content-length: 1\r\n\r\na")
    assert status == 431
    assert body.count(b"HTTP/1.1") == 0


def test_a_refusal_never_stands_inside_another_answer(connect):
    one = connect()
    one.sendall(GET.replace(b"echo", b"large") + b"\r\n" + GET + b"x: y\r\n" * MAX_FIELDS + b"\r\n")
    data = b""
    with suppress(ConnectionError, TimeoutError):
        while got := one.recv(2**20):
            data += got
    assert data.count(b"HTTP/1.1") <= 1
    assert b"431" not in data
