"""Strangers before a real server that asks for a key: what they forge, what they guess, what they stole and was revoked."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import httpx
import pytest
from integration.clients.test_tls import Certificates
from integration.rollouts import NAMES, made, register
from integration.running import Project, Running
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from unit.guards.issuer import AUDIENCE, Issuer, forged

pytestmark = pytest.mark.processes

ROW = dict.fromkeys(NAMES, 0.25)
REFUSED = {"error": "the API key or token is none that this server takes, or takes any more"}


class Published:
    """An issuer's documents, on a port of this machine."""

    def __init__(self) -> None:
        published = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = published.issuer.document(self.path)
                published.issuer.asked.append(self.path)
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.issuer = Issuer(f"http://127.0.0.1:{self.http.server_port}/realm")
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def issuer():
    published = Published()
    yield published.issuer
    published.stop()


class Server:
    """A server of two workers, and everything secret that was used before it."""

    def __init__(self, running: Running, issuer: Issuer) -> None:
        self.running = running
        self.issuer = issuer
        self.admin_key = (running.project.root / "home" / "admin.key").read_text().strip()
        self.secrets: set[str] = {self.admin_key}

    def admin(self, method: str, path: str, *, key: str | None = None, **options) -> httpx.Response:
        """Asks the admin API."""
        return httpx.request(
            method, f"{self.running.url}/admin/v1{path}", headers={"x-api-key": key or self.admin_key}, timeout=20, **options
        )

    def key(self, *scopes: str, **body) -> str:
        """A new key, known to both workers."""
        answer = self.admin("POST", "/keys", json={"name": "site", "scopes": scopes, **body})
        assert answer.status_code == 201, answer.text
        key = answer.json()["key"]
        self.secrets.add(key[12:])
        self.until(key, lambda status: status != 401)
        return key

    def until(self, key: str, right, *, seconds: float = 15.0) -> None:
        """Waits until both workers answer so."""
        end, in_a_row = time.monotonic() + seconds, 0
        while in_a_row < 16:
            assert time.monotonic() < end, self.running.log.read_text()[-3000:]
            in_a_row = in_a_row + 1 if right(self.predict(key).status_code) else 0

    def predict(self, key: str | bytes | None, model: str = "good", *, header: str = "x-api-key", port: str = "url") -> httpx.Response:
        """Predicts over a connection of its own, which either of the workers may take."""
        text = key if isinstance(key, bytes | None) else key.encode()
        sent = {} if text is None else {header: text if header == "x-api-key" else b"Bearer " + text}
        url = getattr(self.running, port)
        return httpx.post(f"{url}/v1/models/{model}:predict", json={"instances": [ROW]}, headers=sent, timeout=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory, issuer):
    root = tmp_path_factory.mktemp("authentication")
    project = Project(root / "project")
    register(project, [(made(root / "made", name, "good"), "1") for name in ("good", "other")])
    env = {"EKIBEN_AUTH": "required", "EKIBEN_OIDC_ISSUER": issuer.url, "EKIBEN_OIDC_AUDIENCE": AUDIENCE}
    with Running(project, workers=2, EKIBEN_ACCESS_LOG_RATE="1", EKIBEN_MONITOR="off", **env) as running:
        running.wait()
        yield Server(running, issuer)


