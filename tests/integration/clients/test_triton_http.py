"""tritonclient.http and tritonclient.http.aio, on the data port and on BentoML's own."""

from __future__ import annotations

import asyncio
import time

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from integration.clients.pantry import MODELS, tiny_probabilities
from integration.clients.tensors import assert_doubled, columns, feeds_of, inputs_of, text, tiny_rows
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.processes

ROWS = tiny_rows(5)


@pytest.fixture(params=["data port", "main port"])
def address(server, request) -> str:
    return f"127.0.0.1:{server.data_port if request.param == 'data port' else server.port}"


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address, concurrency=8) as made:
        yield made


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("ghost")
    assert client.get_server_metadata()["name"] == "ekiben"
    told = client.get_model_metadata("several", "1")
    assert told["versions"] == ["1"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in told["inputs"]] == [
        ("a", "FP32", [-1, 3]),
        ("b", "FP32", [-1]),
        ("k", "INT64", [-1]),
    ]
    assert client.get_model_metadata("square")["inputs"][0]["shape"] == [4, 4]
    assert client.get_model_config("tiny")["max_batch_size"] == 128
    assert client.get_model_config("square")["max_batch_size"] == 0


def test_the_repository_can_be_read_and_not_changed(client):
    assert [(m["name"], m["state"]) for m in client.get_model_repository_index()] == [(name, "READY") for name in MODELS]
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="EKIBEN_REPOSITORY_API=on allows it") as refused:
            change("tiny")
        assert refused.value.status() == "403"
    assert client.is_model_ready("tiny")


def test_statistics_count_what_was_asked(client):
    def counts():
        (told,) = client.get_inference_statistics("several", "1")["model_stats"]
        return told["inference_count"], told["inference_stats"]["success"]["count"], told["inference_stats"]["fail"]["count"]

    rows, successes, failures = counts()
    for _ in range(3):
        client.infer("several", inputs_of(triton, feeds_of("several", 2)))
    with pytest.raises(InferenceServerException):
        client.infer("several", inputs_of(triton, {"a": np.zeros((1, 3), np.float32)}))

    assert counts() == (rows + 6, successes + 3, failures + 1)
    assert {m["name"] for m in client.get_inference_statistics()["model_stats"]} == set(MODELS)


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_binary_and_json_tensors(client, binary_in, binary_out):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "prediction")]

    result = client.infer("tiny", inputs_of(triton, columns(ROWS), binary_data=binary_in), outputs=outputs, request_id="mine")

    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "mine")
    assert [o["name"] for o in answer["outputs"]] == ["probabilities", "prediction"]
    assert all(("parameters" in o) == binary_out for o in answer["outputs"])
    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(ROWS), rtol=1e-5)
    assert text(result.as_numpy("prediction")) == [["no", "yes"][p] for p in tiny_probabilities(ROWS).argmax(axis=1)]


def test_inputs_and_outputs_may_each_choose(client):
    feeds = feeds_of("several", 2)
    (a,) = inputs_of(triton, {"a": feeds["a"]}, binary_data=True)
    (b,) = inputs_of(triton, {"b": feeds["b"]}, binary_data=False)
    (k,) = inputs_of(triton, {"k": feeds["k"]}, binary_data=True)
    outputs = [triton.InferRequestedOutput("z", binary_data=True), triton.InferRequestedOutput("y", binary_data=False)]

    result = client.infer("several", [k, b, a], outputs=outputs)

    assert result.as_numpy("z").tolist() == (2 * feeds["k"]).tolist()
    np.testing.assert_allclose(result.as_numpy("y"), feeds["a"] * feeds["b"], rtol=1e-6)


def test_every_datatype_goes_through_in_bytes(client):
    feeds = feeds_of("all_types", 4)

    assert_doubled(client.infer("all_types", inputs_of(triton, feeds)), feeds)


def test_strings_go_in_json_too(client):
    feeds = feeds_of("texts", 6)

    result = client.infer(
        "texts", inputs_of(triton, feeds, binary_data=False), outputs=[triton.InferRequestedOutput("y", binary_data=False)]
    )

    assert text(result.as_numpy("y")) == [a + b for a, b in zip(feeds["a"], feeds["b"], strict=True)]


def test_bfloat16_stands_for_float32(client):
    values = np.array([[[1.5, -2, 0.25], [3, 4, 0]]], ml_dtypes.bfloat16)
    inputs = inputs_of(triton, {"image": values})
    assert inputs[0].datatype() == "BF16"

    doubled = client.infer("image", inputs).as_numpy("doubled")

    assert (doubled.dtype, doubled.tolist()) == (np.float32, [[[3, -4, 0.5], [6, 8, 0]]])


def test_a_tensor_without_rows_is_taken_whole(client):
    feeds = feeds_of("square")

    np.testing.assert_allclose(client.infer("square", inputs_of(triton, feeds)).as_numpy("y"), feeds["x"] @ feeds["x"], rtol=1e-4)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client, binary):
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]

    found = client.infer("tiny", inputs_of(triton, columns(ROWS)), outputs=outputs).as_numpy("probabilities")

    assert found.shape == (5, 2)
    for (first, second), expected in zip(found, tiny_probabilities(ROWS), strict=True):
        best = int(expected.argmax())
        value, index, label = text(np.array([first]))[0].split(":")
        assert (int(index), label) == (best, ["no", "yes"][best])
        assert float(value) == pytest.approx(expected[best], abs=1e-5)
        assert text(np.array([second]))[0].endswith(["0:no", "1:yes"][1 - best])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(client, algorithm):
    rows = tiny_rows(500)

    result = client.infer(
        "tiny",
        inputs_of(triton, columns(rows)),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )

    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(rows), rtol=1e-5)


