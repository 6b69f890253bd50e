"""What clients of the data port see of a server that stops, and of a worker that dies."""

from __future__ import annotations

import os
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from integration.clients.load import GrpcLoad, RestLoad
from integration.clients.pantry import wait_for_workers
from integration.running import Running
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

pytestmark = pytest.mark.processes


def address(server: Running) -> str:
    return f"127.0.0.1:{server.data_port}"


def test_sigterm_under_load_of_both_protocols_loses_nothing(pantry):
    with Running(pantry, workers=2, EKIBEN_DRAIN_S="1.5") as stopped, Running(pantry, workers=1) as other:
        wait_for_workers(stopped, 2)
        other.wait()
        rest = RestLoad([stopped.data_url, other.data_url], 4)
        rpc = GrpcLoad([address(stopped), address(other)], 4)
        time.sleep(1.5)
        before = sum(rest.answered), sum(rpc.answered)
        code = stopped.stop()
        after = list(rest.answered), list(rpc.answered)
        time.sleep(1)
        rest.stop()
        rpc.stop()

    assert min(before) > 50
    assert code == 0
    assert rest.failed == [[]] * 4
    assert rpc.failed == [[]] * 4
    for load, then in zip((rest, rpc), after, strict=True):  # and every client has gone over to the other
        assert all(now > earlier for now, earlier in zip(load.answered, then, strict=True))
    assert len({workers[-1] for workers in rpc.workers}) == 1
    assert all(workers[-1] not in workers[:-1] for workers in rpc.workers)


def test_a_stopping_server_tells_its_clients_and_answers_on(pantry):
    with Running(pantry, workers=1, EKIBEN_DRAIN_S="1.5") as server, grpc.insecure_channel(address(server)) as channel:
        server.wait()
        stub, health = service_pb2_grpc.GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

        server.process.terminate()

        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        late = pb.ModelInferRequest(model_name="spin")
        late.inputs.add(name="turns", datatype="INT64", shape=[1, 1]).contents.int64_contents.append(1)
        assert stub.ModelInfer(late).outputs[0].contents.int64_contents[0] == 1
        # A call that lasts beyond the drain is answered before the port closes.
        late.inputs[0].contents.int64_contents[0] = 4000
        assert stub.ModelInfer(late, timeout=60).outputs[0].contents.int64_contents[0] == 4000
        assert server.process.wait(30) == 0


def test_a_killed_worker_takes_only_its_own_calls_with_it_and_comes_back(pantry):
    with Running(pantry, workers=2) as server:
        wait_for_workers(server, 2)
        killed = server.workers()[0]
        load = GrpcLoad([address(server)], 12)
        time.sleep(1)
        first = {workers[0] for workers in load.workers}
        assert len(first) == 2, "all connections went to one worker"
        os.kill(killed, signal.SIGKILL)
        time.sleep(0.5)
        again = list(load.answered)
        time.sleep(1)
        load.stop()
        assert all(now > then for now, then in zip(load.answered, again, strict=True))  # every client is answered again
        stayed = [n for n, workers in enumerate(load.workers) if len(workers) == 1]
        moved = [n for n in range(12) if n not in stayed]
        assert stayed
        assert moved
        assert all(load.failed[n] == [] for n in stayed)
        # A client of the dead worker may lose the call that was in it, and finds the other one at once.
        assert all(len(load.failed[n]) <= 2 for n in moved), load.failed
        assert {failure.split()[0] for n in moved for failure in load.failed[n]} <= {"UNAVAILABLE"}
        wait_for_workers(server, 2)
        assert comes_back(server, first)


def comes_back(server: Running, known: set[str], *, seconds: float = 30) -> bool:
    """Whether new connections reach a worker that was not there before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        load = GrpcLoad([address(server)], 8)
        time.sleep(0.2)
        load.stop()
        if {worker for workers in load.workers for worker in workers} - known:
            return True
    return False
