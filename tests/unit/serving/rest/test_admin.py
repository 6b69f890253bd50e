import gzip
import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.admin_world import KEY, World

from ekiben.errors import ArtifactError, NotReady, RegistryError, RolloutChanged, SettingError, SpecError, StateError, VersionNotFound
from ekiben.guards.admin_key import AdminKey
from ekiben.guards.auth import Authenticator
from ekiben.guards.key_operations import ControlKeys
from ekiben.serving.rest.admin import Admin, refusal
from ekiben.serving.rest.admin_route import AdminRoute
from ekiben.serving.rest.http import Disconnected

START = {"model": "tiny", "to": "2"}
PLAN = {"steps": [{"setWeight": 5}, {"pause": {}}, {"setWeight": 100}]}


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact, max_body_bytes=4000)


def test_what_it_owns():
    assert Admin.owns("/admin/v1/rollouts")
    assert Admin.owns("/admin/v1/none")
    assert Admin.owns("/admin/v1")
    assert not Admin.owns("/admin")
    assert not Admin.owns("/admin/v10")
    assert not Admin.owns("/v1/models")


@pytest.mark.parametrize("path", ["/rollouts", "/none", "/openapi.json", "", "/rollouts/tiny/promote"])
def test_nothing_is_said_without_the_key(world, path):
    for key in (None, "another-key-of-the-tests"):
        answer = world.ask("GET", path, key=key)
        assert answer.status_code == (401 if key is None else 403)
        assert list(answer.json()) == ["error"]
        assert ("www-authenticate" in answer.headers) == (key is None)
    assert world.ask("GET", path, key=None).headers["www-authenticate"].startswith("Bearer ")
    assert world.who == []


def test_without_a_key_of_its_own_it_is_off_and_says_what_to_do(world):
    world.key_file.write_text("short")
    answer = world.ask("GET", "/rollouts")
    assert answer.status_code == 403
    assert "the admin API is off: key holds no key: it must be 16 or more characters" in answer.json()["error"]


def test_who_asked_is_in_the_events_and_the_key_is_not(world):
    assert world.ask("POST", "/rollouts", json=START).status_code == 201
    [event] = world.control.events.find(model="tiny")
    assert event.who == "admin-key@192.0.2.7"
    assert KEY not in str(event)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/none", 404, None),
        ("GET", "/rollouts/tiny/none", 404, None),
        ("POST", "/rollouts/a/b/promote", 404, None),
        ("GET", "/rollouts/%00", 404, None),
        ("GET", "/rollouts/TINY", 404, None),
        ("GET", "/rollouts/tiny/promote", 405, "POST"),
        ("DELETE", "/rollouts", 405, "GET, HEAD, POST"),
        ("POST", "/models/tiny/events", 405, "GET, HEAD"),
        ("PUT", "/openapi.json", 405, "GET, HEAD"),
    ],
)
def test_paths_and_methods(world, method, path, status, allow):
    answer = world.ask(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert ("lists them" if status == 404 else "takes") in answer.json()["error"]


def test_a_path_may_end_with_a_slash_and_a_get_may_be_a_head(world):
    assert world.ask("GET", "/rollouts/").json() == []
    assert world.ask("HEAD", "/rollouts").status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status", "error"),
    [
        (b"{", {}, 400, "not JSON"),
        (b"\xff", {}, 400, "not JSON"),
        (b"[" * 3000, {}, 400, "nested too deeply"),
        (b"[]", {}, 400, "Expected `object`"),
        (b"", {}, 400, "missing required field `model`; there are model, to, plan"),
        (b'{"model": "tiny"}', {}, 400, "missing required field `to`"),
        (b'{"model": "tiny", "to": 2}', {}, 400, "$.to"),
        (b'{"model": "tiny", "to": "2\\u0000"}', {}, 400, "$.to"),
        (b'{"model": "Tiny", "to": "2"}', {}, 400, "$.model"),
        (b'{"model": "tiny", "to": "2", "plann": {}}', {}, 400, "unknown field `plann`"),
        (b'{"model": "tiny", "to": "2"}', {"content-type": "text/plain"}, 415, "text/plain"),
        (b'{"model": "tiny", "to": "2"}', {"content-encoding": "br"}, 415, "'br'"),
        (b"no gzip", {"content-encoding": "gzip"}, 400, "gzip"),
        (b" " * 4001, {}, 413, "4001 bytes"),
        (gzip.compress(b" " * 4001, mtime=0), {"content-encoding": "gzip"}, 413, "4000 bytes"),
    ],
)
def test_a_body_that_is_wrong(world, content, headers, status, error):
    answer = world.ask("POST", "/rollouts", content=content, headers=headers)
    assert answer.status_code == status
    assert error in answer.json()["error"]
    assert world.events() == []


