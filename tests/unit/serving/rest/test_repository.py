import gzip

import pytest

from ekiben.errors import UnknownModel
from ekiben.serving.rest.repository import check_route, owns

INDEX, LOAD, UNLOAD = "/v2/repository/index", "/v2/repository/models/plane/load", "/v2/repository/models/plane/unload"


@pytest.fixture
def managed(registry, tiny_artifact, plane_artifact, start):
    for artifact in (tiny_artifact, plane_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    return start("tiny", repository_api=True, max_body_bytes=1000)


def test_routes():
    for path in (INDEX, LOAD, UNLOAD, INDEX + "/"):
        assert owns(path)
        check_route(path)
    for path in ("/v2/repository/", "/v2/repository/models/m", "/v2/repository/models/m/reload", "/v2/repository/models/a/b/load"):
        assert owns(path)
        with pytest.raises(UnknownModel, match="no route"):
            check_route(path)
    assert not owns("/v2/repository")


def test_the_index_with_and_without_a_body(managed):
    everything = [
        {"name": "plane", "version": "", "state": "UNAVAILABLE", "reason": "not loaded"},
        {"name": "tiny", "version": "1", "state": "READY", "reason": ""},
    ]
    assert managed.post(INDEX).json() == everything
    assert managed.post(INDEX, json={}).json() == everything
    assert managed.post(INDEX, json={"ready": True}).json() == everything[1:]


def test_load_and_unload(managed):
    answer = managed.post(LOAD)
    assert (answer.status_code, answer.json()) == (200, {"name": "plane", "load": True})
    assert managed.get("/v2/models/plane/ready").status_code == 200
    body = gzip.compress(b'{"parameters": {"unload_dependents": false}}')
    answer = managed.post(UNLOAD, content=body, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (200, {"name": "plane", "unload": True})
    assert managed.get("/v2/models/plane/ready").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("GET", INDEX, None, 405, "takes POST, not GET"),
        ("GET", "/v2/repository/models", None, 404, "no route"),
        ("POST", INDEX, b"{", 400, "not JSON"),
        ("POST", INDEX, b"[]", 400, "not what this route takes: Expected `object`"),
        ("POST", INDEX, b'{"ready": 1}', 400, "Expected `bool`"),
        ("POST", LOAD, b'{"parameters": []}', 400, "Expected `object`"),
        ("POST", LOAD, b'{"parameters": {"config": "{}"}}', 400, "'config' is not supported"),
        ("POST", "/v2/repository/models/ghost/load", b"", 404, "there is no model 'ghost'"),
        ("POST", INDEX, b" " * 1001, 413, "1001 bytes"),
    ],
)
def test_what_is_wrong_is_said(managed, method, path, content, status, error):
    answer = managed.request(method, path, content=content)
    assert answer.status_code == status
    assert error in answer.json()["error"]


def test_a_load_that_fails_is_the_clients_to_mend(managed, registry):
    (registry.folder_of("plane:1") / "model.onnx").write_bytes(b"nothing")
    answer = managed.post(LOAD)
    assert answer.status_code == 400
    assert "plane:1 was refused" in answer.json()["error"]


def test_without_leave(steady):
    for path in ("/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"):
        answer = steady.post(path)
        assert answer.status_code == 403
        assert "EKIBEN_REPOSITORY_API=on" in answer.json()["error"]
    assert {e["state"] for e in steady.post(INDEX).json()} == {"READY"}


def test_a_client_that_goes_away_is_answered_nothing(steady):
    assert steady.raw(INDEX, [{"type": "http.disconnect"}]) == (None, None)
