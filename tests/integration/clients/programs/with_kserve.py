"""KServe's clients against a running server: ``python with_kserve.py HOST:PORT URL…``; it ends with ``ok`` or a traceback."""

from __future__ import annotations

import asyncio
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[1, 2, 0, -3], [-1, -2, 0, 3]], np.float32)
WORDS = np.array(["ö", "日本"], object)


def tiny_request(*, binary: bool, **options) -> InferRequest:
    inputs = []
    for n, name in enumerate("abcd"):
        inputs.append(InferInput(name, [2], "FP32"))
        inputs[-1].set_data_from_numpy(ROWS[:, n].copy(), binary_data=binary)
    return InferRequest("tiny", inputs, request_id="mine", **options)


def check_tiny(response) -> None:
    assert (response.id, response.model_name) == ("mine", "tiny")  # over REST the client leaves the version out
    outputs = {output.name: output for output in response.outputs}
    assert outputs["probabilities"].as_numpy().argmax(axis=1).tolist() == [1, 0]
    assert [v.decode() if isinstance(v, bytes) else v for v in outputs["prediction"].as_numpy().tolist()] == ["yes", "no"]


async def error_of(asked, kind):
    """The error that something ends with, as it must."""
    try:
        await asked
    except kind as e:
        return e
    raise AssertionError("it was answered")


async def ask_rest_v1(url: str) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "tiny")
        answer = await client.infer(url, {"instances": ROWS.tolist()}, model_name="tiny")
        assert [p["prediction"] for p in answer["predictions"]] == ["yes", "no"]
        error = await error_of(client.infer(url, {"instances": [[1]]}, model_name="tiny"), httpx.HTTPStatusError)
        assert error.response.status_code == 422
        assert "row 0" in str(error)


async def ask_rest_v2(url: str) -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "tiny")
        assert not await client.is_model_ready(url, "ghost")
        check_tiny(await client.infer(url, tiny_request(binary=False), model_name="tiny"))
        check_tiny(await client.infer(url, tiny_request(binary=True), model_name="tiny"))
        headers: dict[str, str] = {}
        all_binary = tiny_request(binary=True, parameters={"binary_data_output": True})
        check_tiny(await client.infer(url, all_binary, model_name="tiny", response_headers=headers))
        assert "inference-header-content-length" in headers
        chosen = [RequestedOutput("probabilities", {"binary_data": True}), RequestedOutput("prediction")]
        answer = await client.infer(url, tiny_request(binary=False, request_outputs=chosen), model_name="tiny")
        assert [output.name for output in answer.outputs] == ["probabilities", "prediction"]
        check_tiny(answer)
        for binary in (True, False):
            words = [InferInput(name, [2], "BYTES") for name in "ab"]
            for item in words:
                item.set_data_from_numpy(WORDS, binary_data=binary)
            answer = await client.infer(url, InferRequest("texts", words), model_name="texts")
            assert [v.decode() if isinstance(v, bytes) else v for v in answer.outputs[0].as_numpy().tolist()] == ["öö", "日本日本"]


async def ask_grpc(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("tiny")
        assert not await client.is_model_ready("ghost")
        for binary in (True, False):
            check_tiny(await client.infer(tiny_request(binary=binary)))
        half = InferInput("image", [1, 2, 3], "FP16")
        half.set_data_from_numpy(np.full((1, 2, 3), 0.5, np.float16))
        answer = await client.infer(InferRequest("image", [half]))
        assert answer.outputs[0].as_numpy().tolist() == [[[1, 1, 1], [1, 1, 1]]]
        answers = await asyncio.gather(*(client.infer(tiny_request(binary=True)) for _ in range(50)))
        for answer in answers:
            check_tiny(answer)
        error = await error_of(client.infer(InferRequest("ghost", [half])), grpc.RpcError)
        assert error.code() == grpc.StatusCode.NOT_FOUND


async def main(address: str, *urls: str) -> None:
    for url in urls:
        await ask_rest_v1(url)
        await ask_rest_v2(url)
    await ask_grpc(address)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    print("ok")
