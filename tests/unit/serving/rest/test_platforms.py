import pytest

from ekiben import __version__
from ekiben.model import Predictor
from ekiben.serving.rest.platforms import PlatformRoutes
from ekiben.settings import Settings

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}
BODY = {"instances": [ROW]}
SCORING = ("/invocations", "/score")


@pytest.fixture
def tiny(start, registry, tiny_artifact):
    """Starts a server with tiny alone, in version 1."""
    registry.register(tiny_artifact.path, tag="tiny:1")
    return lambda **settings: start("tiny", **settings)


@pytest.fixture
def versions(tiny, registry, tiny_artifact, another, eventually):
    """A server with tiny in version 1, the champion, and 2, the challenger."""
    serving = tiny()
    registry.register(another(tiny_artifact, "two", description="two").path, tag="tiny:2")
    registry.aliases.set("tiny", "challenger", "2")
    eventually(lambda: ("tiny", "2") in serving.server.host.snapshot.loaded)
    return serving


# scoring ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", SCORING)
def test_the_only_model_answers(tiny, tiny_artifact, path):
    answer = tiny().post(path, json=BODY)
    assert answer.status_code == 200
    assert answer.json() == {"predictions": Predictor.open(tiny_artifact.path).predict([ROW])}
    assert answer.headers["x-model-version"] == "1"


@pytest.mark.parametrize("path", SCORING)
def test_of_several_models_the_one_that_is_set_answers(start, serving, path):
    several = serving.post(path, json=BODY)
    assert several.status_code == 404
    assert several.json()["error"] == (
        f"{path} names no model, and this server has tiny, plane, grid; set EKIBEN_PLATFORM_MODEL to the one that it means"
    )
    named = start("tiny", "plane", "grid", platform_model="plane")
    assert named.post(path, json={"instances": [[1, 2, 3]]}).json() == {"predictions": [{"prediction": 14.5}]}


def test_a_model_that_is_not_served(start, serving):
    answer = start("tiny", "plane", platform_model="ghost").post("/invocations", json=BODY)
    assert answer.status_code == 404
    assert answer.json()["error"] == "there is no model 'ghost'; this server has tiny, plane"


def test_without_any_model(start):
    answer = start().post("/invocations", json=BODY)
    assert answer.status_code == 404
    assert "this server has none" in answer.json()["error"]


def test_a_model_that_is_not_ready_is_503_and_says_why(start):
    serving = start("ghost")
    answer = serving.post("/invocations", json=BODY)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "ghost is not ready" in answer.json()["error"]
    assert serving.get("/ping").status_code == 503


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_scoring_takes_post(tiny, method):
    serving = tiny(predict_route="/predict")
    for path in (*SCORING, "/predict"):
        answer = serving.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


def test_a_new_champion_takes_over(versions, registry, eventually):
    registry.aliases.set("tiny", "champion", "2")
    eventually(lambda: versions.post("/invocations", json=BODY).headers["x-model-version"] == "2")


# headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variant", "version"),
    [("1", "1"), ("2", "2"), ("champion", "1"), ("challenger", "2"), ("AllTraffic", "1"), ("9", "1"), ("", "1"), ("é", "1")],
)
def test_the_target_variant_is_a_version_or_an_alias_else_the_champion_answers(versions, variant, version):
    answer = versions.post("/invocations", json=BODY, headers=[(b"x-amzn-sagemaker-target-variant", variant.encode())])
    assert answer.status_code == 200
    assert answer.headers["x-model-version"] == version


def test_a_challenger_that_was_promoted_is_no_variant_any_more(versions, registry, eventually):
    registry.aliases.set("tiny", "champion", "2")
    registry.aliases.remove("tiny", "challenger")
    eventually(lambda: versions.post("/invocations", json=BODY).headers["x-model-version"] == "2")
    answer = versions.post("/invocations", json=BODY, headers={"x-amzn-sagemaker-target-variant": "1"})
    assert answer.headers["x-model-version"] == "2"


