"""What each hosting platform does with the container, done to `bentoml serve`: its variables, its port, its requests."""

from __future__ import annotations

import http.client
import io
import json
import signal
import time

import httpx
import numpy as np
import pytest
from integration.running import Running, free_port

from ekiben import __version__
from ekiben.model import Predictor

pytestmark = pytest.mark.processes

ROWS = [[1.0, 2.0, 0.5, -3.0], [0.0, 0.0, 1.0, 5.0]]
RECORDS = [dict(zip("abcd", row, strict=True)) for row in ROWS]


@pytest.fixture
def tiny(project, tiny_artifact):
    """A project with the model tiny alone, in version 1."""
    project.register(tiny_artifact, version="1")
    return project


@pytest.fixture
def expected(tiny_artifact):
    return Predictor.open(tiny_artifact.path).predict(ROWS)


@pytest.fixture
def serve(tiny):
    """Starts the server as a platform does, and makes a client of the port that the platform calls."""
    running: list[Running] = []
    clients: list[httpx.Client] = []

    def started(port: int, **env: str) -> httpx.Client:
        server = Running(tiny, workers=1, **env)
        running.append(server)
        server.wait()
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10))
        return clients[-1]

    started.running = running
    yield started
    for client in clients:
        client.close()
    for server in running:
        server.stop()


def npy(rows) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(rows, np.float32))
    return out.getvalue()


def test_sagemaker(serve, expected):
    port = free_port()
    with serve(port, EKIBEN_PLATFORM_PORT=str(port)) as client:
        assert client.get("/ping").status_code == 200
        bodies = {
            "application/json": json.dumps({"instances": ROWS}).encode(),
            "application/jsonlines": b"\n".join(json.dumps(row).encode() for row in ROWS),
            "text/csv": b"1,2,0.5,-3\n0,0,1,5",
            "application/x-npy": npy(ROWS),
        }
        for kind, body in bodies.items():
            answer = client.post("/invocations", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"predictions": expected}
        texts = {
            kind: client.post("/invocations", content=bodies["text/csv"], headers={"Content-Type": "text/csv", "Accept": kind})
            for kind in bodies
        }
        assert all(answer.headers["content-type"] == kind for kind, answer in texts.items())
        assert len(texts["text/csv"].text.splitlines()) == len(texts["application/jsonlines"].text.splitlines()) == 2
        assert np.load(io.BytesIO(texts["application/x-npy"].content))["prediction"].tolist() == [row["prediction"] for row in expected]

        ask = {
            "Content-Type": "application/json",
            "X-Amzn-SageMaker-Inference-Id": "inference-7",
            "X-Amzn-SageMaker-Custom-Attributes": "c=1",
        }
        for variant in ("1", "AllTraffic"):
            answer = client.post(
                "/invocations", content=bodies["application/json"], headers={**ask, "X-Amzn-SageMaker-Target-Variant": variant}
            )
            assert answer.headers["x-model-version"] == "1"
            assert answer.headers["x-amzn-sagemaker-inference-id"] == answer.headers["x-request-id"] == "inference-7"
            assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "c=1"

        assert client.post("/invocations", content=b"x", headers={"Content-Type": "image/png"}).status_code == 415
        assert client.post("/invocations", json=ROWS, headers={"Accept": "image/png"}).status_code == 406
        bad = client.post("/invocations", content=b"1,2,0.5,-3\n0,zero,1,5", headers={"Content-Type": "text/csv"})
        assert bad.status_code == 422
        assert (bad.json()["details"][0]["row"], bad.json()["details"][0]["field"]) == (1, "b")
    (server,) = serve.running
    assert server.stop() == 0


def test_sagemaker_says_the_port_itself_where_several_containers_share_an_endpoint(serve, expected):
    port = free_port()
    with serve(port, SAGEMAKER_BIND_TO_PORT=str(port)) as client:
        assert client.get("/ping").status_code == 200
        assert client.post("/invocations", json={"instances": ROWS}).json() == {"predictions": expected}


