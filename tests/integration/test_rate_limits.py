"""Limits over the wire: two workers, a greedy client on 64 connections beside a modest one, both ports, every transport."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import grpc
import httpx
import msgspec
import psutil
import pytest
from integration.running import Running, metric
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ekiben.model.guard_spec import LimitsSpec, RateSpec

pytestmark = pytest.mark.processes

RATE, BURST, SECONDS = 500, 250, 3
GREEDY, MODEST, LATE, GRPC = "203.0.113.66", "203.0.113.1", "203.0.113.2", "203.0.113.3"


@pytest.fixture
def tiny_spec(tiny_spec):
    """The model with a rate of its own, and few requests under way."""
    rates = (RateSpec(per="ip", rows=RATE, burst=BURST),)
    return msgspec.structs.replace(tiny_spec, limits=LimitsSpec(rates=rates, max_rows=300, concurrent=100))


@pytest.fixture
def project(project, tiny_artifact):
    project.register(tiny_artifact, version="1")
    return project


@pytest.fixture
def ask(tiny_rows):
    """Asks for so many rows as a client of an address: ``ask(url, "203.0.113.1", 3)``."""

    def post(url, client, rows=1):
        headers = {
            "x-forwarded-for": f"192.0.2.{time.monotonic_ns() % 250}, {client}"
        }  # what it says itself changes and counts for nothing
        return httpx.post(f"{url}/v1/models/tiny:predict", json={"instances": tiny_rows(rows)}, headers=headers)

    return post


def greedy(url, row, folder):
    """wrk on 64 connections, one row a request."""
    body = msgspec.json.encode({"instances": [row]}).decode()
    headers = f'wrk.headers["content-type"] = "application/json"\nwrk.headers["x-forwarded-for"] = "{GREEDY}"\n'
    (folder / "greedy.lua").write_text(f"wrk.method = \"POST\"\n{headers}wrk.body = '{body}'\n")
    command = ["wrk", "-t1", "-c64", f"-d{SECONDS}s", "-s", "greedy.lua", f"{url}/v1/models/tiny:predict"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def answered(report):
    """Requests that were answered with 200, and how long it took, seconds."""
    total, took = re.search(r"(\d+) requests in ([\d.]+)s", report).groups()
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    return int(total) - int(refused[1] if refused else 0), float(took)


def test_the_limit_holds_over_workers_ports_and_transports(project, ask, tiny_rows, tmp_path):
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    (project.root / "limits.yaml").write_text("rates: [{per: ip, requests: 1000000, every: 1h}]\n")
    with Running(project, workers=2, EKIBEN_TRUSTED_PROXIES="1") as server:
        server.wait()
        process = greedy(server.url, tiny_rows(2)[1], tmp_path)
        others = []
        while process.poll() is None:
            others.append(ask(server.data_url, MODEST).status_code)
            time.sleep(0.05)
        passed, took_s = answered(process.stdout.read())
        process.stdout.close()
        # Never more. Less, where the machine is too busy to be asked for the rate all the time; test_limit_counts.py holds that to 2 %.
        assert 0.7 <= passed / (RATE * took_s + BURST) <= 1.02
        assert len(others) > 10
        assert set(others) == {200}, "another address is not concerned"

        told_of_limits(server, ask)
        told_over_grpc(server, tiny_rows)
        text = httpx.get(f"{server.url}/metrics").text
        assert metric(text, "ekiben_limited_total", model="tiny", rule="ip:rows:1s") > 1000
        assert metric(text, "ekiben_limit_backend_up") == 1
        assert GREEDY not in text


def told_of_limits(server, ask):
    first = ask(server.url, LATE, BURST)
    assert first.status_code == 200
    assert first.headers["ratelimit-limit"] == f"{BURST}, {RATE};w=1;burst={BURST}"
    assert int(first.headers["ratelimit-remaining"]) < BURST / 2, "all that may come at once has come"
    for _ in range(20):
        refused = ask(server.data_url, LATE, BURST)
        if refused.status_code != 200:
            break
    assert refused.status_code == 429
    assert "too many rows: the limit is 500 rows every 1s for each address; try again in" in refused.json()["error"]
    assert refused.headers["ratelimit-limit"] == first.headers["ratelimit-limit"]
    assert int(refused.headers["ratelimit-reset"]) == 1
    time.sleep(int(refused.headers["retry-after"]))
    assert ask(server.url, LATE, BURST).status_code == 200
    for rows, right in ((301, "one request may have 300"), (BURST + 1, f"{BURST} may come at once")):
        too_many = ask(server.url, LATE, rows)
        assert (too_many.status_code, right in too_many.json()["error"]) == (413, True)


def told_over_grpc(server, tiny_rows):
    rows = tiny_rows(BURST)
    request = service_pb2.ModelInferRequest(model_name="tiny")
    for name in "abcd":
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[BURST])
        tensor.contents.fp32_contents.extend(row[name] or 0.0 for row in rows)
    with grpc.insecure_channel(f"127.0.0.1:{server.data_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            ask_until_refused(stub, request)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "500 rows every 1s for each address" in refused.value.details()


def ask_until_refused(stub, request):
    for _ in range(50):
        stub.ModelInfer(request, metadata=[("x-forwarded-for", GRPC)])


def test_what_a_client_says_of_itself_counts_for_nothing_and_a_killed_worker_holds_nothing(project, ask):
    (project.root / "limits.yaml").write_text("concurrent: 2\nrates: [{per: ip, requests: 10, every: 1h}]\n")
    with Running(project, workers=2) as server:
        server.wait()
        held = [begun(server.port) for _ in range(2)]  # no more than heads, so they are under way
        waiting = until(lambda: ask(server.url, MODEST), 429)
        assert "too many requests under way: 2 at once for each key" in waiting.json()["error"]
        os.kill(holder(server, held[0]), signal.SIGKILL)  # the other one answers on
        until(lambda: ask(server.url, MODEST), 200)
        codes = [ask(url, f"203.0.113.{n}").status_code for n in range(6) for url in (server.url, server.data_url)]
        for connection in held:
            connection.close()
        assert codes.count(200) <= 7, "10 in all, of which two held and one was answered, whatever addresses it names on whichever port"
        assert codes[-4:] == [429] * 4


def begun(port):
    """A connection whose request has begun and does not go on."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n")
    return connection


def holder(server, connection):
    """The worker at the other end of a connection."""
    mine = connection.getsockname()
    return next(w for w in server.workers() for c in psutil.Process(w).net_connections("tcp") if c.raddr == mine)


def until(question, status, seconds=15):
    """The first answer with a status."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = question()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == status:
            return answer
        assert time.monotonic() < end, answer and (answer.status_code, answer.text)
        time.sleep(0.1)