def test_who_brings_nothing_gets_to_health_and_no_further(server):
    url = server.running.url
    for path in ("/readyz", "/livez", "/v2/health/ready", "/v2/health/live"):
        assert httpx.get(url + path).status_code == 200, path
    for method, path in (
        ("POST", "/v1/models/good:predict"), ("POST", "/v2/models/good/infer"), ("POST", "/good"), ("GET", "/v1/models"),
        ("GET", "/v2/models/good"), ("GET", "/metrics"), ("GET", "/docs.json"), ("POST", "/v2/repository/index"),
        ("POST", "/v1/models/good/ground_truth"), ("GET", "/admin/v1/rollouts"), ("POST", "/v1/models/nothing:predict"),
    ):  # fmt: skip
        answer = httpx.request(method, url + path, json={"instances": [ROW]} if method == "POST" else None)
        assert answer.status_code == 401, (path, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_may_what_its_scopes_say_on_every_way_in(server):
    key, reader = server.key("predict:good"), server.key("read")
    for header in ("x-api-key", "authorization"):
        for port in ("url", "data_url"):
            assert server.predict(key, header=header, port=port).status_code == 200
    other = server.predict(key, "other")
    assert (other.status_code, "lacks the scope predict or predict:other" in other.json()["error"]) == (403, True)
    assert server.predict(reader).status_code == 403
    for path in ("/v2/models/good", "/metrics"):
        assert httpx.get(server.running.url + path, headers={"x-api-key": reader}).status_code == 200
        assert httpx.get(server.running.url + path, headers={"x-api-key": key}).status_code == 403
    assert server.admin("GET", "/rollouts", key=key).status_code == 403
    assert server.predict(server.admin_key).status_code == 200


def infer(server, metadata):
    request = pb.ModelInferRequest(model_name="good")
    for name in NAMES:
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[1])
        tensor.contents.fp32_contents.append(0.25)
    with grpc.insecure_channel(f"127.0.0.1:{server.running.data_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return len(stub.ModelInfer(request, metadata=metadata, timeout=20).outputs) > 0
        except grpc.RpcError as e:
            return e.code().name


def test_grpc_asks_for_the_same(server):
    key, token = server.key("predict:good"), server.issuer.token()
    assert infer(server, [("x-api-key", key)]) is True
    assert infer(server, [("authorization", f"Bearer {token.decode()}")]) is True
    assert infer(server, []) == "UNAUTHENTICATED"
    assert infer(server, [("x-api-key", key[:-1] + "?")]) == "UNAUTHENTICATED"
    for token in forged(server.issuer).values():
        if token.isascii():
            assert infer(server, [("authorization", f"Bearer {token[:4000].decode()}")]) == "UNAUTHENTICATED"
    assert infer(server, [("x-api-key", server.key("truth"))]) == "PERMISSION_DENIED"


def test_no_forged_token_is_taken(server):
    good = server.issuer.token(scope="predict:good")
    server.secrets.add(good.decode())
    assert server.predict(good, header="authorization").status_code == 200
    assert server.predict(good, "other", header="authorization").status_code == 403
    for what, token in forged(server.issuer).items():
        answer = server.predict(token, header="authorization")
        assert (answer.status_code, answer.json()) == (401, REFUSED), what
        server.secrets.update(piece for piece in token.decode("latin-1").split(".") if len(piece) > 60)
    expired = server.issuer.token(exp=int(time.time()) - 31)
    assert server.predict(expired, header="authorization").json()["error"].startswith("the token has expired")
    assert not any("stranger" in path for path in server.issuer.asked)
    assert server.predict(good, header="authorization").status_code == 200


def test_no_forged_key_is_taken(server):
    key = server.key("predict").encode()
    other = server.key("predict").encode()
    for wrong in (
        key[:-1] + b"?", key[:-1], key + b"A", key[:12] + other[12:], b"ek_00000000_" + key[12:], key[:12] + b"\xc3\xa9" * 21,
        key[:11] + b"-" + key[12:],
        b"ek_", b"ek_" + b"A" * 5000, key.upper(), key + b" " + other, b"null", b"*", server.admin_key[:-1].encode(),
    ):  # fmt: skip
        for header in ("x-api-key", "authorization"):
            answer = server.predict(wrong, header=header)
            assert (answer.status_code, answer.json()) == (401, REFUSED), wrong
    # The admin API says 403 to what it does not know, and 401 to who sends nothing.
    assert server.admin("GET", "/keys", key=key[:-1].decode() + "?").status_code == 403


def test_a_revoked_key_stops_on_every_worker_within_a_second(server):
    key = server.key("predict")
    assert server.admin("POST", f"/keys/{key[3:11]}/revoke").status_code == 200
    end = time.monotonic() + 1.0
    time.sleep(max(0.0, end - time.monotonic()))
    seen = Counter(server.predict(key, port=port).status_code for port in ("url", "data_url") for _ in range(20))
    assert seen == {401: 40}


def test_a_rotated_key_is_good_for_its_grace_time(server):
    old = server.key("predict")
    answer = server.admin("POST", f"/keys/{old[3:11]}/rotate", json={"grace": "3s"})
    rotated = time.monotonic()
    new = answer.json()["key"]
    server.secrets.add(new[12:])
    server.until(new, lambda status: status == 200, seconds=2.5)
    assert server.predict(old).status_code == 200
    time.sleep(max(0.0, rotated + 3.6 - time.monotonic()))
    assert {server.predict(old).json()["error"] for _ in range(8)} == {"the API key has expired; ask for another"}
    assert server.predict(new).status_code == 200


def test_a_key_made_on_the_command_line_works(server):
    done = server.running.project.run("ekiben", "keys", "create", "cli", "--scope", "predict", "--json")
    key = json.loads(done.stdout)["key"]
    server.secrets.add(key[12:])
    server.until(key, lambda status: status == 200, seconds=3)
    file = server.running.project.root / "home" / "admin.key"
    remote = server.running.project.run("ekiben", "keys", "revoke", key, "--server", server.running.url, "--key-file", str(file))
    assert "is revoked" in remote.stdout
    server.until(key, lambda status: status == 401, seconds=3)


def test_the_issuers_keys_rotate(server):
    issuer = server.issuer
    before = issuer.token()
    assert server.predict(before, header="authorization").status_code == 200
    issuer.keys = [issuer.rsa("two"), issuer.rsa("one")]
    after = issuer.token()
    server.secrets.update(token.decode() for token in (before, after))
    end = time.monotonic() + 14  # a worker asks at most once in ten seconds
    in_a_row = 0
    while in_a_row < 10:
        assert time.monotonic() < end
        status = server.predict(after, header="authorization").status_code
        in_a_row = in_a_row + 1 if status == 200 else 0
        time.sleep(0.05)
    issuer.keys = [issuer.rsa("one")]


def test_no_secret_stands_in_a_log_an_event_a_metric_or_the_database(server):
    time.sleep(0.7)  # metrics and the access log are written twice a second
    home = server.running.project.root / "home"
    places = {
        "log": server.running.log.read_bytes(),
        "metrics": httpx.get(server.running.url + "/metrics", headers={"x-api-key": server.admin_key}).content,
        "audit": server.admin("GET", "/audit?limit=1000").content,
        "keys": server.admin("GET", "/keys").content,
        **{file.name: file.read_bytes() for file in home.glob("control.db*")},
    }
    assert b"/v1/models/good:predict" in places["log"]
    assert b"key-revoked" in places["audit"]
    for place, content in places.items():
        found = [secret for secret in server.secrets if secret.encode("latin-1") in content]
        assert not found, f"{place} has secrets"


def test_who_shows_no_certificate_is_refused_on_both_ports(tmp_path, tmp_path_factory):
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    project = Project(tmp_path / "project")
    register(project, [(made(tmp_path / "made", "good", "good"), "1")])
    own = {"certificate": str(certificates.server), "key": str(certificates.server_key), "client_ca": str(certificates.ca)}
    options = [
        "--ssl-certfile",
        own["certificate"],
        "--ssl-keyfile",
        own["key"],
        "--ssl-ca-certs",
        own["client_ca"],
        "--ssl-cert-reqs",
        "2",
    ]
    env = {f"EKIBEN_TLS_{name.upper()}": file for name, file in own.items()}
    with Running(project, workers=1, arguments=options, EKIBEN_MONITOR="off", **env) as running:
        trusting = ssl.create_default_context(cafile=str(certificates.ca))
        showing = ssl.create_default_context(cafile=str(certificates.ca))
        showing.load_cert_chain(certificates.client, certificates.client_key)
        ports = [f"https://127.0.0.1:{port}/v1/models/good:predict" for port in (running.port, running.data_port)]
        end, ready = time.monotonic() + 60, f"https://127.0.0.1:{running.port}/readyz"
        while not _is_ready(ready, showing):
            assert time.monotonic() < end, running.log.read_text()
            time.sleep(0.2)
        for url in ports:
            answer = httpx.post(url, json={"instances": [ROW]}, verify=showing, timeout=20)
            assert answer.status_code == 200, answer.text
            with pytest.raises(httpx.TransportError):
                httpx.post(url, json={"instances": [ROW]}, verify=trusting, timeout=20)
            with pytest.raises(httpx.TransportError):
                httpx.post(url.replace("https", "http", 1), json={"instances": [ROW]}, timeout=20)


def _is_ready(url: str, context: ssl.SSLContext) -> bool:
    try:
        return httpx.get(url, verify=context, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
