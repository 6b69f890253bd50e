"""tritonclient.grpc and tritonclient.grpc.aio on the data port."""

from __future__ import annotations

import asyncio
import queue
import time

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from integration.clients.pantry import MODELS, tiny_probabilities
from integration.clients.tensors import assert_doubled, columns, feeds_of, inputs_of, text, tiny_rows
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.processes

ROWS = tiny_rows(5)
_LONG_S = 1.5  # of a run that must still go on when the test has done what it does meanwhile


@pytest.fixture(scope="module")
def long(server) -> int:
    """Turns of ``spin`` that take `_LONG_S` on this machine, however fast it is."""
    few, seconds = 200, []
    with triton.InferenceServerClient(f"127.0.0.1:{server.data_port}") as asking:
        for _ in range(5):
            began = time.perf_counter()
            asking.infer("spin", turns(few))
            seconds.append(time.perf_counter() - began)
    return int(few * _LONG_S / min(seconds))


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.data_port}") as made:
        yield made


def turns(n: int):
    return inputs_of(triton, {"turns": np.array([[n]])})


def refusal(ask) -> tuple[str, str]:
    """The status and the message that a call is refused with."""
    with pytest.raises(InferenceServerException) as refused:
        ask()
    return refused.value.status().removeprefix("StatusCode."), refused.value.message()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("ghost")
    assert client.get_server_metadata().name == "ekiben"
    told = client.get_model_metadata("several", "1")
    assert list(told.versions) == ["1"]
    assert [(i.name, i.datatype, list(i.shape)) for i in told.inputs] == [
        ("a", "FP32", [-1, 3]),
        ("b", "FP32", [-1]),
        ("k", "INT64", [-1]),
    ]
    config = client.get_model_config("tiny").config
    assert (config.name, config.max_batch_size, [i.name for i in config.input]) == ("tiny", 128, list("abcd"))
    assert client.get_model_config("square", as_json=True)["config"]["input"][0]["dims"] == ["4", "4"]


def test_the_repository_can_be_read_and_not_changed(client):
    assert [(m.name, m.state) for m in client.get_model_repository_index().models] == [(name, "READY") for name in MODELS]
    for change in (client.load_model, client.unload_model):
        status, message = refusal(lambda change=change: change("tiny"))
        assert (status, "EKIBEN_REPOSITORY_API=on allows it" in message) == ("PERMISSION_DENIED", True)
    assert client.is_model_ready("tiny")


def test_statistics_count_what_was_asked(client):
    def counts():
        (told,) = client.get_inference_statistics("several", "1").model_stats
        return told.inference_count, told.inference_stats.success.count, told.inference_stats.fail.count

    rows, successes, failures = counts()
    for _ in range(3):
        client.infer("several", inputs_of(triton, feeds_of("several", 2)))
    refusal(lambda: client.infer("several", inputs_of(triton, {"a": np.zeros((1, 3), np.float32)})))

    assert counts() == (rows + 6, successes + 3, failures + 1)
    assert {m.name for m in client.get_inference_statistics().model_stats} == set(MODELS)


def test_the_outputs_asked_for_in_the_order_asked_for(client):
    outputs = [triton.InferRequestedOutput(name) for name in ("probabilities", "prediction")]

    result = client.infer("tiny", inputs_of(triton, columns(ROWS)), outputs=outputs, request_id="mine")

    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "mine")
    assert [o.name for o in answer.outputs] == ["probabilities", "prediction"]
    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(ROWS), rtol=1e-5)
    assert text(result.as_numpy("prediction")) == [["no", "yes"][p] for p in tiny_probabilities(ROWS).argmax(axis=1)]
    everything = client.infer("tiny", inputs_of(triton, columns(ROWS)), model_version="1").get_response()
    assert [o.name for o in everything.outputs] == ["prediction", "confidence", "probabilities"]
    assert everything.id


def test_every_datatype_goes_through(client):
    feeds = feeds_of("all_types", 4)

    assert_doubled(client.infer("all_types", inputs_of(triton, feeds)), feeds)


def test_strings(client):
    feeds = feeds_of("texts", 6)

    result = client.infer("texts", inputs_of(triton, feeds))

    assert text(result.as_numpy("y")) == [a + b for a, b in zip(feeds["a"], feeds["b"], strict=True)]
    assert result.as_numpy("n").dtype == np.int64


def test_bfloat16_stands_for_float32(client):
    inputs = inputs_of(triton, {"image": np.array([[[1.5, -2, 0.25], [3, 4, 0]]], ml_dtypes.bfloat16)})
    assert inputs[0].datatype() == "BF16"

    assert client.infer("image", inputs).as_numpy("doubled").tolist() == [[[3, -4, 0.5], [6, 8, 0]]]