def test_a_body_may_be_compressed_and_so_may_the_answer(world):
    body = gzip.compress(json.dumps(START).encode())
    answer = world.ask("POST", "/rollouts", content=body, headers={"content-encoding": "gzip", "accept-encoding": "gzip"})
    assert (answer.status_code, answer.headers["content-encoding"]) == (201, "gzip")
    assert answer.json()["challenger"] == "2"


def test_a_plan_that_is_wrong_says_where(world):
    answer = world.ask("POST", "/rollouts", json={**START, "plan": {"steps": [{"setWeight": 5}, {"setWeight": 500}]}})
    assert answer.status_code == 400
    assert answer.json()["details"][0]["field"].startswith("steps[1]")
    assert answer.json()["error"].startswith("plan: steps[1]")
    for plan in ([], "shadow", 3, {"steps": 3}, {"steps": [[]]}, {"steps": [{"pause": {"duration": "soon"}}]}, {}):
        assert world.ask("POST", "/rollouts", json={**START, "plan": plan}).status_code == 400
    assert world.events() == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/rollouts?active=perhaps", "$.active"),
        ("/rollouts?model=%00", "$.model"),
        ("/rollouts?limit=0", "$.limit"),
        ("/rollouts?limit=1001", "$.limit"),
        ("/rollouts?none=1", "unknown field `none`; there are model, active, limit"),
        ("/rollouts?limit=1&limit=2", "given twice"),
        ("/rollouts?" + "&".join(f"a{n}=1" for n in range(40)), "cannot be read"),
        ("/rollouts/tiny?limit=1", "takes no parameters"),
        ("/models/tiny/events?after=-1", "$.after"),
        ("/models/tiny/events?after=1e30", "$.after"),
    ],
)
def test_a_query_that_is_wrong(world, path, error):
    answer = world.ask("GET", path)
    assert answer.status_code == 400
    assert error in answer.json()["error"]


def test_what_takes_no_body_takes_none(world):
    world.ask("POST", "/rollouts", json=START)
    answer = world.ask("POST", "/rollouts/tiny/pause", json={"why": "?"})
    assert (answer.status_code, answer.json()["error"]) == (400, "POST /rollouts/{model}/pause takes no body")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SpecError("plan", "steps", "is empty", "give steps"), 400),
        (VersionNotFound("there is no such version"), 404),
        (RolloutChanged("somebody else"), 409),
        (RegistryError("no reference"), 422),
        (ArtifactError("broken"), 422),
        (StateError("the control database is away"), 503),
        (SettingError("wrong"), 500),
    ],
)
def test_errors_have_their_status(world, error, status):
    world.failure = error
    answer = world.ask("GET", "/rollouts")
    assert (answer.status_code, answer.json()["error"]) == (status, str(error))
    assert ("retry-after" in answer.headers) == (status == 503)
    assert refusal(error).status == status


def test_a_failure_of_its_own_is_logged_and_told(world, caplog):
    world.failure = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR):
        answer = world.ask("GET", "/rollouts")
    assert (answer.status_code, answer.json()["error"]) == (500, "the server failed: ZeroDivisionError; its log says more")
    assert "GET /admin/v1/rollouts" in caplog.text
    assert KEY not in caplog.text


def test_a_client_that_goes_away_is_not_answered(world):
    import asyncio

    async def gone():
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/admin/v1/rollouts",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer " + KEY.encode())],
    }
    with pytest.raises(Disconnected):
        asyncio.run(world.admin.answer(scope, gone))
    assert world.who == []


