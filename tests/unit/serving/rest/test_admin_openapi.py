import json
import re

import pytest
from unit.admin_world import World

from ekiben.serving.rest.admin_openapi import openapi
from ekiben.serving.rest.admin_route import AdminRoute, Query


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact)


@pytest.fixture
def document(world):
    return world.ask("GET", "/openapi.json").json()


def operations(document):
    return [(path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def test_every_row_is_in_it_and_answers(world, document):
    assert document == json.loads(json.dumps(openapi(world.admin.routes)))
    found = {(method.upper(), path) for path, method, _ in operations(document)}
    assert found == {(route.method, "/admin/v1" + route.path) for route in world.admin.routes}
    examples = {"model": "tiny", "rollout": "tiny-1", "prefix": "ab12cd34"}
    assert world.ask("POST", "/rollouts", json={"model": "tiny", "to": "2"}).status_code == 201
    for path, method, operation in operations(document):
        filled = re.sub(r"\{(\w+)\}", lambda match: examples[match[1]], path)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        answer = world.ask(method.upper(), filled.removeprefix("/admin/v1"), json=body)
        # 409 and 422: the example is well formed, and what it asks for cannot be.
        assert answer.status_code in (200, 201, 404, 409, 422), (path, answer.text)
        assert str(answer.status_code) in operation["responses"]
        assert answer.status_code != 404 or "no route" not in answer.json()["error"]


def test_it_is_whole(document):
    assert document["openapi"] == "3.1.0"
    assert set(document["info"]) >= {"title", "version"}
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        at = document
        for part in reference.split("/"):
            at = at[part]
        assert at
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, _, operation in operations(document):
        assert operation["summary"].endswith(".")
        assert all("description" in answer or "$ref" in answer for answer in operation["responses"].values())
        in_path = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
        assert all(p["required"] for p in operation.get("parameters", []) if p["in"] == "path")


def test_what_is_needed_is_said(document):
    post = document["paths"]["/admin/v1/rollouts"]["post"]
    assert post["requestBody"]["required"] is True
    assert "201" in post["responses"]
    start = document["components"]["schemas"]["Start"]
    assert (start["required"], start["additionalProperties"]) == (["model", "to"], False)
    assert {"$ref": "#/components/schemas/PlanSpec"} in start["properties"]["plan"]["anyOf"]
    assert document["paths"]["/admin/v1/rollouts/{model}/promote"]["post"]["requestBody"]["required"] is False
    assert "requestBody" not in document["paths"]["/admin/v1/rollouts/{model}/pause"]["post"]
    parameters = {p["name"]: p for p in document["paths"]["/admin/v1/rollouts"]["get"]["parameters"]}
    assert set(parameters) == {"model", "active", "limit"}
    assert parameters["limit"]["schema"]["maximum"] == 1000
    answer = document["paths"]["/admin/v1/models/{model}/rollback"]["post"]["responses"]["200"]
    assert len(answer["content"]["application/json"]["schema"]["anyOf"]) == 2


def test_a_row_without_anything_but_its_answer():
    row = AdminRoute(method="DELETE", path="/x.y", name="drop", summary="Drops.", handler=lambda _: {}, answer=dict, query=Query)
    operation = openapi([row])["paths"]["/admin/v1/x.y"]["delete"]
    assert "parameters" not in operation
    assert "requestBody" not in operation
    assert row.regex.match("/admin/v1/x.y")
    assert not row.regex.match("/admin/v1/xay")
