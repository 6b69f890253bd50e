from __future__ import annotations

import asyncio
import concurrent.futures
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import INFER, STREAM, matrix
from unit.serving.inprocess import Serving

from ekiben.errors import SettingError
from ekiben.serving.listener import BothProtocols, Listener, addresses_of_this_process
from ekiben.serving.port_lock import PortLock
from ekiben.settings import Settings

BODY = {"instances": [[1, 2, 3]]}
V1 = "/v1/models/plane:predict"


@pytest.fixture(autouse=True)
def _locks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def free_port():
    """Finds ports on which nobody listens: ``free_port()``."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def port(free_port) -> int:
    return free_port()


@pytest.fixture
def listening(serving, tmp_path):
    """Starts listeners before a server of tiny, plane and grid: ``listening(data_port=…)``."""
    started: list[Listener] = []

    def start(app=None, **settings) -> Listener:
        given = {"data_host": "127.0.0.1", "home": tmp_path, "database_url": "sqlite://", "workers": 1, **settings}
        listener = Listener(app or serving.server.data_app, Settings(**given))
        started.append(listener)
        serving.thread.run(listener.start())
        return listener

    yield start
    for listener in started:
        serving.thread.run(listener.stop())


def infer(port: int, credentials=None, name="127.0.0.1", **kw):
    """ModelInfer through grpcio."""
    address = f"{name}:{port}"
    with grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials) as channel:
        call = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        return call(matrix([1, 2, 3], id="7"), timeout=10, **kw)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# protocols ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rest_over_http1(listening, port):
    listening(data_port=port)
    answer = httpx.post(f"http://127.0.0.1:{port}{V1}", json=BODY)
    assert answer.http_version == "HTTP/1.1"
    assert answer.json()["predictions"] == [{"prediction": 14.5}]
    assert httpx.get(f"http://127.0.0.1:{port}/docs.json").status_code == 418


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_rest_over_http2(listening, serving, port):
    def curl(*more):
        url = f"http://127.0.0.1:{port}{V1}"
        command = [
            "curl",
            "-s",
            "--http2-prior-knowledge",
            "-w",
            "\n%{http_version} %{http_code}",
            "-d",
            '{"instances": [[1, 2, 3]]}',
            "-i",
            *more,
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    listening(data_port=port)
    text = curl("-H", "content-type: application/json")
    assert '{"predictions":[{"prediction":14.5}]' in text
    assert text.endswith("\n2 200")
    # Over HTTP/2 a `connection` header is an error of the protocol.
    serving.server.plane.draining = True
    text = curl("-H", "content-type: application/json")
    assert text.endswith("\n2 200")
    assert "connection:" not in text


def test_grpc(listening, port):
    listening(data_port=port)
    response = infer(port)
    assert (response.model_name, response.id) == ("plane", "7")
    assert infer(port, compression=grpc.Compression.Gzip).model_name == "plane"
    with pytest.raises(grpc.RpcError) as caught, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary(INFER)(matrix([1, 2], model="é%\n").SerializeToString(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "there is no model 'é%\\n'" in caught.value.details()


def test_a_grpc_stream_and_one_that_the_client_leaves(listening, serving, port, eventually):
    listening(data_port=port)
    idle = serving.thread.call(lambda: len(asyncio.all_tasks()))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream(STREAM, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString)
        answers = list(stream(iter([matrix([n, 0, 0], id=str(n)) for n in range(50)]), timeout=20))
        assert [a.infer_response.id for a in answers] == [str(n) for n in range(50)]

        more = threading.Event()
        left = stream(matrix([1, 2, 3]) for _ in iter(more.wait, True))
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", None, health_pb2.HealthCheckResponse.FromString)(b"")
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        eventually(lambda: serving.thread.call(lambda: len(asyncio.all_tasks())) >= idle + 2)
        watch.cancel()
        left.cancel()
        more.set()
        eventually(lambda: serving.thread.call(lambda: len(asyncio.all_tasks())) <= idle)


def test_grpc_over_http1_is_no_call(listening, port):
    """Without trailers no status could be told: such a request is REST's."""
    listening(data_port=port)
    answer = httpx.post(f"http://127.0.0.1:{port}{INFER}", content=b"\0\0\0\0\0", headers={"content-type": "application/grpc"})
    assert answer.status_code == 418


