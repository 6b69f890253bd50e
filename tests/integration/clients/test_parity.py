"""The same rows by every way in: the same numbers out, and each request counted once."""

from __future__ import annotations

import time

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from integration.clients.pantry import tiny_probabilities
from integration.clients.tensors import columns, inputs_of, tiny_rows
from integration.running import metric
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

pytestmark = pytest.mark.processes

ROWS = tiny_rows(7, seed=3)


def v1(server):
    answer = httpx.post(server.data_url + "/v1/models/tiny:predict", json={"instances": ROWS.tolist()})
    return [[p["probabilities"][label] for label in ("no", "yes")] for p in answer.json()["predictions"]]


def native(server):
    records = [dict(zip("abcd", row, strict=True)) for row in ROWS.tolist()]
    return [
        [p["probabilities"][label] for label in ("no", "yes")] for p in httpx.post(server.url + "/tiny", json={"instances": records}).json()
    ]


def v2_matrix(server):
    body = {
        "inputs": [{"name": "rows", "datatype": "FP32", "shape": [7, 4], "data": ROWS.tolist()}],
        "outputs": [{"name": "probabilities"}],
    }
    (output,) = httpx.post(server.data_url + "/v2/models/tiny/infer", json=body).json()["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def v2(server, *, binary: bool):
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.data_port}") as client:
        outputs = [triton_http.InferRequestedOutput("probabilities", binary_data=binary)]
        asked = client.infer("tiny", inputs_of(triton_http, columns(ROWS), binary_data=binary), outputs=outputs)
        return asked.as_numpy("probabilities")


def grpc_raw(server):
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.data_port}") as client:
        return client.infer("tiny", inputs_of(triton_grpc, columns(ROWS))).as_numpy("probabilities")


def grpc_typed(server):
    request = pb.ModelInferRequest(model_name="tiny")
    for name, column in columns(ROWS).items():
        request.inputs.add(name=name, datatype="FP32", shape=[7]).contents.fp32_contents.extend(column.tolist())
    request.outputs.add(name="probabilities")
    with grpc.insecure_channel(f"127.0.0.1:{server.data_port}") as channel:
        (output,) = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request).outputs
    return np.array(output.contents.fp32_contents).reshape(output.shape)


def grpc_stream(server):
    found = []
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.data_port}") as client:
        client.start_stream(lambda result, error: found.append(error or result.as_numpy("probabilities")))
        client.async_stream_infer("tiny", inputs_of(triton_grpc, columns(ROWS)))
        client.stop_stream()
    return found[0]


WAYS = {
    "V1": v1,
    "typed endpoint": native,
    "V2, a matrix": v2_matrix,
    "V2 in JSON": lambda server: v2(server, binary=False),
    "V2 in bytes": lambda server: v2(server, binary=True),
    "gRPC, raw": grpc_raw,
    "gRPC, typed": grpc_typed,
    "gRPC, streamed": grpc_stream,
}
"""How to ask, by name; each is one request of seven rows."""


def test_the_same_numbers_by_every_way(server):
    found = {way: np.asarray(ask(server), np.float32) for way, ask in WAYS.items()}

    np.testing.assert_allclose(found["V1"], tiny_probabilities(ROWS), rtol=1e-5)
    for way, probabilities in found.items():
        assert (way, probabilities.tolist()) == (way, found["V1"].tolist())  # to the last bit


@pytest.mark.parametrize("way", WAYS)
def test_each_request_is_counted_once(server, way):
    before = settled(server)

    WAYS[way](server)

    wanted = {name: value + (7 if name in ROW_COUNTS else 1) for name, value in before.items()}
    end = time.monotonic() + 10
    while (after := counts(server)) != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert after == wanted


ROW_COUNTS = ("ekiben_predicted_rows_total", "ekiben_batch_size_sum", "ekiben_prediction_distribution")


def settled(server, *, seconds: float = 10) -> dict[str, float]:
    """The counts once they stay the same for a second: workers write twice a second what earlier requests changed."""
    end = time.monotonic() + seconds
    seen, since = counts(server), time.monotonic()
    while time.monotonic() < since + 1:
        assert time.monotonic() < end, seen
        time.sleep(0.1)
        if (now := counts(server)) != seen:
            seen, since = now, time.monotonic()
    return seen


def counts(server) -> dict[str, float]:
    text = httpx.get(server.url + "/metrics").text
    return {
        "ekiben_predictions_total": metric(text, "ekiben_predictions_total", model="tiny"),
        "ekiben_prediction_latency_seconds_count": metric(text, "ekiben_prediction_latency_seconds_count", model="tiny"),
        "ekiben_queue_seconds_count": metric(text, "ekiben_queue_seconds_count", model="tiny"),
        "ekiben_batch_size_count": metric(text, "ekiben_batch_size_count", model="tiny"),
        **{name: metric(text, name, model="tiny") for name in ROW_COUNTS},
    }


def test_a_refused_request_is_counted_once_by_every_transport(server):
    def failures() -> float:
        text = httpx.get(server.url + "/metrics").text
        return metric(text, "ekiben_predictions_total", model="tiny", status="invalid")

    bad = ROWS.copy()
    bad[2, 3] = 99
    before = failures()
    assert httpx.post(server.data_url + "/v1/models/tiny:predict", json={"instances": bad.tolist()}).status_code == 422
    for triton in (triton_http, triton_grpc):
        with triton.InferenceServerClient(f"127.0.0.1:{server.data_port}") as client, pytest.raises(Exception, match="row 2, field 'd'"):
            client.infer("tiny", inputs_of(triton, columns(bad)))

    assert failures() == before + 3
