import json
import re
from pathlib import Path

import pytest
from unit.admin_world import World

from ekiben.serving.rest.admin_keys import key_routes

ROOT = Path(__file__).parents[4]


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact)


def test_a_key_from_its_making_to_its_end(world):
    answer = world.ask("POST", "/keys", json={"name": "site", "scopes": ["predict:tiny"], "expires": "90d"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    prefix = made["about"]["prefix"]
    assert made["key"].startswith(f"ek_{prefix}_")
    [listed] = world.ask("GET", "/keys").json()
    assert (listed["state"], listed["created_by"], listed["scopes"]) == ("good", "admin-key@192.0.2.7", ["predict:tiny"])
    successor = world.ask("POST", f"/keys/{prefix}/rotate", json={"grace": "10m"}).json()
    assert successor["about"]["name"] == "site"
    assert world.ask("POST", f"/keys/{prefix}/revoke").json()["state"] == "revoked"
    for path in ("/keys", "/audit"):
        said = world.ask("GET", path).text
        assert not any(key["key"][12:] in said for key in (made, successor))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"name": "site"}, 400, "missing required field `scopes`"),
        ({"name": "site", "scopes": []}, 400, "$.scopes"),
        ({"name": "", "scopes": ["read"]}, 400, "$.name"),
        ({"name": "site", "scopes": ["read"], "expires": 90}, 400, "$.expires"),
        ({"name": "site", "scopes": ["read"], "expires": "90 days"}, 400, "$.expires"),
        ({"name": "site", "scopes": ["read"], "expires": "soon"}, 422, "no duration"),
        ({"name": "site", "scopes": ["write"]}, 422, "'write' is no scope"),
        ({"name": "site", "scopes": ["read"], "key": "mine"}, 400, "unknown field `key`"),
    ],
)
def test_what_is_wrong_makes_no_key(world, body, status, said):
    answer = world.ask("POST", "/keys", json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert world.ask("GET", "/keys").json() == []


def test_a_key_that_is_not_there(world):
    for verb in ("rotate", "revoke"):
        answer = world.ask("POST", f"/keys/zz99zz99/{verb}")
        assert (answer.status_code, answer.json()["error"].startswith("there is no API key 'zz99zz99'")) == (404, True)


def test_the_trail_says_who_made_it_and_can_be_read_on(world):
    world.ask("POST", "/keys", json={"name": "site", "scopes": ["read"]})
    world.ask("GET", "/keys", key="another-key-of-the-tests")
    trail = world.ask("GET", "/audit").json()
    assert [(event["kind"], event["who"]) for event in trail] == [
        ("key-created", "admin-key@192.0.2.7"),
        ("admin", "admin-key@192.0.2.7"),
        ("admin", "anonymous@192.0.2.7"),
    ]
    assert world.ask("GET", f"/audit?after={trail[0]['id']}&limit=1").json() == trail[2:]


def test_every_row_is_in_the_documentation(world):
    page = (ROOT / "docs" / "61-authentication.md").read_text()
    for route in key_routes(lambda _: None, world.control.events):
        assert f"`{route.method} {route.path}`" in page, route.path
    [shown] = [block for block in re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if '"about"' in block]
    made = world.ask("POST", "/keys", json={"name": "site", "scopes": ["read"]}).json()
    assert (set(json.loads(shown)), set(json.loads(shown)["about"])) == (set(made), set(made["about"]))
