"""Clients that go away while their request waits, over each transport."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from unit.serving.grpc.calling import GONE, INFER, Wire, framed, matrix, part

ROW = [1, 2, 3]
V1 = "/v1/models/plane:predict"


@pytest.fixture
def busy(serving):
    """plane, at work on a request until `gate` is set, in a thread; `runs` is what it was asked to compute."""
    served = serving.server.host.snapshot.default["plane"]
    run, serving.gate, serving.runs, began = served.predictor.run, threading.Event(), [], threading.Event()

    def running(batch):
        serving.runs.append(batch.n)
        began.set()
        assert serving.gate.wait(20)
        return run(batch)

    served.predictor.run = running
    served.batcher._inline_s = -1.0
    first = asyncio.run_coroutine_threadsafe(_first(serving), serving.thread.loop)
    assert began.wait(20)
    yield serving
    serving.gate.set()
    assert first.result(20) == 200


async def _first(serving) -> int:
    return (await serving._client.post(V1, json={"instances": [ROW]}, headers={"x-request-timeout-ms": "60000"})).status_code


def scope(path, **headers):
    return {"type": "http", "method": "POST", "path": path, "http_version": "2", "headers": [(k.encode(), v) for k, v in headers.items()]}


def rest(serving, wire):
    wire.give(part(json.dumps({"instances": [ROW]}).encode()))
    headers = {"x-request-timeout-ms": b"60000"}
    return serving.server.app(scope(V1, **headers), wire.receive, wire.send)


def grpc(serving, wire):
    wire.give(part(framed(matrix(ROW).SerializeToString())))
    headers = {"content-type": b"application/grpc", "te": b"trailers", "grpc-timeout": b"60S"}
    return serving.server.data_app(scope(INFER, **headers), wire.receive, wire.send)


@pytest.mark.parametrize("ask", [rest, grpc])
def test_who_hangs_up_is_not_computed_for_and_gets_nothing(busy, ask, caplog):
    async def play():
        wire = Wire()
        asked = asyncio.create_task(ask(busy, wire))
        await asyncio.sleep(0.1)
        assert not asked.done()
        wire.give(GONE)
        await asyncio.wait_for(asked, 10)
        return wire.sent

    assert busy.thread.run(play()) == []
    busy.gate.set()
    assert busy.predict("plane", [ROW]).status_code == 200
    assert busy.runs == [1, 1], "the one it was busy with, and the last"
    assert busy.metric("ekiben_cancelled_total", model="plane", arm="champion") == 1
    assert "request failed" not in caplog.text


@pytest.mark.parametrize("ask", [rest, grpc])
def test_who_stays_is_answered(busy, ask):
    async def play():
        wire = Wire()
        asked = asyncio.create_task(ask(busy, wire))
        await asyncio.sleep(0.1)
        busy.gate.set()
        await asyncio.wait_for(asked, 10)
        return wire.sent

    sent = busy.thread.run(play())
    assert sent[0]["status"] == 200
    assert len(busy.runs) == 2
