"""Triton's extensions as its own HTTP client uses them, over two workers: repository, statistics, configuration."""

import os
import signal
import time

import httpx
import pytest
from integration.running import Running, metric

pytestmark = pytest.mark.processes

triton = pytest.importorskip("tritonclient.http")
ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


@pytest.fixture
def running(serving):
    """Serves tiny and grid; plane is in the store and not in the models folder."""
    (serving.root / "models" / "plane" / "model.yaml").unlink()
    with Running(serving, EKIBEN_REPOSITORY_API="on") as server:
        server.wait()
        yield server


@pytest.fixture
def client(running):
    with triton.InferenceServerClient(running.url.removeprefix("http://")) as made:
        yield made


def everywhere(running, path, status, *, seconds=5, body=None):
    """Waits until every worker answers a path with a status: many connections in a row, each to any of them."""
    end = time.monotonic() + seconds
    while True:
        answers = {httpx.request("POST" if body else "GET", running.url + path, json=body, timeout=5).status_code for _ in range(40)}
        if answers == {status}:
            return
        assert time.monotonic() < end, answers


def test_a_model_is_loaded_and_unloaded_on_every_worker(running, client):
    assert client.get_model_repository_index() == [
        {"name": "grid", "version": "1", "state": "READY", "reason": ""},
        {"name": "plane", "version": "", "state": "UNAVAILABLE", "reason": "not loaded"},
        {"name": "tiny", "version": "1", "state": "READY", "reason": ""},
    ]
    assert not client.is_model_ready("plane")
    client.load_model("plane")
    predict = {"instances": [[1, 2, 3]]}
    everywhere(running, "/v1/models/plane:predict", 200, body=predict)
    assert client.is_model_ready("plane")
    client.unload_model("plane")
    client.unload_model("tiny", unload_dependents=True)
    everywhere(running, "/v1/models/plane:predict", 404, body=predict)
    everywhere(running, "/v2/models/tiny/ready", 404)
    assert client.is_server_ready()
    with pytest.raises(triton.InferenceServerException, match="'config' is not supported"):
        client.load_model("tiny", config="{}")
    with pytest.raises(triton.InferenceServerException, match="there is no model 'ghost'"):
        client.load_model("ghost")
    client.load_model("tiny")
    everywhere(running, "/v2/models/tiny/ready", 200)


def test_statistics_are_of_all_workers_and_survive_one_of_them(running, client):
    pids = running.workers()
    assert len(pids) == 2
    requests = 60
    for _ in range(requests):  # a connection each, so that both workers get some
        assert httpx.post(running.url + "/v1/models/tiny:predict", json={"instances": [ROW, ROW]}).status_code == 200
    assert httpx.post(running.url + "/v1/models/tiny:predict", json={"instances": [{**ROW, "d": 99}]}).status_code == 422
    time.sleep(1)  # the other worker writes what it gathered twice a second

    def numbers():
        (stats,) = client.get_inference_statistics("tiny")["model_stats"]
        found = stats["inference_stats"]
        return stats, (stats["inference_count"], found["success"]["count"], found["compute_infer"]["count"], found["fail"]["count"])

    stats, counted = numbers()
    assert counted == (2 * requests, requests, requests, 1)
    assert stats["execution_count"] == sum(s["compute_infer"]["count"] for s in stats["batch_stats"]) == requests
    assert all(stats["inference_stats"][part]["ns"] > 0 for part in ("success", "fail", "queue", "compute_input", "compute_infer"))
    assert abs(stats["last_inference"] / 1000 - time.time()) < 60
    assert {s["name"] for s in client.get_inference_statistics()["model_stats"]} == {"tiny", "grid"}

    text = httpx.get(running.url + "/metrics").text
    assert metric(text, "ekiben_queue_rows", model="tiny") == 0
    assert 'ekiben_queue_rows{model="tiny",version="1"}' in text
    assert metric(text, "ekiben_compute_seconds_total", model="tiny", phase="infer") > 0

    os.kill(pids[0], signal.SIGKILL)
    # What it showed as its own at the moment is forgotten when the next worker begins; what it counted is kept.
    folder = next(p for p in (running.project.root / "bentoml").rglob("gauge_livesum_*.db")).parent
    end = time.monotonic() + 60
    while len(shown := {int(p.stem.rpartition("_")[2]) for p in folder.glob("gauge_livesum_*.db")}) < 2 or pids[0] in shown:
        assert time.monotonic() < end, shown
        time.sleep(0.1)
    everywhere(running, "/v2/models/tiny/ready", 200, seconds=30)
    assert numbers()[1] == counted


def test_configuration(client):
    config = client.get_model_config("tiny")
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("tiny", "onnx_ekiben", 128)
    assert client.get_model_config("grid", "1")["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [2, 3]}]
    assert {"statistics", "model_repository", "model_configuration"} <= set(client.get_server_metadata()["extensions"])


def test_nothing_is_loaded_where_it_is_not_allowed(serving):
    with Running(serving, workers=1) as server:
        server.wait()
        with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
            with pytest.raises(triton.InferenceServerException, match="EKIBEN_REPOSITORY_API=on"):
                client.unload_model("tiny")
            assert [m["state"] for m in client.get_model_repository_index()] == ["READY"] * 3


def test_the_command_line_loads_and_unloads_too(running):
    running.project.run("ekiben", "models", "unload", "tiny")
    everywhere(running, "/v2/models/tiny/ready", 404)
    running.project.run("ekiben", "models", "load", "tiny")
    everywhere(running, "/v2/models/tiny/ready", 200)
