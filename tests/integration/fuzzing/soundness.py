"""What the server must answer to sound requests, on fresh connections, after whatever it was sent before."""

from __future__ import annotations

import grpc
import httpx
import numpy as np
from integration.fuzzing import corpus
from integration.fuzzing.mutations import encoded
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

_TIMES = 4
"""Connections to each port: the kernel spreads them over the workers."""


def assert_sound(port: int, data_port: int) -> None:
    """Asks for known answers in V1, in V2 with every datatype as bytes, and over gRPC from a model without rows."""
    valid = {v.model: v for v in corpus.tensors()}
    for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{data_port}"):
        for _ in range(_TIMES):
            with httpx.Client(base_url=url, timeout=20) as client:
                _assert_v1(client)
                _assert_every_datatype(client, valid["all_types"])
    for n in range(_TIMES):
        # An option that differs keeps grpcio from sharing one connection.
        with grpc.insecure_channel(f"127.0.0.1:{data_port}", [("grpc.use_local_subchannel_pool", 1), ("test.number", n)]) as channel:
            _assert_grpc(service_pb2_grpc.GRPCInferenceServiceStub(channel), valid["scalars"])


def _assert_v1(client: httpx.Client) -> None:
    answer = client.post("/v1/models/tiny:predict", json={"instances": corpus.TINY_ROWS})
    assert [p["prediction"] for p in answer.json()["predictions"]] == corpus.TINY_ANSWER, answer.text


def _assert_every_datatype(client: httpx.Client, valid: corpus.Valid) -> None:
    head, blobs = corpus.v2_binary(valid)
    text = encoded(head)
    answer = client.post(
        "/v2/models/all_types/infer", content=text + b"".join(blobs), headers={"inference-header-content-length": str(len(text))}
    )
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["inference-header-content-length"])
    # The model gives each tensor twice over, side by side.
    assert answer.content[size:] == b"".join(corpus.raw(np.concatenate([a, a], axis=1)) for a in valid.arrays.values())


def _assert_grpc(stub: service_pb2_grpc.GRPCInferenceServiceStub, valid: corpus.Valid) -> None:
    answer = stub.ModelInfer(corpus.grpc_request(valid, typed=False), timeout=20)
    assert isinstance(answer, pb.ModelInferResponse)
    assert answer.raw_output_contents[0] == (-valid.arrays["a"]).tobytes()
    assert answer.raw_output_contents[1] == corpus.raw(valid.arrays["s"])
