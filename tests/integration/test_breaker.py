"""Models that fail, hang and are slow, in a real server: who notices, and who does not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from integration.rollouts import made, register
from integration.running import Project, Running, metric
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ekiben.model.guard_spec import BreakerSpec
from ekiben.model.spec import BatchingSpec
from ekiben.settings import load_settings
from ekiben.state.opening import open_control

pytestmark = pytest.mark.processes

BREAKER = BreakerSpec(min_requests=10, window="10s", open_for="2s", probes=2)
FAILS, HANGS, SLOW = 2.0, 3.0, 4.0
PATIENT = {"X-Request-Timeout-Ms": "60000"}
"""So long that nothing is refused because the answer would come too late."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One worker with ``good`` and with ``moody`` in the ways its breaker may answer."""
    root = tmp_path_factory.mktemp("breaker")
    project = Project(root / "project")
    default = BreakerSpec(min_requests=10, open_for="2s", fallback="default", default={"prediction": "no"})
    previous = BreakerSpec(min_requests=10, open_for="60s", fallback="previous")
    spec = {"batching": BatchingSpec(max_batch_size=1), "timeout_ms": 1000.0, "breaker": BREAKER}
    artifacts = [
        (made(root / "made", "good", "good"), "1"),
        (made(root / "made", "moody", "moody", **spec), "1"),
        (made(root / "made", "tired", "moody", **spec), "1"),
        (made(root / "made", "calm", "moody", **{**spec, "breaker": default}), "1"),
        (made(root / "made", "trial", "good"), "1"),
        (made(root / "made", "trial", "moody", seed=4, breaker=BREAKER), "2"),
        (made(root / "made", "former", "good", **{**spec, "breaker": previous}), "1"),
        (made(root / "made", "former", "moody", seed=4, **{**spec, "breaker": previous}), "2"),
    ]
    register(project, artifacts)
    control = open_control(load_settings({"EKIBEN_HOME": project.env["EKIBEN_HOME"]}))
    for model, alias, version in (("former", "previous", "1"), ("former", "champion", "2"), ("trial", "champion", "1")):
        control.aliases.set(model, alias, version)
    control.database.close()
    computed = root / "computed.txt"
    computed.touch()
    with Running(project, workers=1, MOODY_LOG=str(computed), EKIBEN_ACCESS_LOG_RATE="0") as running:
        running.computed = computed
        running.wait()
        yield running


def row(a: float = 0.1, f: float = 0.0) -> dict[str, float]:
    return {"a": a, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.5, "f": f}


def ask(url: str, model: str, *rows, **headers) -> httpx.Response:
    # Reading the authorities of TLS, which is not spoken here, would take longer than the request.
    return httpx.post(f"{url}/v1/models/{model}:predict", json={"instances": list(rows)}, headers=headers, timeout=20, verify=False)


def breaker_state(server, model: str) -> float:
    time.sleep(0.6)  # metrics are written twice a second
    return metric(httpx.get(server.url + "/metrics").text, "ekiben_breaker_state", model=model)


def events(server, model: str) -> list[dict]:
    time.sleep(0.3)
    lines = server.project.run("ekiben", "rollout", "history", model, "--json", check=False).stdout
    return json.loads(lines or "[]")


def test_a_model_that_fails_is_refused_until_it_answers_again(server):
    assert {ask(server.url, "moody", row(f=FAILS)).status_code for _ in range(10)} == {500}
    began = time.monotonic()
    refused = ask(server.url, "moody", row())
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert "10 of 10 requests failed within 10 s" in refused.json()["error"]
    assert ask(server.url, "good", row()).status_code == 200
    assert breaker_state(server, "moody") == 2
    assert httpx.get(server.url + "/readyz").status_code == 200, "the other models answer on"

    time.sleep(max(0.0, began + 2.1 - time.monotonic()))
    assert ask(server.url, "moody", row()).status_code == 200
    assert ask(server.url, "moody", row()).status_code == 200
    assert breaker_state(server, "moody") == 0
    text = httpx.get(server.url + "/metrics").text
    for state in ("open", "half-open", "closed"):
        assert metric(text, "ekiben_breaker_transitions_total", model="moody", state=state) == 1


