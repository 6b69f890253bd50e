"""Clients that ask without pause, in threads, until they are stopped."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import grpc
import httpx
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

ROW = [1.0, 2.0, 0.0, -3.0]


def tiny_request() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny")
    for name, value in zip("abcd", ROW, strict=True):
        request.inputs.add(name=name, datatype="FP32", shape=[1]).contents.fp32_contents.append(value)
    request.outputs.add(name="prediction")
    return request


class _Load:
    """Threads that ask.

    Attributes:
        answered: Answers of each client.
        failed: What was not answered, of each client.
    """

    def __init__(self, clients: int) -> None:
        self.answered = [0] * clients
        self.failed: list[list[str]] = [[] for _ in range(clients)]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, n: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


class RestLoad(_Load):
    """Keep-alive connections over a list of replicas, as a load balancer holds them.

    A replica that cannot be reached, or asks for its connection to be closed, is left for the next one; a request that was sent and
    not answered is a failure, as nobody may send it twice.
    """

    def __init__(self, urls: Sequence[str], clients: int) -> None:
        self._urls = urls
        super().__init__(clients)

    def _ask(self, n: int) -> None:
        at = 0
        while not self._stopping.is_set():
            with httpx.Client(timeout=30) as client:
                while not self._stopping.is_set():
                    try:
                        answer = client.post(f"{self._urls[at]}/v1/models/tiny:predict", json={"instances": [ROW]})
                    except httpx.ConnectError:
                        at = (at + 1) % len(self._urls)
                        break
                    except httpx.TransportError as e:
                        self.failed[n].append(repr(e))
                        break
                    if answer.status_code == 200:
                        self.answered[n] += 1
                    else:
                        self.failed[n].append(f"{answer.status_code} {answer.text}")
                    if answer.headers.get("connection") == "close":
                        at = (at + 1) % len(self._urls)
                        break


class GrpcLoad(_Load):
    """Channels over a list of replicas, each with its own connections and what grpcio does by itself: no retry policy.

    Attributes:
        workers: What the ids made by the workers that answered begin with, of each client, in their order.
    """

    def __init__(self, addresses: Sequence[str], clients: int) -> None:
        self._target = "ipv4:" + ",".join(addresses)
        self.workers: list[list[str]] = [[] for _ in range(clients)]
        super().__init__(clients)

    def _ask(self, n: int) -> None:
        request = tiny_request()
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.lb_policy_name", "pick_first"),
            ("grpc.default_authority", "replicas"),  # which would be the whole list, and that is no authority
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        with grpc.insecure_channel(self._target, options=options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not self._stopping.is_set():
                try:
                    answer = stub.ModelInfer(request, timeout=30)
                except grpc.RpcError as e:
                    self.failed[n].append(f"{e.code().name} {e.details()}")
                    self._stopping.wait(0.05)
                    continue
                self.answered[n] += 1
                worker = answer.id.partition("-")[0]
                if self.workers[n][-1:] != [worker]:
                    self.workers[n].append(worker)