def test_other_parts_add_rows(tmp_path, tiny_artifact):
    row = AdminRoute(method="PUT", path="/things/{thing}", name="putThing", summary="Puts.", handler=lambda asked: asked.path, answer=dict)
    world = World(tmp_path, tiny_artifact, more=[row])
    assert world.ask("PUT", "/things/one").json() == {"thing": "one"}
    assert "put" in world.ask("GET", "/openapi.json").json()["paths"]["/admin/v1/things/{thing}"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["model", "to", "plan", "steps", "pause", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
PARTS = st.lists(
    st.sampled_from(["rollouts", "models", "tiny", "tiny-1", "promote", "abort", "rollback", "events", "plan", "x", "%00", "..", ""]),
    max_size=4,
)
STEPS = st.lists(
    st.dictionaries(st.sampled_from(["setWeight", "pause", "shadow", "setHeaderRoute"]), JSON, min_size=1, max_size=2), max_size=3
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
    parts=PARTS,
    query=st.dictionaries(st.sampled_from(["model", "active", "limit", "after", "to", "x"]), st.text(max_size=5), max_size=2),
    body=st.one_of(
        st.binary(max_size=40),
        JSON.map(lambda value: json.dumps(value).encode()),
        STEPS.map(lambda steps: json.dumps({**START, "plan": {"steps": steps}}).encode()),
        st.fixed_dictionaries({"model": st.just("tiny"), "to": st.text(max_size=9)}).map(lambda value: json.dumps(value).encode()),
    ),
    kind=st.sampled_from(["application/json", "text/plain", "application/problem+json; x", ""]),
    encoding=st.sampled_from(["identity", "gzip", "deflate", "nonsense"]),
    key=st.sampled_from([KEY, KEY, KEY, KEY, "x", None]),
)
def test_nothing_that_is_sent_is_the_servers_fault(world, method, parts, query, body, kind, encoding, key):
    headers = {"content-type": kind, "content-encoding": encoding}
    answer = world.ask(method, "/" + "/".join(parts), params=query, content=body, headers=headers, key=key)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.json()["error"]


def key_of(world, *scopes, expires=None):
    made = ControlKeys(world.control, who="kim@desk", wall=lambda: world.now).create("site", scopes, expires=expires)
    world.keys.refresh()
    return made


def audited(world):
    return [(e.who, e.details["method"], e.details["route"], e.details["status"]) for e in world.control.events.find(kind="admin")]


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_with_the_scope_admin_is_as_good_as_the_admin_key(world, header):
    made = key_of(world, "admin")
    headers = {header: f"Bearer {made.key}" if header == "authorization" else made.key}
    assert world.ask("POST", "/rollouts", key=None, headers=headers, json=START).status_code == 201
    [event] = world.control.events.find(model="tiny")
    assert event.who == f"key:{made.about.prefix}@192.0.2.7"
    world.key_file.write_text("short")  # and needs no admin key
    assert world.ask("GET", "/rollouts", key=None, headers=headers).status_code == 200


def test_a_key_without_it_is_told_what_it_lacks(world):
    made = key_of(world, "predict", "truth", "read")
    answer = world.ask("GET", "/rollouts", key=made.key)
    assert answer.status_code == 403
    assert answer.json()["error"] == f"key:{made.about.prefix} may not do this: it lacks the scope admin"
    assert world.who == []


def test_a_key_that_has_ended_is_refused(world):
    made = key_of(world, "admin", expires="10s")
    revoked = key_of(world, "admin")
    ControlKeys(world.control, who="kim@desk", wall=lambda: world.now).revoke(revoked.about.prefix)
    world.keys.refresh()
    assert world.ask("GET", "/rollouts", key=revoked.key).status_code == 403
    world.now += 10
    answer = world.ask("GET", "/rollouts", key=made.key)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="ekiben"')
    assert "has expired" in answer.json()["error"]


def test_each_action_leaves_a_trace_and_reading_leaves_none(world):
    world.ask("POST", "/rollouts", json=START)
    world.ask("GET", "/rollouts")
    world.ask("HEAD", "/rollouts/tiny")
    world.ask("POST", "/rollouts/tiny/pause", json={"why": "?"})
    world.ask("POST", "/nothing")
    world.failure = ZeroDivisionError("odd")
    world.ask("POST", "/rollouts/tiny/abort")
    who = "admin-key@192.0.2.7"
    assert audited(world) == [
        (who, "POST", "/rollouts", 201),
        (who, "POST", "/rollouts/{model}/pause", 400),
        (who, "POST", "", 404),
        (who, "POST", "/rollouts/{model}/abort", 500),
    ]
    assert world.control.events.find(kind="admin")[1].details["model"] == "tiny"


def test_who_was_refused_leaves_a_trace_too_but_not_without_end(world):
    made = key_of(world, "predict")
    world.ask("GET", "/rollouts", key=made.key)
    world.ask("POST", "/rollouts/tiny/promote", key="another-key-of-the-tests", json={})
    for _ in range(30):
        world.ask("GET", "/keys", key=None)
    seen = audited(world)
    assert seen[:3] == [
        (f"key:{made.about.prefix}@192.0.2.7", "GET", "/rollouts", 403),
        ("anonymous@192.0.2.7", "POST", "/rollouts/{model}/promote", 403),
        ("anonymous@192.0.2.7", "GET", "/keys", 401),
    ]
    assert len(seen) == 10


def test_while_it_cannot_be_said_who_asks_nobody_is_let_in(tmp_path, tiny_artifact):
    class Unsure(Authenticator):
        def known(self, headers):
            raise NotReady("the issuer's keys are not known", retry_after_s=10)

    world = World(tmp_path, tiny_artifact)
    world.admin._authenticator = Unsure(AdminKey(world.key_file), world.keys)
    answer = world.ask("GET", "/rollouts")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert world.who == []
