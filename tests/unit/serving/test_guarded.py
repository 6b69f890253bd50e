"""Who gets in over which way, and how often: all ways of one server, with keys, limits and neither."""

import time

import pytest
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import INFER, SERVICE, Client, typed

from ekiben.guards.key_operations import ControlKeys
from ekiben.model.guard_spec import LimitsSpec, RateSpec
from ekiben.serving.grpc.status import Code
from ekiben.state import memory_control

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": 0.5}
BODY = {"instances": [ROW]}
PREDICT = "/v1/models/tiny:predict"
TRUTH = "/v1/models/tiny/ground_truth"
REPORT = {"request_id": "r-1", "actual": "yes"}


@pytest.fixture
def keyed(start, registry, tiny_artifact, monkeypatch):
    """A server that wants keys, and ``key(scope, …)``, which makes one."""
    monkeypatch.setattr("ekiben.guards.api_keys.POLL_S", 0.01, raising=False)
    registry.register(tiny_artifact.path, tag="tiny:1")
    control = memory_control(aliases=registry.aliases)

    def key(*scopes):
        return ControlKeys(control, who="test", wall=time.time).create("test", scopes).key

    keys = {name: key(*scopes) for name, scopes in {"all": ["predict"], "tiny": ["predict:tiny", "truth:tiny"], "read": ["read"]}.items()}
    serving = start("tiny", control=control, auth="required")
    return serving, keys


def bearer(key):
    return {"authorization": f"Bearer {key}"}


PLATFORMS = ("/invocations", "/score", "/tiny", PREDICT, "/v1/models/tiny/versions/1:predict")


@pytest.mark.parametrize("path", PLATFORMS)
def test_predicting_needs_a_key_on_every_path(keyed, path):
    serving, keys = keyed
    refused = serving.post(path, json=BODY)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert "X-API-Key" in refused.json()["error"]
    assert serving.post(path, json=BODY, headers=bearer(keys["all"])).status_code == 200
    assert serving.post(path, json=BODY, headers={"x-api-key": keys["tiny"]}).status_code == 200
    wrong = serving.post(path, json=BODY, headers=bearer(keys["read"]))
    assert wrong.status_code == 403
    assert "predict" in wrong.json()["error"]
    assert serving.post(path, json=BODY, headers=bearer(keys["all"][:-1] + "!")).status_code == 401


def test_a_model_that_is_not_served_is_not_told_to_strangers(keyed):
    serving, keys = keyed
    assert serving.post("/v1/models/nobody:predict", json=BODY).status_code == 401
    assert serving.post("/v1/models/nobody:predict", json=BODY, headers=bearer(keys["all"])).status_code == 404


