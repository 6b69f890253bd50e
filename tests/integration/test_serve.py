"""`bentoml serve` with two workers, asked over the wire."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

import httpx
import pytest
from integration.running import Running, metric

from ekiben.model import Predictor

pytestmark = pytest.mark.processes

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}


def test_every_protocol_answers_what_the_predictor_does(serving, tiny_artifact, tiny_rows):
    rows = tiny_rows(5)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    with Running(serving) as server:
        server.wait()
        v1 = httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": rows, "id": "mine"})
        assert v1.status_code == 200
        assert v1.json() == {"predictions": expected, "model_name": "tiny", "model_version": "1", "id": "mine"}
        assert v1.headers["x-request-id"] == "mine"
        assert v1.headers["x-model-version"] == "1"

        lists = [[r["a"], r["b"], r["c"], r["d"]] for r in rows]
        versioned = httpx.post(f"{server.url}/v1/models/tiny/versions/1:predict", json={"instances": lists})
        assert versioned.json()["predictions"] == expected

        columns = [{"name": n, "datatype": "FP32", "shape": [5], "data": [r[n] for r in rows]} for n in "abcd"]
        v2 = httpx.post(
            f"{server.url}/v2/models/tiny/infer",
            json={"id": "7", "inputs": columns, "outputs": [{"name": "probabilities"}, {"name": "prediction"}]},
        )
        assert v2.status_code == 200, v2.text
        assert [o["name"] for o in v2.json()["outputs"]] == ["probabilities", "prediction"]
        assert v2.json()["outputs"][1] == {
            "name": "prediction",
            "datatype": "BYTES",
            "shape": [5],
            "data": [e["prediction"] for e in expected],
        }

        assert ask_with_bentoml_client(server, rows) == expected
        docs = httpx.get(f"{server.url}/docs.json").json()
        assert {"/tiny", "/plane", "/grid"} <= set(docs["paths"])
        assert "swagger" in httpx.get(server.url, headers={"Accept": "text/html,*/*;q=0.8"}).text.lower()

        form = httpx.post(f"{server.url}/tiny", data={"instances": json.dumps(rows)})
        assert form.status_code < 500

        assert httpx.get(f"{server.url}/v2/models/tiny").json()["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1]}
        assert httpx.post(f"{server.url}/v1/models/plane:predict", json={"instances": [[1, 2, 3]]}).json()["predictions"] == [
            {"prediction": 14.5}
        ]
        assert httpx.post(f"{server.url}/v1/models/grid:predict", json={"instances": [[[1, 2, 3], [4, 5, 6]]]}).json()["predictions"] == [
            {"doubled": [[2, 4, 6], [8, 10, 12]], "total": [21]}
        ]
        assert server.stop() == 0


def ask_with_bentoml_client(server: Running, rows: list[dict[str, float | None]]) -> list[dict[str, object]]:
    """Asks in a process of its own: BentoML's client leaves the clean-up of a folder to the interpreter's end."""
    script = "import bentoml, json, sys; print(json.dumps(bentoml.SyncHTTPClient(sys.argv[1]).tiny(instances=json.loads(sys.argv[2]))))"
    asked = subprocess.run(
        [sys.executable, "-c", script, server.url, json.dumps(rows)], env=server.project.env, capture_output=True, text=True, check=True
    )
    return json.loads(asked.stdout)


def test_metrics_add_up_over_the_workers(serving):
    with Running(serving) as server:
        server.wait()
        for _ in range(60):
            # A new connection each time, so that both workers get some.
            httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW, ROW]})
        httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [{**ROW, "d": 99}]})
        wanted = {
            ("ekiben_predictions_total", "version=1,status=ok"): 60,
            ("ekiben_predictions_total", "status=invalid"): 1,
            ("ekiben_predicted_rows_total", ""): 120,
            ("ekiben_prediction_latency_seconds_count", ""): 60,
            ("ekiben_queue_seconds_count", ""): 60,
            ("ekiben_batch_size_sum", ""): 120,
            ("ekiben_prediction_distribution", ""): 120,
            ("ekiben_prediction_errors_total", "error=InvalidRows"): 1,
        }
        end = time.monotonic() + 10
        while (found := metrics_of_tiny(server, wanted)) != wanted and time.monotonic() < end:
            time.sleep(0.1)  # each worker writes twice a second what it gathered
        assert found == wanted
        assert metric(httpx.get(f"{server.url}/metrics").text, "ekiben_model_load_seconds", model="tiny") > 0


def metrics_of_tiny(server: Running, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """The values of metrics of the model ``tiny``, by name and further labels, ``label=value,…``."""
    text = httpx.get(f"{server.url}/metrics").text
    labels = {pairs: dict(pair.split("=") for pair in pairs.split(",") if pair) for _, pairs in names}
    return {(name, pairs): metric(text, name, model="tiny", **labels[pairs]) for name, pairs in names}


def test_a_corrupted_version_is_refused_while_the_old_one_serves(serving, another_tiny):
    serving.register(another_tiny("broken"), version="2")
    model = serving.stored("tiny:2") / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    serving.register(another_tiny("good"), version="3")
    with Running(serving) as server:
        server.wait()
        serving.run("ekiben", "models", "alias", "tiny", "champion", "2")
        refused = server.wait("/v2/models/tiny/versions/2/ready", status=503)
        assert "model.onnx has changed" in refused.json()["error"]
        answer = httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]})
        assert answer.status_code == 200
        assert answer.json()["model_version"] == "1"
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        # And the next good one takes over.
        serving.run("ekiben", "models", "alias", "tiny", "champion", "3")
        server.wait("/v2/models/tiny/versions/3/ready")
        wait_for_version(server, "3")


def test_at_start_a_corrupted_champion_is_not_ready_and_says_which(serving):
    (serving.stored("tiny:1") / "golden.json").write_text("{}")
    with Running(serving, workers=1) as server:
        answer = server.wait("/v2/health/ready", status=503)
        assert "tiny" in answer.json()["error"]
        assert "golden.json has changed" in answer.json()["error"]
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        assert httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]}).status_code == 503
        assert httpx.post(f"{server.url}/v1/models/plane:predict", json={"instances": [[1, 2, 3]]}).status_code == 200


def test_without_any_version_the_server_says_what_is_missing(serving):
    (serving.root / "models" / "ghost").mkdir()
    (serving.root / "models" / "ghost" / "model.yaml").write_text("name: ghost\n")
    with Running(serving, workers=1) as server:
        assert "ghost" in server.wait("/readyz", status=503).json()["error"]


class Load:
    """Clients that ask over keep-alive connections, as a load balancer would: none opens a new one once the server is unready."""

    def __init__(self, url: str, clients: int = 8) -> None:
        self.url = url
        self.answered: list[tuple[int, str]] = []
        self.lost: list[str] = []
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self.stopping.is_set():
            with httpx.Client(timeout=30) as client:
                while not self.stopping.is_set():
                    try:
                        answer = client.post(f"{self.url}/v1/models/tiny:predict", json={"instances": [ROW]})
                    except httpx.ConnectError:
                        return  # nothing was sent: a balancer would have gone elsewhere
                    except httpx.TransportError as e:
                        self.lost.append(repr(e))
                        return
                    self.answered.append((answer.status_code, answer.headers.get("x-model-version", "")))
                    if answer.headers.get("connection") == "close":
                        return

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def test_sigterm_under_load_loses_nothing(serving):
    with Running(serving, EKIBEN_DRAIN_S="2") as server:
        server.wait()
        load = Load(server.url)
        time.sleep(1.5)
        before = len(load.answered)
        assert server.stop() == 0
        load.stop()
        assert before > 100
        assert load.lost == []
        assert {status for status, _ in load.answered} == {200}


def test_unready_before_the_drain_ends(serving):
    with Running(serving, workers=1, EKIBEN_DRAIN_S="5") as server:
        server.wait()
        httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]})
        server.process.terminate()
        unready = server.wait("/readyz", status=503, seconds=4)
        assert "stopping" in unready.json()["error"]
        late = httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]})
        assert late.status_code == 200
        assert late.headers["connection"] == "close"


def wait_for_version(server: Running, version: str, *, seconds: float = 15) -> None:
    """Until every worker answers with a version: twenty answers over new connections in a row."""
    end = time.monotonic() + seconds
    streak = 0
    while streak < 20:
        assert time.monotonic() < end
        answer = httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]})
        streak = streak + 1 if answer.json().get("model_version") == version else 0


def test_moving_the_champion_under_load_fails_no_request(serving, another_tiny):
    serving.register(another_tiny("next"), version="2")
    with Running(serving) as server:
        server.wait()
        load = Load(server.url)
        for version in ("2", "1", "2"):
            time.sleep(0.5)
            serving.run("ekiben", "models", "alias", "tiny", "champion", version)
            wait_for_version(server, version)
        load.stop()
        assert load.lost == []
        assert {status for status, _ in load.answered} == {200}
        assert {version for _, version in load.answered} == {"1", "2"}


def test_a_killed_worker_comes_back_and_the_other_answers(serving):
    with Running(serving) as server:
        server.wait()
        first = server.workers()
        assert len(first) == 2
        subprocess.run(["kill", "-9", str(first[0])], check=True)
        end = time.monotonic() + 30
        now = first
        while time.monotonic() < end and (len(now) < 2 or first[0] in now):
            time.sleep(0.2)
            now = server.workers()
        assert len(now) == 2
        assert first[0] not in now
        server.wait()
        assert httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]}).status_code == 200


def test_limits_and_deadlines_over_the_wire(serving):
    with Running(serving, workers=1, EKIBEN_MAX_BODY_BYTES="2000") as server:
        server.wait()
        path = f"{server.url}/v1/models/tiny:predict"
        assert httpx.post(path, json={"instances": [ROW] * 200}).status_code == 413
        chunked = httpx.post(path, content=(b" " * 500 for _ in range(20)), headers={"content-type": "application/json"})
        assert chunked.status_code == 413
        assert httpx.get(path).status_code == 405
        assert httpx.post(path, content=b"x", headers={"content-type": "text/csv"}).status_code == 415
        assert httpx.post(path, json={"instances": [ROW]}, headers={"x-request-timeout-ms": "0.000001"}).status_code == 504
        bad = httpx.post(path, json={"instances": [ROW, {**ROW, "d": 11}, {"a": 1}]})
        assert bad.status_code == 422
        assert {"row": 1, "field": "d"}.items() <= httpx.post(path, json={"instances": [ROW, {**ROW, "d": 11}]}).json()["details"][
            0
        ].items()
        assert {d["row"] for d in bad.json()["details"]} == {2}


def mutated(rng: random.Random, body: bytes) -> bytes:
    """A body that a broken or hostile client might send."""
    kind = rng.randrange(7)
    data = bytearray(body)
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        at = rng.randrange(len(data))
        data[at:at] = rng.choice([b"NaN", b"1e999", b"-1", b"null", b"[[[[", b"{}", b'"\\ud800"', b"9" * 40, b"\x00", b"\xff\xfe", b"true"])
    elif kind == 3:
        values = [None, True, -1, 0, 1e308, 2**70, "", "x" * 50, [], {}, [[]], {"a": {"b": []}}]
        value = json.loads(body)
        key = rng.choice(list(value))
        value[key] = rng.choice(values)
        return json.dumps(value).encode()
    elif kind == 4:
        value = json.loads(body)
        rows = value.get("instances") or value.get("inputs")
        target = rng.choice(rows)
        if isinstance(target, dict):
            target[rng.choice(list(target))] = rng.choice([None, True, "x", [1], {}, 1e39, -1, 2**65, [], "NaN"])
        return json.dumps(value).encode()
    elif kind == 5:
        return "".join(rng.choice(string.printable) for _ in range(rng.randint(0, 200))).encode()
    else:
        return b"[" * rng.randint(1, 5000) + bytes(data)
    return bytes(data)


def test_two_thousand_fuzzed_bodies_give_no_5xx(serving, tiny_rows):
    rng = random.Random(20260101)
    tensors = [{"name": n, "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]} for n in "abcd"]
    image = {"name": "image", "datatype": "FP32", "shape": [1, 2, 3], "data": [1, 2, 3, 4, 5, 6]}
    seeds = [
        ("/v1/models/tiny:predict", {"instances": tiny_rows(3), "id": "x"}),
        ("/v1/models/plane:predict", {"instances": [[1, 2, 3], [4, 5, 6]]}),
        ("/v1/models/grid:predict", {"instances": [{"image": [[1, 2, 3], [4, 5, 6]]}]}),
        ("/tiny", {"instances": tiny_rows(2)}),
        ("/v2/models/tiny/infer", {"id": "1", "inputs": tensors, "outputs": [{"name": "prediction"}]}),
        ("/v2/models/grid/infer", {"inputs": [image]}),
    ]
    with Running(serving, workers=1) as server:
        server.wait()
        seen: dict[int, int] = {}
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for _ in range(2000):
                path, value = rng.choice(seeds)
                body = mutated(rng, json.dumps(value).encode())
                answer = client.post(path, content=body, headers={"content-type": "application/json"})
                seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                assert answer.status_code < 500, (path, body[:500], answer.text)
                assert answer.status_code == 200 or answer.json()["error"]
            assert client.post("/v1/models/tiny:predict", json={"instances": [ROW]}).status_code == 200
        assert {200, 400, 422} <= set(seen)


def test_the_access_log_is_json_lines_with_the_request_id(serving):
    with Running(serving, workers=1, EKIBEN_ACCESS_LOG_RATE="1") as server:
        server.wait()
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = httpx.post(
            f"{server.url}/v1/models/tiny:predict", json={"instances": [ROW]}, headers={"x-request-id": "r-1", "traceparent": parent}
        )
        assert answer.headers["traceparent"] == parent
        server.stop()
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        line = next(entry for entry in lines if entry.get("request_id") == "r-1")
        assert line["status"] == 200
        assert line["model"] == "tiny"
        assert line["traceparent"] == parent


def test_a_wrong_setting_is_named_and_nothing_starts(serving):
    result = subprocess.run(
        [sys.executable, "-c", "import service"],
        cwd=serving.root,
        env={**serving.env, "EKIBEN_WORKERS": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "EKIBEN_WORKERS is 'many'" in result.stderr