@pytest.mark.parametrize("name", ["X-Amzn-SageMaker-Inference-Id", "x-ms-request-id", "x-ms-client-request-id"])
def test_a_platforms_id_is_the_request_id_and_is_echoed(tiny, name):
    serving = tiny()
    for body, status in ((BODY, 200), ({}, 400)):
        answer = serving.post("/invocations", json=body, headers={name: "mine"})
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == answer.headers[name] == "mine"


def test_our_own_id_goes_before_the_platforms(tiny):
    answer = tiny().post("/score", json=BODY, headers={"x-ms-request-id": "theirs", "x-request-id": "ours"})
    assert answer.headers["x-request-id"] == "ours"
    assert answer.headers["x-ms-request-id"] == "theirs"


def test_both_of_azures_ids(tiny):
    answer = tiny().post("/score", json=BODY, headers={"x-ms-client-request-id": "client", "x-ms-request-id": "server"})
    assert (answer.headers["x-request-id"], answer.headers["x-ms-client-request-id"]) == ("server", "client")


@pytest.mark.parametrize("value", [b"x" * 200, "é".encode(), b""])
def test_an_id_that_cannot_be_one_is_replaced(tiny, value):
    answer = tiny().post("/score", json=BODY, headers=[(b"x-ms-request-id", value)])
    assert answer.status_code == 200
    assert answer.headers["x-request-id"].encode() != value


def test_custom_attributes_come_back(tiny):
    serving = tiny()
    name = "X-Amzn-SageMaker-Custom-Attributes"
    assert serving.post("/invocations", json=BODY, headers={name: "trace=7"}).headers[name] == "trace=7"
    assert name not in serving.post("/invocations", json=BODY, headers={name: "x" * 1025}).headers
    assert name not in serving.post("/invocations", json=BODY, headers={"x-amzn-sagemaker-target-model": "m"}).headers


# health ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/ping", "/health", "/healthy/vertex"])
def test_health_is_the_servers_readiness(tiny, path):
    serving = tiny(health_route="/healthy/vertex")
    for method in ("GET", "HEAD"):
        assert serving.request(method, path).status_code == 200
    serving.server.plane.draining = True
    answer = serving.get(path)
    assert answer.status_code == 503
    assert "stopping" in answer.json()["error"]
    assert serving.post(path).status_code == 405


def test_version(tiny):
    answer = tiny().get("/version")
    assert answer.text == __version__
    assert answer.headers["content-type"].startswith("text/plain")


# Vertex AI ───────────────────────────────────────────────────────────────────────────────────────────────────────────

VERTEX = "/v1/endpoints/7/deployedModels/8"


def test_vertexs_routes(tiny):
    serving = tiny(health_route=VERTEX, predict_route=f"{VERTEX}:predict")
    assert serving.get(VERTEX).status_code == 200
    answer = serving.post(f"{VERTEX}:predict", json={**BODY, "parameters": {"any": 1}})
    assert answer.json().keys() == {"predictions"}
    assert tiny().get(VERTEX).status_code == 404


def test_a_route_of_v1_or_v2_keeps_its_meaning(tiny):
    serving = tiny(health_route="/v1/models/tiny", predict_route="/v2/models/tiny/infer")
    assert serving.get("/v1/models/tiny").json()["name"] == "tiny"
    assert "V2" in serving.post("/v2/models/tiny/infer", json=BODY).json()["error"]


def test_a_typed_endpoint_gives_way_to_the_route_that_was_asked_for(tiny):
    assert isinstance(tiny().post("/tiny", json=BODY).json(), list)
    assert tiny(predict_route="/tiny").post("/tiny", json=BODY).json().keys() == {"predictions"}


def test_scoring_paths_may_be_vertexs_too(tmp_path):
    settings = Settings(home=tmp_path, database_url="sqlite://", workers=1, predict_route="/score", health_route="/ping")
    routes = PlatformRoutes(settings)
    assert routes.health("/ping") == "/readyz"
    assert routes.health("/score") is None