def test_many_at_once_are_not_mixed_up(client):
    asked = [client.async_infer("tiny", inputs_of(triton, columns(tiny_rows(2, seed))), request_id=str(seed)) for seed in range(64)]

    for seed, pending in enumerate(asked):
        result = pending.get_result()
        assert result.get_response()["id"] == str(seed)
        np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(2, seed)), rtol=1e-5)


def test_errors_say_what_is_wrong(client):
    good = columns(ROWS)
    bad_row = {**good, "d": np.array([0, 0, 11, 0, 0], np.float32)}
    cases = [
        ("404", "ghost", "no model 'ghost'", lambda: client.infer("ghost", inputs_of(triton, good))),
        ("404", "version", "2", lambda: client.infer("tiny", inputs_of(triton, good), model_version="2")),
        ("400", "shape", "image", lambda: client.infer("image", inputs_of(triton, {"image": np.zeros((1, 3, 2), np.float32)}))),
        ("400", "missing", "'d'", lambda: client.infer("tiny", inputs_of(triton, {k: v for k, v in good.items() if k != "d"}))),
        ("400", "output", "'ghost'", lambda: client.infer("tiny", inputs_of(triton, good), outputs=[triton.InferRequestedOutput("ghost")])),
        ("400", "sequence", "sequence_id", lambda: client.infer("tiny", inputs_of(triton, good), sequence_id=4, sequence_start=True)),
        ("422", "row", "row 2, field 'd'", lambda: client.infer("tiny", inputs_of(triton, bad_row))),
    ]
    for status, what, says, ask in cases:
        with pytest.raises(InferenceServerException) as refused:
            ask()
        assert (what, refused.value.status()) == (what, status)
        assert says in refused.value.message()


def test_the_timeout_parameter_is_a_deadline(client):
    turns = np.array([[1]])
    with pytest.raises(InferenceServerException, match="deadline") as late:
        client.infer("spin", inputs_of(triton, {"turns": turns}), timeout=1)
    assert late.value.status() == "504"
    assert client.infer("spin", inputs_of(triton, {"turns": turns}), timeout=30_000_000).as_numpy("done").tolist() == [[1]]


def test_what_is_not_supported_is_not_found(client):
    for ask in (
        client.get_trace_settings,
        client.get_log_settings,
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
    ):
        with pytest.raises(InferenceServerException) as refused:
            ask()
        assert refused.value.status() == "404"


def test_the_bodies_that_the_client_makes_and_reads_without_a_connection(address):
    body, length = triton.InferenceServerClient.generate_request_body(inputs_of(triton, columns(ROWS)))
    answer = httpx.post(f"http://{address}/v2/models/tiny/infer", content=body, headers={"Inference-Header-Content-Length": str(length)})

    size = int(answer.headers["Inference-Header-Content-Length"])
    result = triton.InferenceServerClient.parse_response_body(answer.content, header_length=size)
    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(ROWS), rtol=1e-5)


def test_the_asyncio_client(address):
    async def ask():
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("tiny")
            assert not await client.is_model_ready("ghost")
            assert (await client.get_model_metadata("image"))["outputs"][1] == {"name": "total", "datatype": "FP32", "shape": [-1, 1]}
            assert (await client.get_model_config("tiny"))["name"] == "tiny"
            assert (await client.get_inference_statistics("tiny"))["model_stats"][0]["version"] == "1"
            assert len(await client.get_model_repository_index()) == len(MODELS)
            feeds = feeds_of("all_types", 3)
            assert_doubled(await client.infer("all_types", inputs_of(triton, feeds)), feeds)
            with pytest.raises(InferenceServerException, match="EKIBEN_REPOSITORY_API"):
                await client.load_model("tiny")
            with pytest.raises(InferenceServerException, match="no model 'ghost'"):
                await client.infer("ghost", inputs_of(triton, columns(ROWS)))
            for algorithm in ("gzip", "deflate"):
                asked = [
                    client.infer(
                        "tiny",
                        inputs_of(triton, columns(tiny_rows(300, seed))),
                        request_compression_algorithm=algorithm,
                        response_compression_algorithm=algorithm,
                    )
                    for seed in range(16)
                ]
                for seed, result in enumerate(await asyncio.gather(*asked)):
                    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(300, seed)), rtol=1e-5)

    asyncio.run(ask())


def test_a_client_that_gives_up_leaves_the_server_whole(address):
    turns = inputs_of(triton, {"turns": np.array([[3000]])})
    with triton.InferenceServerClient(address, network_timeout=0.05) as hasty, pytest.raises(TimeoutError):
        hasty.infer("spin", turns)
    started = time.monotonic()
    with triton.InferenceServerClient(address) as patient:
        assert patient.infer("tiny", inputs_of(triton, columns(ROWS))).as_numpy("prediction").shape == (5,)
    assert time.monotonic() - started < 30