def test_which_app_answers():
    taken = []

    async def grpc_app(path, headers, receive, send, peer):
        taken.append(("grpc", path, headers[b"content-type"]))

    async def rest_app(scope, receive, send):
        taken.append(("rest", scope.get("path")))

    def scope(kind, version):
        return {"type": "http", "http_version": version, "path": "/p", "headers": [(b"content-type", kind)]}

    async def ask():
        app = BothProtocols(grpc_app, rest_app)
        for each in (
            scope(b"application/grpc", "2"),
            scope(b"application/grpc", "1.1"),
            scope(b"application/json", "2"),
            {"type": "http", "http_version": "2", "path": "/p", "headers": []},
            {"type": "websocket", "path": "/w", "headers": []},
        ):
            await app(each, None, None)

    asyncio.run(ask())
    assert taken == [("grpc", "/p", b"application/grpc"), ("rest", "/p"), ("rest", "/p"), ("rest", "/p"), ("rest", "/w")]


# ports ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_of_0_is_none(listening, free_port):
    listener = listening(data_port=0)
    assert listener._server is None
    platform = free_port()
    listening(data_port=0, platform_port=platform)
    assert httpx.get(f"http://127.0.0.1:{platform}/readyz").status_code == 200


def test_the_platforms_port_is_one_more(listening, free_port):
    data, platform = free_port(), free_port()
    listening(data_port=data, platform_port=platform)
    for port in (data, platform):
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        assert infer(port).model_name == "plane"


def test_the_same_port_twice_is_once(listening, port):
    listening(data_port=port, platform_port=port)
    assert infer(port).model_name == "plane"