def test_a_tensor_without_rows_is_taken_whole(client):
    feeds = feeds_of("square")

    np.testing.assert_allclose(client.infer("square", inputs_of(triton, feeds)).as_numpy("y"), feeds["x"] @ feeds["x"], rtol=1e-4)


def test_classification(client):
    outputs = [triton.InferRequestedOutput("probabilities", class_count=1)]

    found = text(client.infer("tiny", inputs_of(triton, columns(ROWS)), outputs=outputs).as_numpy("probabilities"))

    for entry, expected in zip(found, tiny_probabilities(ROWS), strict=True):
        value, index, label = entry.split(":")
        assert (int(index), label) == (int(expected.argmax()), ["no", "yes"][expected.argmax()])
        assert float(value) == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, algorithm):
    rows = tiny_rows(500)

    result = client.infer("tiny", inputs_of(triton, columns(rows)), compression_algorithm=algorithm)

    np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(rows), rtol=1e-5)


def test_errors_say_what_is_wrong(client):
    good = columns(ROWS)
    bad_row = {**good, "d": np.array([0, 0, 11, 0, 0], np.float32)}
    ghost = [triton.InferRequestedOutput("ghost")]
    cases = [
        ("NOT_FOUND", "no model 'ghost'", lambda: client.infer("ghost", inputs_of(triton, good))),
        ("NOT_FOUND", "2", lambda: client.infer("tiny", inputs_of(triton, good), model_version="2")),
        ("NOT_FOUND", "ghost", lambda: client.get_model_metadata("ghost")),
        ("NOT_FOUND", "ghost", lambda: client.get_model_config("ghost")),
        ("NOT_FOUND", "ghost", lambda: client.get_inference_statistics("ghost")),
        ("INVALID_ARGUMENT", "image", lambda: client.infer("image", inputs_of(triton, {"image": np.zeros((1, 3, 2), np.float32)}))),
        ("INVALID_ARGUMENT", "'d'", lambda: client.infer("tiny", inputs_of(triton, {k: v for k, v in good.items() if k != "d"}))),
        ("INVALID_ARGUMENT", "'ghost'", lambda: client.infer("tiny", inputs_of(triton, good), outputs=ghost)),
        ("INVALID_ARGUMENT", "sequence_id", lambda: client.infer("tiny", inputs_of(triton, good), sequence_id=4)),
        ("INVALID_ARGUMENT", "row 2, field 'd'", lambda: client.infer("tiny", inputs_of(triton, bad_row))),
    ]
    for status, says, ask in cases:
        found, message = refusal(ask)
        assert (status, says) == (found, says if says in message else message)


def test_what_is_not_supported_is_unimplemented(client):
    for ask in (
        client.get_trace_settings,
        client.get_log_settings,
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        client.unregister_system_shared_memory,
        lambda: client.register_system_shared_memory("region", "/region", 8),
    ):
        assert refusal(ask)[0] == "UNIMPLEMENTED"


def test_both_timeouts_are_deadlines(client, long):
    assert refusal(lambda: client.infer("spin", turns(1), timeout=1))[0] == "DEADLINE_EXCEEDED"
    assert refusal(lambda: client.infer("spin", turns(long), client_timeout=0.05))[0] == "DEADLINE_EXCEEDED"
    assert client.infer("spin", turns(1), timeout=30_000_000, client_timeout=30).as_numpy("done").tolist() == [[1]]


def executions(client) -> int:
    time.sleep(0.6)  # other workers' numbers lag half a second behind
    return client.get_inference_statistics("spin").model_stats[0].execution_count


def test_what_is_cancelled_leaves_the_queue(client, long):
    answers: queue.Queue = queue.Queue()
    client.infer("spin", turns(1))
    before = executions(client)
    client.async_infer("spin", turns(long), lambda result, error: answers.put(("runs", error)))
    time.sleep(0.1)
    waiting = [client.async_infer("spin", turns(long), lambda result, error: answers.put(("cancelled", error))) for _ in range(3)]
    time.sleep(0.1)

    for call in waiting:
        call.cancel()
    client.infer("spin", turns(1))  # waits behind all that is still queued in this worker

    ended = [answers.get(timeout=30) for _ in range(4)]
    assert [what for what, _ in ended].count("cancelled") == 3
    assert all(what == "runs" or error.status() == "StatusCode.CANCELLED" for what, error in ended)
    assert ("runs", None) in ended
    assert executions(client) == before + 2


