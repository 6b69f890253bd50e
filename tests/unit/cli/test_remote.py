import httpx
import pytest
from unit.admin_world import KEY, SERVER, Transport, World

from ekiben.cli.remote import AdminClient, RemoteOperations
from ekiben.errors import EkibenError, RolloutChanged, RolloutRefused, SettingError, StateError, UnknownRollout
from ekiben.rollout.interface import RolloutOperations
from ekiben.rollout.plan import default_plan
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.state.routes import Route


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact)


@pytest.fixture(params=["local", "remote"])
def operations(request, world) -> RolloutOperations:
    """Both answer alike: every test that takes this is the contract of `RolloutOperations`."""
    if request.param == "local":
        return world.operations_for("kim@desk")
    return RemoteOperations(AdminClient(SERVER, KEY, transport=Transport(world.app)))


def answering(answer, **options):
    return AdminClient(SERVER, KEY, transport=httpx.MockTransport(answer), **options)


def test_a_rollout_from_its_start_to_its_end(operations, world):
    view = operations.start("tiny", "2", plan=default_plan())
    assert isinstance(view, StatusView)
    assert (view.id, view.status) == ("tiny-1", "Progressing")
    assert world.control.rollouts.get("tiny-1").plan == default_plan()
    assert operations.pause("tiny").status == "Paused"
    assert operations.resume("tiny").status == "Progressing"
    world.loads()
    assert operations.promote("tiny").step == 1
    assert operations.promote("tiny", full=True).status == "Completed"
    assert operations.status("tiny") == operations.status("tiny-1")
    assert [r.id for r in operations.rollouts()] == ["tiny-1"]
    assert operations.rollouts(active=True) == operations.rollouts(model="other") == []
    back = operations.rollback("tiny")
    assert isinstance(back, RollbackView)
    assert back.champion == "1"
    assert operations.rollback("tiny", to="3").champion == "3"


def test_abort_and_rollback_of_an_active_one(operations):
    operations.start("tiny", "latest")
    assert operations.abort("tiny", reason="complaints").message == "complaints"
    operations.start("tiny", "2")
    view = operations.rollback("tiny")
    assert isinstance(view, StatusView)
    assert view.status == "Aborted"


def test_what_is_only_looked_at(operations):
    assert operations.plan("tiny") == operations.plan("tiny", to="2") == default_plan()
    assert operations.route("tiny") == Route()
    assert operations.history("tiny") == []
    operations.start("tiny", "2")
    operations.pause("tiny")
    assert [event.kind for event in operations.history("tiny")] == ["started", "paused"]
    assert [event.kind for event in operations.history("tiny", after=1)] == ["paused"]
    assert [event.kind for event in operations.history("tiny", limit=1)] == ["paused"]
    assert operations.route("tiny").arms[0].version == "2"


def test_errors_are_the_same(operations):
    with pytest.raises(UnknownRollout, match="there is no rollout 'tiny'"):
        operations.status("tiny")
    with pytest.raises(UnknownRollout, match="no active rollout"):
        operations.abort("tiny")
    with pytest.raises(RolloutRefused, match="champion already"):
        operations.start("tiny", "1")
    operations.start("tiny", "2")
    with pytest.raises(RolloutChanged, match="tiny-1 is active"):
        operations.start("tiny", "3")


def test_a_name_stays_in_its_part_of_the_path(world):
    asked = []

    def answer(request):
        asked.append(request.url.raw_path)
        return httpx.Response(404, json={"error": "none"})

    with pytest.raises(UnknownRollout):
        RemoteOperations(answering(answer)).status("../openapi.json?x#y")
    assert asked == [b"/admin/v1/rollouts/..%2Fopenapi.json%3Fx%23y"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RolloutRefused),
        (401, SettingError),
        (403, SettingError),
        (404, UnknownRollout),
        (409, RolloutChanged),
        (422, RolloutRefused),
        (503, StateError),
        (500, EkibenError),
        (418, EkibenError),
    ],
)
def test_statuses_become_errors_again(status, error):
    with pytest.raises(error, match=r"^why$") as caught:
        answering(lambda _: httpx.Response(status, json={"error": "why"})).ask("GET", "/rollouts", list)
    assert type(caught.value) is error


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b"\xff"])
def test_what_no_admin_api_answers(content):
    with pytest.raises(EkibenError, match="answered 502 Bad Gateway; is there an admin API"):
        answering(lambda _: httpx.Response(502, content=content)).ask("GET", "/rollouts", list)
    with pytest.raises(EkibenError, match="cannot be read, is it another version"):
        answering(lambda _: httpx.Response(200, content=content)).ask("GET", "/rollouts", int)


def test_a_redirect_is_not_followed_with_the_key():
    with pytest.raises(EkibenError, match="answered 302"):
        answering(lambda _: httpx.Response(302, headers={"location": "http://elsewhere.test"})).ask("GET", "/rollouts", list)


def test_a_server_that_does_not_answer():
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(StateError, match=f"the server at {SERVER} does not answer: refused"):
        answering(refuse).ask("GET", "/rollouts", list)


def test_what_is_sent():
    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(200, content=b"{}")

    client = AdminClient("https://proxy.test/ekiben/", KEY, transport=httpx.MockTransport(answer))
    client.ask("POST", "/x", dict, query={"active": True, "limit": 3, "model": None}, body={"a": 1})
    client.ask("GET", "/x", dict)
    assert str(asked[0].url) == "https://proxy.test/ekiben/admin/v1/x?active=true&limit=3"
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert (asked[0].headers["content-type"], asked[0].content) == ("application/json", b'{"a":1}')
    assert "content-type" not in asked[1].headers


@pytest.mark.parametrize("url", ["server:3000", "", "ftp://x", "http://[", "http://x:port", "https://"])
def test_a_url_that_is_none(url):
    with pytest.raises(SettingError, match="--server is"):
        AdminClient(url, KEY)


@pytest.mark.parametrize("key", ["", "schlüssel", "a\nb"])
def test_a_key_that_is_none(key):
    with pytest.raises(SettingError, match=r"printable ASCII") as caught:
        AdminClient(SERVER, key)
    assert not key or key not in str(caught.value)