def test_bad_input_and_requests_without_time_open_nothing(server):
    for _ in range(30):
        assert ask(server.url, "moody", {"a": "x"}).status_code == 422
        assert ask(server.url, "moody", row(), **{"X-Request-Timeout-Ms": "0.001"}).status_code == 504
    assert ask(server.url, "moody", row()).status_code == 200
    assert breaker_state(server, "moody") == 0


def test_a_default_answers_for_a_broken_model(server):
    for _ in range(10):
        ask(server.url, "calm", row(f=FAILS))
    answer = ask(server.url, "calm", row(), row())
    assert answer.status_code == 200
    assert (answer.headers["x-model-arm"], answer.headers["x-model-version"]) == ("fallback", "1")
    assert [p["prediction"] for p in answer.json()["predictions"]] == ["no", "no"]
    assert answer.json()["predictions"][0]["confidence"] is None
    assert ask(server.url, "calm", {"a": "x"}).status_code == 422
    pinned = httpx.post(f"{server.url}/v1/models/calm/versions/1:predict", json={"instances": [row()]})
    assert pinned.status_code == 503, "who names a version wants that one"
    time.sleep(0.6)
    text = httpx.get(server.url + "/metrics").text
    assert metric(text, "ekiben_predictions_total", model="calm", arm="fallback", status="ok") == 1


def test_the_former_champion_answers_for_a_broken_one(server):
    assert ask(server.url, "former", row()).headers["x-model-version"] == "2"
    for _ in range(10):
        ask(server.url, "former", row(f=FAILS))
    answer = ask(server.url, "former", row())
    assert answer.status_code == 200
    assert (answer.headers["x-model-arm"], answer.headers["x-model-version"]) == ("fallback", "1")


def test_clients_that_hang_up_are_not_computed_for(server):
    """Behind a request that takes its time, fifty clients ask and go."""
    assert _computed_of(server, 1000, lambda: _asked_and_gone(server.port)) == 0
    time.sleep(0.6)
    assert metric(httpx.get(server.url + "/metrics").text, "ekiben_cancelled_total", model="moody") == 50