def test_a_port_that_this_process_listens_on_already_is_left_alone(listening, free_port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        platform = taken.getsockname()[1]
        assert addresses_of_this_process()[platform] == "127.0.0.1"
        data = free_port()
        listening(data_port=data, platform_port=platform)
        assert infer(data).model_name == "plane"
    assert not is_open(platform)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel shows the locks there")
def test_looking_for_addresses_lets_go_of_no_lock(tmp_path):
    """Closing any descriptor of a file would: SQLite's locks on the control database are of this kind."""
    with (tmp_path / "locked").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        addresses_of_this_process()
        inode = f":{(tmp_path / 'locked').stat().st_ino} "
        assert any(inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_the_addresses_of_this_process():
    before = addresses_of_this_process()
    with socket.socket() as listens, socket.socket(socket.AF_INET6) as six, socket.socket() as bound, socket.socket() as unbound:
        listens.bind(("127.0.0.1", 0))
        listens.listen()
        six.bind(("::1", 0))
        bound.bind(("0.0.0.0", 0))  # as a parent hands it over, before anybody listens
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.create_connection(listens.getsockname()):
            udp.bind(("127.0.0.1", 0))
            found = {port: host for port, host in addresses_of_this_process().items() if port not in before}
        assert found == {
            listens.getsockname()[1]: "127.0.0.1",
            six.getsockname()[1]: "::1",
            bound.getsockname()[1]: "0.0.0.0",
        }
        assert unbound.fileno() > 0
        unbound.bind(("127.0.0.1", 0))  # none was closed by looking at it
    assert addresses_of_this_process() == before


def test_where_the_system_does_not_tell_what_is_open(monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    assert addresses_of_this_process() == {}


def test_without_an_address_of_its_own_it_takes_that_of_bentomls_port(listening, port, free_port, monkeypatch):
    monkeypatch.setattr("ekiben.serving.listener.addresses_of_this_process", lambda: {free_port(): "127.0.0.2"})
    listening(data_port=port, data_host="")
    assert infer(port, name="127.0.0.2").model_name == "plane"
    assert not is_open(port)


def test_without_any_address_it_listens_everywhere(listening, port, monkeypatch):
    monkeypatch.setattr("ekiben.serving.listener.addresses_of_this_process", dict)
    listening(data_port=port, data_host="")
    for name in ("127.0.0.1", "127.0.0.2"):
        assert infer(port, name=name).model_name == "plane"


def test_a_port_of_another_program(listening, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        fds = len(list(Path("/proc/self/fd").iterdir()))
        # Nobody is told of it by its lock, as the program is none of ours; it is not this process' own for the listener.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ekiben.serving.listener.addresses_of_this_process", dict)
            with pytest.raises(SettingError, match=f"the data port cannot be opened on 127.0.0.1:{port}: .*see EKIBEN_DATA_PORT"):
                listening(data_port=port)
        assert len(list(Path("/proc/self/fd").iterdir())) <= fds + 1
    other = PortLock(port, 12345)
    other.acquire(wait_s=0)  # the listener has let go of it
    other.release()


def test_an_address_that_is_none(listening, port):
    for host in ("203.0.113.1", "no such host"):
        with pytest.raises(SettingError, match="EKIBEN_DATA_HOST"):
            listening(data_port=port, data_host=host)


def test_ipv6(listening, port):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    listening(data_port=port, data_host="::1")
    assert infer(port, name="[::1]").model_name == "plane"


def test_workers_share_the_port(listening, port, loop_thread):
    counts = [0, 0]

    def app(n):
        async def answer(scope, receive, send):
            counts[n] += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return answer

    listening(app(0), data_port=port)
    # To itself a process' other listener is its own; another worker is another process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ekiben.serving.listener.addresses_of_this_process", dict)
        listening(app(1), data_port=port)
    for _ in range(64):
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    assert sum(counts) == 64
    assert min(counts) > 0


def test_another_server_is_refused_and_may_come_when_the_first_has_gone(listening, serving, port, monkeypatch):
    listener = listening(data_port=port)
    other = PortLock(port, 12345)
    with pytest.raises(SettingError, match=rf"port {port} is another server's \(started by process {os.getppid()}\)"):
        other.acquire(wait_s=0)
    serving.thread.run(listener.stop())
    other.acquire(wait_s=0)
    monkeypatch.setattr("ekiben.serving.port_lock._WAIT_S", 0)
    monkeypatch.setattr(PortLock.acquire, "__kwdefaults__", {"wait_s": 0})
    with pytest.raises(SettingError, match="process 12345"):
        listening(data_port=port)
    assert not is_open(port)
    other.release()
    listening(data_port=port)
    assert infer(port).model_name == "plane"


# stopping ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stopping_answers_what_is_under_way(listening, serving, port):
    gate, began = asyncio.Event(), threading.Event()

    async def slow(scope, receive, send):
        began.set()
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})

    listener = listening(slow, data_port=port)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/", timeout=30)))
    asking.start()
    assert began.wait(10)
    stopping = asyncio.run_coroutine_threadsafe(listener.stop(), serving.thread.loop)
    with pytest.raises(concurrent.futures.TimeoutError):
        stopping.result(0.1)
    # Whoever comes now is refused at once, and finds another worker, instead of waiting for one who does not look.
    assert not is_open(port)
    serving.thread.call(gate.set)
    stopping.result(30)
    asking.join(10)
    assert [a.text for a in answers] == ["answered"]
    assert not is_open(port)


def test_stopping_twice_and_before_it_began(serving, tmp_path, port, listening):
    listener = Listener(serving.server.data_app, Settings(home=tmp_path, database_url="sqlite://", workers=1, data_port=port))
    serving.thread.run(listener.stop())
    started = listening(data_port=port)
    serving.thread.run(started.stop())
    serving.thread.run(started.stop())
    serving.thread.run(started.start())
    assert infer(port).model_name == "plane"


def test_a_port_that_does_not_close_cleanly_is_logged(listening, serving, port, caplog):
    listener = listening(data_port=port)
    serving_task = listener._serving

    async def broken():
        listener._server.shutdown()
        await serving_task
        raise RuntimeError("no way")

    async def replace():
        listener._serving = asyncio.create_task(broken())
        await asyncio.sleep(0)

    serving.thread.run(replace())
    serving.thread.run(listener.stop())
    assert "the data port did not close cleanly: no way" in caplog.text


def test_a_server_opens_its_port_and_is_not_ready_without(registry, tmp_path, loop_thread, port, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    from functools import partial

    with socket.socket() as taken, pytest.MonkeyPatch.context() as patch:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        patch.setattr("ekiben.serving.listener.addresses_of_this_process", dict)
        serving = Serving(registry, ["plane"], thread=loop_thread, home=tmp_path)
        settings = Settings(home=tmp_path, database_url="sqlite://", workers=1, data_port=port, data_host="127.0.0.1")
        serving.server._listener = partial(Listener, settings=settings)(serving.server.data_app)
        serving.start()
        answer = serving.get("/readyz")
        assert answer.status_code == 503
        assert "the data port cannot be opened" in answer.json()["error"]
        assert serving.predict("plane", [[1, 2, 3]]).status_code == 200
        serving.stop()


# TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """An authority, a server and a client that it signed, and a client that another signed: ``{name: (certificate, key)}``."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    def make(name, authority=None):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={name}"]
        if authority is None:
            openssl("req", "-x509", *key, "-out", f"{name}.pem", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
        else:
            (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
            openssl("req", *key, "-out", f"{name}.csr")
            signed = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-extfile", f"{name}.ext"]
            openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem", "-days", "2")

    for name, authority in (("ca", None), ("other", None), ("server", "ca"), ("client", "ca"), ("stranger", "other")):
        make(name, authority)
    return {name: (folder / f"{name}.pem", folder / f"{name}.key") for name in ("ca", "server", "client", "stranger")}


def credentials(certificates, client=None):
    chain = key = None
    if client is not None:
        chain, key = (path.read_bytes() for path in certificates[client])
    return grpc.ssl_channel_credentials(certificates["ca"][0].read_bytes(), key, chain)


def context(certificates, client=None):
    import ssl

    made = ssl.create_default_context(cafile=str(certificates["ca"][0]))
    if client is not None:
        made.load_cert_chain(*certificates[client])
    return made


@needs_openssl
def test_tls(listening, port, certificates):
    certificate, key = certificates["server"]
    listening(data_port=port, tls_certificate=certificate, tls_key=key)
    assert infer(port, credentials(certificates)).model_name == "plane"
    answer = httpx.post(f"https://127.0.0.1:{port}{V1}", json=BODY, verify=context(certificates))
    assert answer.json()["predictions"] == [{"prediction": 14.5}]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/readyz")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://127.0.0.1:{port}/readyz")


@needs_openssl
def test_mutual_tls(listening, port, certificates):
    certificate, key = certificates["server"]
    listening(data_port=port, tls_certificate=certificate, tls_key=key, tls_client_ca=certificates["ca"][0])
    assert infer(port, credentials(certificates, "client")).model_name == "plane"
    url = f"https://127.0.0.1:{port}/readyz"
    assert httpx.get(url, verify=context(certificates, "client")).status_code == 200
    for client in (None, "stranger"):
        with pytest.raises(grpc.RpcError) as caught:
            infer(port, credentials(certificates, client))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, verify=context(certificates, client))


@needs_openssl
def test_files_that_are_no_certificates(listening, port, certificates, tmp_path):
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    certificate, key = certificates["server"]
    for files in (
        {"tls_certificate": nonsense, "tls_key": key},
        {"tls_certificate": certificate, "tls_key": nonsense},
        {"tls_certificate": certificate, "tls_key": certificates["client"][1]},
        {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": nonsense},
        {"tls_certificate": tmp_path / "gone.pem", "tls_key": key},
    ):
        with pytest.raises(SettingError, match="EKIBEN_TLS_"):
            listening(data_port=port, **files)
        assert not is_open(port)
