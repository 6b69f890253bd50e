import asyncio

import pytest
from grpc_health.v1 import health_pb2 as pb
from unit.serving.grpc.calling import GONE, Client, Reply, Wire, called, framed, part

from ekiben.serving.grpc import health
from ekiben.serving.grpc.status import Code
from ekiben.serving.host import Snapshot

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, UNKNOWN = (
    pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING, pb.HealthCheckResponse.SERVICE_UNKNOWN,
)  # fmt: skip
WHOLE = ["", "grpc.health.v1.Health", "inference.GRPCInferenceService"]


def check(client, service):
    return pb.HealthCheckResponse.FromString(client.unary(CHECK, pb.HealthCheckRequest(service=service)).only).status


@pytest.mark.parametrize("service", [*WHOLE, "tiny", "plane"])
def test_server_services_and_models_are_serving(client, service):
    assert check(client, service) == SERVING


@pytest.mark.parametrize("service", ["ghost", "inference", "tiny:1"])
def test_what_nobody_knows(client, service):
    reply = client.unary(CHECK, pb.HealthCheckRequest(service=service))
    assert reply.code is Code.NOT_FOUND
    assert f"{service!r}" in reply.message


def test_a_model_that_is_missing_takes_the_server_with_it(start, registry, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    client = Client(start("plane", "ghost"))
    assert [check(client, service) for service in WHOLE] == [NOT_SERVING] * 3
    assert check(client, "ghost") == NOT_SERVING
    assert check(client, "plane") == SERVING


def test_while_draining_nothing_is_serving(serving):
    serving.server.plane.draining = True
    client = Client(serving)
    assert [check(client, service) for service in (*WHOLE, "tiny")] == [NOT_SERVING] * 4


def test_watch_tells_the_status_and_each_change_until_the_server_stops(serving, monkeypatch):
    monkeypatch.setattr(health, "_LOOK_S", 0.001)

    def statuses(wire):
        return [pb.HealthCheckResponse.FromString(m["body"][5:]).status for m in wire.sent[1:]]

    async def conversation():
        wire = Wire([part(framed(pb.HealthCheckRequest(service="tiny").SerializeToString()))])
        call = asyncio.create_task(called(serving.server.grpc.app, WATCH, wire))
        await asyncio.sleep(0.05)
        assert statuses(wire) == [SERVING]
        served = serving.server.host.snapshot
        serving.server.host.snapshot = Snapshot(models=served.models, problems={"tiny": "is being loaded"})
        await asyncio.sleep(0.05)
        serving.server.host.snapshot = served
        await asyncio.sleep(0.05)
        assert statuses(wire) == [SERVING, NOT_SERVING, SERVING]
        serving.server.plane.draining = True
        await asyncio.wait_for(call, 5)
        reply = Reply(wire.sent)
        assert [pb.HealthCheckResponse.FromString(m).status for m in reply.plain] == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]
        assert reply.code is Code.UNAVAILABLE

    serving.thread.run(conversation())


def test_watch_of_what_nobody_knows_goes_on_for_it_may_come(steady):
    async def conversation():
        wire = Wire([part(framed(pb.HealthCheckRequest(service="ghost").SerializeToString()))])
        call = asyncio.create_task(called(steady.server.grpc.app, WATCH, wire))
        await asyncio.sleep(0.02)
        assert not call.done()
        assert pb.HealthCheckResponse.FromString(wire.sent[1]["body"][5:]).status == UNKNOWN
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    steady.thread.run(conversation())


def test_watch_of_nothing_ends(client):
    assert client.raw(WATCH, [part(b"")]).code is Code.OK
    assert client.sent(WATCH, [GONE]) == []