def test_grpc_calls_that_are_cancelled_are_not_computed_for(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.data_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask_and_go() -> None:
            calls = [stub.ModelInfer.future(_grpc_request("moody", 2000 + n), timeout=60) for n in range(50)]
            time.sleep(0.05)
            for call in calls:
                call.cancel()

        assert _computed_of(server, 2000, ask_and_go) == 0


def test_who_stays_is_computed_for(server):
    """The tests above would pass too if nothing were computed."""

    def ask_and_stay() -> None:
        clients.extend(_sent(server.port, "moody", row(a=3000 + n)) for n in range(20))

    clients: list[socket.socket] = []
    assert _computed_of(server, 3000, ask_and_stay) == 20
    for client in clients:
        assert b" 200 OK" in client.recv(100)
        client.close()


def _computed_of(server, base: int, ask_and_go) -> int:
    """How many of a thousand numbers were computed, asked for while the model was busy with another request."""
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, server.url, "moody", row(a=1, f=SLOW), **PATIENT)
        time.sleep(0.1)
        ask_and_go()
        assert slow.result().status_code == 200
    assert ask(server.url, "moody", row(a=5), **PATIENT).status_code == 200
    return Counter(int(float(line)) // 1000 for line in server.computed.read_text().split())[base // 1000]


def _asked_and_gone(port: int) -> None:
    sockets = [_sent(port, "moody", row(a=1000 + n)) for n in range(50)]
    time.sleep(0.02)
    for client in sockets:
        client.close()


def test_connections_are_used_again_after_long_waits(server):
    """Listening for a client that goes away takes nothing of its next request."""
    for url in (server.url, server.data_url):
        with httpx.Client(timeout=20) as client:
            for n in range(3):
                body, headers = {"instances": [row(a=6, f=SLOW)]}, {"x-request-id": f"r{n}"}
                answer = client.post(f"{url}/v1/models/moody:predict", json=body, headers=headers)
                assert answer.json()["id"] == f"r{n}"


def test_a_model_that_hangs_is_refused_at_once_and_the_others_do_not_feel_it(server):
    url, stop, took = server.url, threading.Event(), []

    def good(client):
        began = time.monotonic()
        assert client.post(f"{url}/v1/models/good:predict", json={"instances": [row()]}).status_code == 200
        return time.monotonic() - began

    with httpx.Client() as client:
        alone = [good(client) for _ in range(300)]

        def hang() -> None:
            with httpx.Client(timeout=20) as mine:
                while not stop.is_set():
                    began = time.monotonic()
                    status = mine.post(f"{url}/v1/models/tired:predict", json={"instances": [row(f=HANGS)]}).status_code
                    took.append((status, time.monotonic() - began))
                    time.sleep(0.5)

        threads = [threading.Thread(target=hang) for _ in range(64)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        beside = [good(client) for _ in range(300)]
        time.sleep(2.5)
        stop.set()
        for thread in threads:
            thread.join()
    statuses = Counter(status for status, _ in took)
    assert set(statuses) <= {503, 504}
    expired = [seconds for status, seconds in took if status == 504]
    refused = [seconds for status, seconds in took if status == 503]
    assert expired, "until it opens, each waits for its deadline"
    assert all(0.9 < seconds < 3 for seconds in expired)
    assert len(refused) > len(expired), "then nobody waits"
    assert float(np.median(refused)) < 0.3
    # Sixty-four threads of this process ask beside, so there is a floor: with one queue for both it would be a second.
    assert np.percentile(beside, 99) < max(2 * np.percentile(alone, 99), 0.1)


def test_a_challenger_that_breaks_is_taken_back_at_once(server):
    (server.project.root / "plan.yaml").write_text("steps: [{setWeight: 100}, {pause: 1h}]\n")
    server.project.run("ekiben", "rollout", "start", "trial", "--to", "2", "--plan", "plan.yaml")
    end = time.monotonic() + 30
    while ask(server.url, "trial", row()).headers["x-model-arm"] != "challenger":
        assert time.monotonic() < end
        time.sleep(0.1)
    for _ in range(12):
        answer = ask(server.url, "trial", row(f=FAILS))
        assert (answer.status_code, answer.headers["x-model-arm"]) == (200, "fallback"), "users feel nothing of it"
    began = time.monotonic()
    while ask(server.url, "trial", row()).headers["x-model-arm"] != "champion":
        assert time.monotonic() < began + 10
        time.sleep(0.05)
    took = time.monotonic() - began
    status = json.loads(server.project.run("ekiben", "rollout", "status", "trial", "--json").stdout)
    assert status["status"] == "RolledBack"
    assert status["message"].startswith("breaker: trial:2 is broken in ")
    assert "requests failed within 10 s" in status["message"]
    assert took < 5


def test_breakers_are_events(server):
    kinds = [(event["model"], event["kind"]) for event in events(server, "moody")]
    assert kinds[-2:] == [("moody", "breaker-opened"), ("moody", "breaker-closed")]


def _sent(port: int, model: str, instance: dict) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    body = json.dumps({"instances": [instance]}).encode()
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: h\r\nX-Request-Timeout-Ms: 60000\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def _grpc_request(model: str, a: float):
    values = row(a=a)
    tensors = [
        service_pb2.ModelInferRequest.InferInputTensor(
            name=name, datatype="FP32", shape=[1], contents=service_pb2.InferTensorContents(fp32_contents=[value])
        )
        for name, value in values.items()
    ]
    return service_pb2.ModelInferRequest(model_name=model, inputs=tensors)