def test_vertex(serve, expected):
    port = free_port()
    route = "/v1/endpoints/123/deployedModels/456"
    with serve(port, AIP_HTTP_PORT=str(port), AIP_HEALTH_ROUTE=route, AIP_PREDICT_ROUTE=f"{route}:predict") as client:
        assert client.get(route).status_code == 200
        answer = client.post(f"{route}:predict", json={"instances": RECORDS, "parameters": {"any": "thing"}})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"predictions": expected}
        limit = 1_500_000
        large = json.dumps({"instances": RECORDS}).ljust(limit)
        assert client.post(f"{route}:predict", content=large, headers={"Content-Type": "application/json"}).json() == {
            "predictions": expected
        }


def test_azure_ml(serve, expected):
    port = free_port()
    with serve(port, EKIBEN_DATA_PORT=str(port)) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        frame = {"columns": ["d", "c", "b", "a"], "index": [0, 1], "data": [row[::-1] for row in ROWS]}
        for body in ({"input_data": frame}, {"input_data": ROWS}, {"data": ROWS}, {"data": RECORDS}):
            assert client.post("/score", json=body).json() == expected
        answer = client.post("/score", json={"instances": ROWS}, headers={"x-ms-client-request-id": "client-7"})
        assert answer.json() == {"predictions": expected}
        assert answer.headers["x-ms-client-request-id"] == "client-7"


def test_mlflow(serve, expected):
    port = free_port()
    with serve(port, EKIBEN_PLATFORM_PORT=str(port)) as client:
        assert client.get("/ping").status_code == client.get("/health").status_code == 200
        assert client.get("/version").text == __version__
        bodies = [
            {"dataframe_split": {"columns": list("abcd"), "data": ROWS}},
            {"dataframe_records": RECORDS},
            {"instances": RECORDS},
            {"inputs": {name: [row[n] for row in ROWS] for n, name in enumerate("abcd")}},
            {"inputs": ROWS, "params": {"any": "thing"}},
        ]
        for body in bodies:
            answer = client.post("/invocations", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"predictions": expected}
        answer = client.post("/invocations", content="a,b,c,d\n1,2,0.5,-3\n0,0,1,5\n", headers={"Content-Type": "text/csv"})
        assert answer.json() == {"predictions": expected}


def test_kserve(serve, expected):
    port = free_port()
    with serve(port, EKIBEN_PLATFORM_PORT=str(port)) as client:
        assert client.get("/").status_code == 200
        assert client.get("/v1/models").json() == {"models": ["tiny"]}
        status = client.get("/v1/models/tiny").json()
        assert (status["name"], status["ready"]) == ("tiny", True)
        assert client.post("/v1/models/tiny:predict", json={"instances": ROWS}).json()["predictions"] == expected
        assert client.get("/v2/health/live").json()["live"] is True
        assert client.get("/v2/health/ready").json()["ready"] is True
        assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS}
        outputs = client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json()["outputs"]
        assert next(o["data"] for o in outputs if o["name"] == "prediction") == [row["prediction"] for row in expected]


def test_cloud_run(serve, expected):
    """A request whose body is still coming when SIGTERM does is answered; then the container exits with 0, within 10 s."""
    port = free_port()
    with serve(port, PORT=str(port), K_SERVICE="ekiben", EKIBEN_DRAIN_S="2") as client:
        assert client.get("/readyz").status_code == 200
        (server,) = serve.running
        body = json.dumps({"instances": ROWS}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest("POST", "/v1/models/tiny:predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        unready = client.get("/readyz")
        while unready.status_code == 200:
            assert time.monotonic() - signalled < 2
            unready = client.get("/readyz")
        assert unready.status_code == 503
        connection.send(body[10:])
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["predictions"] == expected
        connection.close()
        assert server.process.wait(10) == 0
        assert time.monotonic() - signalled < 10
