"""Clients that load and unload models, where they may."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from integration.clients.tensors import columns, inputs_of, tiny_rows
from integration.running import Project, Running
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def open_server(pantry, tmp_path_factory):
    """A server of its own state: what is unloaded stays so over restarts."""
    root = tmp_path_factory.mktemp("open") / "project"
    project = Project(root)
    for folder in ("bentoml", "models", "home"):
        shutil.copytree(pantry.root / folder, root / folder, dirs_exist_ok=True)
    with Running(project, workers=1, EKIBEN_REPOSITORY_API="on") as running:
        running.wait()
        yield running


def state_of(client: triton.InferenceServerClient, name: str) -> list[tuple[str, str]]:
    """A model's versions and states, once none of them is on its way out: an unloaded version answers what it has taken first."""
    end = time.monotonic() + 15
    while True:
        found = [(m.version, m.state) for m in client.get_model_repository_index().models if m.name == name]
        if "UNLOADING" not in {state for _, state in found} or time.monotonic() > end:
            return found
        time.sleep(0.05)


def test_grpc(open_server):
    with triton.InferenceServerClient(f"127.0.0.1:{open_server.data_port}") as client:
        inputs = inputs_of(triton, columns(tiny_rows(1)))
        client.unload_model("tiny")

        assert not client.is_model_ready("tiny")
        with pytest.raises(InferenceServerException) as refused:
            client.infer("tiny", inputs)
        assert refused.value.status() == "StatusCode.NOT_FOUND"
        assert state_of(client, "tiny") == [("", "UNAVAILABLE")]

        client.load_model("tiny")

        assert client.is_model_ready("tiny")
        assert client.infer("tiny", inputs).get_response().model_version == "1"
        assert state_of(client, "tiny") == [("1", "READY")]
        client.unload_model("texts", unload_dependents=True)
        client.load_model("texts")
        for ask, status in (
            (lambda: client.load_model("ghost"), "NOT_FOUND"),
            (lambda: client.unload_model("ghost"), "NOT_FOUND"),
            (lambda: client.load_model("tiny", config="{}"), "INVALID_ARGUMENT"),
            (lambda: client.load_model("tiny", files={"file:1/model.onnx": b""}, config="{}"), "INVALID_ARGUMENT"),
        ):
            with pytest.raises(InferenceServerException) as refused:
                ask()
            assert refused.value.status() == f"StatusCode.{status}"
        assert client.is_server_ready()


def test_http_on_the_data_port(open_server):
    with triton_http.InferenceServerClient(f"127.0.0.1:{open_server.data_port}") as client:
        client.unload_model("image")
        assert not client.is_model_ready("image")
        client.load_model("image")
        assert client.is_model_ready("image")


def test_http_with_asyncio(open_server):
    async def ask():
        async with triton_http_aio.InferenceServerClient(f"127.0.0.1:{open_server.data_port}") as client:
            await client.unload_model("image")
            assert not await client.is_model_ready("image")
            await client.load_model("image")
            assert await client.is_model_ready("image")

    asyncio.run(ask())
