import pytest

from ekiben import __version__
from ekiben.errors import UnknownModel
from ekiben.serving.description import EXTENSIONS
from ekiben.serving.rest.metadata import check_route, owns


def test_what_is_owned():
    assert all(owns(path) for path in ("/v1", "/v2", "/v1/x", "/v2/", "/readyz"))
    assert not any(owns(path) for path in ("/", "/v1x", "/v22", "/livez", "/readyz/", "/docs.json"))


def test_routes():
    for path in ("/v2", "/v2/", "/readyz", "/v1/models/a", "/v2/models/a/versions/1/ready", "/v2/models/a/", "/v2/models/stats"):
        check_route(path)
    for aspect in ("stats", "config", "ready"):
        check_route(f"/v2/models/a/{aspect}")
        check_route(f"/v2/models/a/versions/1/{aspect}")
    for path in ("/v1", "/v2/model", "/v2/models/a/versions", "/v2/models/a/infer/x", "/v1/models/a:predict", "/v1/models/a/stats"):
        with pytest.raises(UnknownModel, match="no route"):
            check_route(path)


def test_the_server(steady):
    assert steady.get("/v2").json() == {"name": "ekiben", "version": __version__, "extensions": list(EXTENSIONS)}
    assert steady.get("/v2/").json()["name"] == "ekiben"
    assert steady.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/readyz"):
        assert steady.get(path).status_code == 200
        assert steady.get(path).json() == {"ready": True}
    for path in ("/v1/models", "/v2/models"):
        assert steady.get(path).json() == {"models": ["grid", "plane", "tiny"]}


def test_v1_model(steady):
    expected = {"name": "tiny", "ready": True, "model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
    assert steady.get("/v1/models/tiny").json() == expected
    assert steady.get("/v1/models/tiny/versions/1").json() == expected


def test_v2_models(steady):
    assert steady.get("/v2/models/tiny").json() == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnx_ekiben",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in "abcd"],
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    assert steady.get("/v2/models/plane").json()["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    grid = steady.get("/v2/models/grid/versions/1").json()
    assert grid["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]}]
    assert [o["shape"] for o in grid["outputs"]] == [[-1, 2, 3], [-1, 1]]


def test_readiness_of_models_and_versions(steady):
    for path in ("/v2/models/tiny/ready", "/v2/models/tiny/versions/1/ready", "/v1/models/tiny/ready"):
        assert steady.get(path).json() == {"name": "tiny", "ready": True}
    for path in ("/v2/models/ghost/ready", "/v2/models/ghost", "/v2/models/tiny/versions/9/ready", "/v2/models/tiny/versions/9"):
        assert steady.get(path).status_code == 404
        assert steady.get(path).json()["error"]


def test_no_model_is_ready_while_the_server_stops(serving):
    serving.server.plane.draining = True
    for path in ("/v2/models/tiny/ready", "/v2/health/ready", "/readyz"):
        answer = serving.get(path)
        assert answer.status_code == 503
        assert "stopping" in answer.json()["error"]
    assert serving.get("/v2/health/live").status_code == 200
    assert serving.get("/v2/models/tiny").status_code == 200


def test_not_ready_says_which_model_and_why(start, registry, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    serving = start("plane", "ghost")
    for path in ("/readyz", "/v2/health/ready"):
        answer = serving.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["error"].startswith("not ready: ghost: there is no model 'ghost' in the store; there are plane")
    assert serving.get("/v2/models/plane/ready").status_code == 200
    assert serving.get("/v2/models/ghost/ready").status_code == 503


def test_without_models_nothing_is_ready(start):
    serving = start()
    assert "the models folder is empty" in serving.get("/readyz").json()["error"]
    assert serving.get("/v2/models/tiny").status_code == 404


def test_statistics(serving, tiny_rows):
    serving.predict("tiny", tiny_rows(3))
    (found,) = serving.get("/v2/models/tiny/stats").json()["model_stats"]
    assert (found["name"], found["version"], found["inference_count"]) == ("tiny", "1", 3)
    assert serving.get("/v2/models/tiny/versions/1/stats").json()["model_stats"] == [found]
    everything = serving.get("/v2/models/stats").json()["model_stats"]
    assert [s["name"] for s in everything] == ["grid", "plane", "tiny"]
    assert everything[2] == found
    for path in ("/v2/models/ghost/stats", "/v2/models/tiny/versions/9/stats"):
        assert serving.get(path).status_code == 404


def test_configurations(steady):
    for path in ("/v2/models/grid/config", "/v2/models/grid/versions/1/config"):
        found = steady.get(path).json()
        assert (found["name"], found["max_batch_size"]) == ("grid", 128)
    for path in ("/v2/models/ghost/config", "/v2/models/grid/versions/9/config"):
        assert steady.get(path).status_code == 404
    assert steady.post("/v2/models/grid/config").status_code == 405