def test_many_at_once_are_not_mixed_up(client):
    answers: queue.Queue = queue.Queue()
    for seed in range(128):
        client.async_infer(
            "tiny", inputs_of(triton, columns(tiny_rows(2, seed))), lambda result, error: answers.put((result, error)), request_id=str(seed)
        )

    seen = set()
    for _ in range(128):
        result, error = answers.get(timeout=30)
        assert error is None
        seed = int(result.get_response().id)
        seen.add(seed)
        np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(2, seed)), rtol=1e-5)
    assert seen == set(range(128))


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_a_stream_answers_hundreds_of_requests_in_their_order(client, algorithm):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), compression_algorithm=algorithm)
    for seed in range(400):
        rows = tiny_rows(1 + seed % 3, seed)
        if seed % 50 == 7:
            rows[0, 3] = 99
        client.async_stream_infer("tiny", inputs_of(triton, columns(rows)), request_id=str(seed))

    for seed in range(400):
        result, error = answers.get(timeout=30)
        if seed % 50 == 7:
            assert "row 0, field 'd'" in error.message()
            continue
        assert error is None
        assert result.get_response().id == str(seed)
        np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(1 + seed % 3, seed)), rtol=1e-5)
    client.stop_stream()
    assert answers.empty()


def test_a_stream_goes_to_several_models_and_says_what_is_final(client):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("spin", turns(1), request_id="a", enable_empty_final_response=True)
    client.async_stream_infer("ghost", turns(1), request_id="b")
    client.async_stream_infer("tiny", inputs_of(triton, columns(ROWS)), request_id="c")

    first, second, third = (answers.get(timeout=30) for _ in range(3))
    client.stop_stream()

    assert first[0].get_response().parameters["triton_final_response"].bool_param
    assert "no model 'ghost'" in second[1].message()
    assert third[0].get_response().id == "c"


def test_a_cancelled_stream_leaves_the_queue(client, long):
    answers: queue.Queue = queue.Queue()
    client.infer("spin", turns(1))
    before = executions(client)
    client.start_stream(lambda result, error: answers.put(error))
    for _ in range(5):
        client.async_stream_infer("spin", turns(long))
    time.sleep(0.2)

    client.stop_stream(cancel_requests=True)
    client.infer("spin", turns(1))

    assert answers.get(timeout=30).status() == "StatusCode.CANCELLED"
    assert executions(client) == before + 2  # the one that ran, and this last one


def test_a_streams_deadline_is_that_of_its_requests(client, long):
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error), stream_timeout=0.2)
    client.async_stream_infer("spin", turns(long))

    error = answers.get(timeout=30)

    client.stop_stream()
    assert "deadline" in error.message().lower()
    assert client.infer("spin", turns(1)).as_numpy("done").tolist() == [[1]]


def test_the_asyncio_client(server, long):
    async def ask():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.data_port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("tiny")
            assert not await client.is_model_ready("ghost")
            assert (await client.get_model_metadata("image")).outputs[1].name == "total"
            assert (await client.get_model_config("tiny")).config.name == "tiny"
            assert (await client.get_inference_statistics("tiny")).model_stats[0].version == "1"
            assert len((await client.get_model_repository_index()).models) == len(MODELS)
            feeds = feeds_of("all_types", 3)
            assert_doubled(await client.infer("all_types", inputs_of(triton, feeds)), feeds)
            with pytest.raises(InferenceServerException, match="EKIBEN_REPOSITORY_API"):
                await client.load_model("tiny")
            with pytest.raises(InferenceServerException, match="no model 'ghost'"):
                await client.infer("ghost", inputs_of(triton, columns(ROWS)))
            asked = [
                client.infer("tiny", inputs_of(triton, columns(tiny_rows(9, seed))), compression_algorithm="gzip") for seed in range(32)
            ]
            for seed, result in enumerate(await asyncio.gather(*asked)):
                np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(9, seed)), rtol=1e-5)
            await ask_in_a_stream(client)
            await cancel_in_time(client, long)

    asyncio.run(ask())


async def ask_in_a_stream(client):
    async def requests():
        for seed in range(300):
            yield {"model_name": "tiny", "inputs": inputs_of(triton, columns(tiny_rows(1, seed))), "request_id": str(seed)}

    seed = 0
    async for result, error in client.stream_infer(requests()):
        assert error is None
        assert result.get_response().id == str(seed)
        np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(tiny_rows(1, seed)), rtol=1e-5)
        seed += 1
    assert seed == 300


async def cancel_in_time(client, long):
    await asyncio.sleep(0.6)
    before = (await client.get_inference_statistics("spin")).model_stats[0].execution_count
    running = asyncio.create_task(client.infer("spin", turns(long)))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(client.infer("spin", turns(long))) for _ in range(3)]
    await asyncio.sleep(0.1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await running
    await client.infer("spin", turns(1))
    assert (await client.get_inference_statistics("spin")).model_stats[0].execution_count == before + 2