def test_which_models_there_are_is_not_told_to_strangers(start, registry, tiny_artifact, plane_artifact):
    for artifact in (tiny_artifact, plane_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    closed = start("tiny", "plane", auth="required").post("/invocations", json=BODY)
    assert closed.status_code == 401
    assert "tiny" not in closed.text
    assert "tiny, plane" in start("tiny", "plane").post("/invocations", json=BODY).json()["error"]


def test_ground_truth_needs_its_scope(keyed):
    serving, keys = keyed
    assert serving.post(TRUTH, json=REPORT).status_code == 401
    assert serving.post(TRUTH, json=REPORT, headers=bearer(keys["all"])).status_code == 403
    assert serving.post(TRUTH, json=REPORT, headers=bearer(keys["tiny"])).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/v2", "/v2/models/tiny", "/v2/models/stats", "/metrics", "/docs.json"])
def test_reading_needs_its_scope(keyed, path):
    serving, keys = keyed
    assert serving.get(path).status_code == 401
    assert serving.get(path, headers=bearer(keys["tiny"])).status_code == 403
    assert serving.get(path, headers=bearer(keys["read"])).status_code in (200, 418)


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready", "/ping", "/livez", "/healthz"])
def test_health_is_everybodys(keyed, path):
    serving, _ = keyed
    assert serving.get(path).status_code in (200, 418)


def test_what_bentoml_would_predict_needs_a_key_too(keyed):
    serving, keys = keyed
    assert serving.post("/tiny/", json=BODY).status_code == 401
    assert serving.post("/tiny/", json=BODY, headers=bearer(keys["read"])).status_code == 403


def test_loading_needs_the_admin(keyed):
    serving, keys = keyed
    assert serving.post("/v2/repository/models/tiny/load", json={}).status_code == 401
    assert serving.post("/v2/repository/models/tiny/load", json={}, headers=bearer(keys["all"])).status_code == 403
    assert serving.post("/v2/repository/index", json={}, headers=bearer(keys["read"])).status_code == 200


def test_grpc_has_the_same_rules(keyed):
    serving, keys = keyed
    client = Client(serving)
    asked = typed("tiny", a=("FP32", [1.0]), b=("FP32", [2.0]), c=("FP32", [3.0]), d=("FP32", [0.5]))
    assert "X-API-Key" in client.refusal(asked, Code.UNAUTHENTICATED)
    assert "predict" in client.refusal(asked, Code.PERMISSION_DENIED, authorization=b"Bearer " + keys["read"].encode())
    assert client.infer(asked, authorization=b"Bearer " + keys["tiny"].encode()).model_name == "tiny"
    assert client.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    described = pb.ModelMetadataRequest(name="tiny")
    assert client.unary(SERVICE + "ModelMetadata", described).code is Code.UNAUTHENTICATED
    assert client.ask("ModelMetadata", described, pb.ModelMetadataResponse, x_api_key=keys["read"].encode()).name == "tiny"
    loads = pb.RepositoryModelLoadRequest(model_name="tiny")
    assert client.unary(SERVICE + "RepositoryModelLoad", loads, x_api_key=keys["all"].encode()).code is Code.PERMISSION_DENIED


@pytest.fixture
def limited(start, registry, tiny_artifact, another):
    """``limited(rates=…, …)``: a server whose model has these limits."""

    def make(**limits):
        artifact = another(tiny_artifact, "limited", limits=LimitsSpec(**limits))
        registry.register(artifact.path, tag="tiny:1")
        return start("tiny")

    return make


def test_requests_are_limited_and_told_what_is_left(limited):
    serving = limited(rates=(RateSpec(requests=2, every="1h"),))
    first, second, third = (serving.post(PREDICT, json=BODY) for _ in range(3))
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert (first.headers["ratelimit-remaining"], second.headers["ratelimit-remaining"]) == ("1", "0")
    assert int(third.headers["retry-after"]) > 1000
    assert third.headers.get_list("ratelimit-remaining") == ["0"]


def test_rows_are_limited_and_not_only_requests(limited):
    serving = limited(rates=(RateSpec(rows=5, every="1h"),), max_rows=4)
    assert serving.predict("tiny", [ROW] * 4).status_code == 200
    refused = serving.predict("tiny", [ROW] * 4)
    assert refused.status_code == 429
    assert refused.headers.get_list("ratelimit-remaining") == ["1"]
    assert serving.predict("tiny", [ROW] * 5).status_code == 413
    assert serving.predict("tiny", [ROW]).status_code == 200
    refusals = serving.metrics.get_sample_value(
        "ekiben_predictions_total", {"model": "tiny", "version": "1", "arm": "champion", "status": "refused"}
    )
    assert refusals == 1


def test_addresses_and_models_are_limited_over_grpc_too(limited):
    serving = limited(rates=(RateSpec(per="model", rows=3, every="1h"),))
    client = Client(serving)
    asked = typed("tiny", a=("FP32", [1.0] * 2), b=("FP32", [2.0] * 2), c=("FP32", [3.0] * 2), d=("FP32", [0.5] * 2))
    reply = client.unary(INFER, asked)
    assert reply.code is Code.OK
    assert reply.headers[b"ratelimit-remaining"] == b"1"
    assert "too many rows" in client.refusal(asked, Code.RESOURCE_EXHAUSTED)


def test_a_place_is_given_back_whatever_becomes_of_the_request(limited):
    serving = limited(concurrent=1)
    for _ in range(3):
        assert serving.predict("tiny", [ROW]).status_code == 200
        assert serving.predict("tiny", [{"a": "x"}]).status_code == 422
        assert serving.post(PREDICT, content=b"{").status_code == 400
        assert serving.raw(PREDICT, [{"type": "http.disconnect"}]) == (None, None)
