import msgspec
import pytest
from unit.admin_world import KEY, SERVER, Transport, World

from ekiben.cli.remote import AdminClient
from ekiben.cli.remote_keys import RemoteKeys, remote_trail
from ekiben.errors import KeyRefused, RolloutRefused, UnknownKey, UnknownRollout
from ekiben.guards import key_operations
from ekiben.guards.api_keys import NewKey, digest_of
from ekiben.guards.audit import trail
from ekiben.guards.key_operations import ControlKeys

REFUSED = (KeyRefused, RolloutRefused)
UNKNOWN = (UnknownKey, UnknownRollout)


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return World(tmp_path, tiny_artifact)


@pytest.fixture
def client(world):
    return AdminClient(SERVER, KEY, transport=Transport(world.app))


@pytest.fixture(params=["local", "remote"])
def operations(request, world, client):
    """Both answer alike: every test that takes this is the contract of `KeyOperations`."""
    return RemoteKeys(client) if request.param == "remote" else ControlKeys(world.control, who="kim@desk", wall=lambda: world.now)


def test_a_key_from_its_making_to_its_end(operations, world):
    made = operations.create(" booking site ", ["predict:tiny", "truth", "truth"], expires="90d")
    about = made.about
    assert (about.name, about.scopes, about.state) == ("booking site", ("predict:tiny", "truth"), "good")
    assert (about.created, about.expires) == (world.now, world.now + 90 * 86400)
    assert about.created_by in ("kim@desk", "admin-key@192.0.2.7")
    assert made.key.startswith(f"ek_{about.prefix}_")
    assert made.key[12:] not in repr(made)
    assert operations.list() == [about]
    world.now += 10
    revoked = operations.revoke(about.prefix)
    assert (revoked.state, revoked.revoked) == ("revoked", world.now)
    world.now += 10
    assert operations.revoke(about.prefix) == revoked  # once more changes nothing
    assert operations.list() == [revoked]
    kinds = [event.kind for event in world.control.events.find() if event.kind != "admin"]
    assert kinds == ["key-created", "key-revoked"]


def test_a_successor_has_the_name_the_scopes_and_as_long_a_life(operations, world):
    old = operations.create("site", ["predict"], expires="10d").about
    world.now += 86400
    new = operations.rotate(old.prefix, grace="1h").about
    assert (new.name, new.scopes, new.expires) == ("site", ("predict",), world.now + 10 * 86400)
    [replaced, _] = operations.list()
    assert (replaced.prefix, replaced.replaced_by, replaced.state) == (old.prefix, new.prefix, "good")
    assert replaced.expires == world.now + 3600
    world.now += 3600
    assert [key.state for key in operations.list()] == ["expired", "good"]


def test_grace_never_makes_a_key_live_longer_and_may_be_none(operations, world):
    short = operations.create("site", ["predict"], expires="60s").about
    world.now += 10
    operations.rotate(short.prefix, grace="1h")
    assert next(key for key in operations.list() if key.prefix == short.prefix).expires == world.now + 50
    forever = operations.create("site", ["predict"]).about
    assert operations.rotate(forever.prefix, grace="0s").about.expires is None
    assert next(key for key in operations.list() if key.prefix == forever.prefix).state == "expired"


def test_what_has_ended_or_has_a_successor_is_not_rotated(operations, world):
    rotated = operations.create("site", ["predict"]).about.prefix
    successor = operations.rotate(rotated).about.prefix
    with pytest.raises(REFUSED, match=f"its successor is {successor}"):
        operations.rotate(rotated)
    operations.revoke(successor)
    with pytest.raises(REFUSED, match="is revoked; make a new key"):
        operations.rotate(successor)
    expired = operations.create("site", ["predict"], expires="1s").about.prefix
    world.now += 1
    with pytest.raises(REFUSED, match="is expired"):
        operations.rotate(expired)
    for ask in (operations.rotate, operations.revoke):
        with pytest.raises(UNKNOWN, match="there is no API key 'zz99zz99'"):
            ask("zz99zz99")


def test_a_whole_key_names_itself_and_is_not_sent(operations, world):
    asked = []
    app = world.app

    async def spied(scope, receive, send):
        asked.append(scope["path"])
        await app(scope, receive, send)

    world.app = spied
    made = operations.create("site", ["predict"])
    successor = operations.rotate(made.key)
    assert operations.revoke(successor.key).prefix == successor.about.prefix
    secrets = (made.key[12:], successor.key[12:])
    assert not any(secret in path for secret in secrets for path in asked)
    told = str([msgspec.to_builtins(event) for event in world.control.events.find()])
    assert not any(secret in told for secret in secrets)


@pytest.mark.parametrize(
    ("name", "scopes", "expires", "said"),
    [
        (" ", ["predict"], None, "name"),
        ("x" * 101, ["predict"], None, "name|$.name"),
        ("a\nb", ["predict"], None, "name"),
        ("ek_ab12cd34", ["predict"], None, "name"),
        ("site", [], None, "one or more scopes|$.scopes"),
        ("site", ["everything"], None, "'everything' is no scope; there are predict, truth"),
        ("site", ["read:tiny"], None, "'read:tiny' is no scope"),
        ("site", ["predict:Tiny"], None, "is no scope"),
        ("site", ["predict:tiny\n"], None, "is no scope"),
        ("site", ["predict"], "soon", "no duration"),
        ("site", ["predict"], "0s", "90d"),
        ("site", ["predict"], "99999999d", "a hundred years"),
    ],
)
def test_what_is_wrong_makes_no_key(operations, name, scopes, expires, said):
    with pytest.raises(REFUSED, match=said.replace("$", r"\$")):
        operations.create(name, scopes, expires=expires)
    assert operations.list() == []


def test_a_grace_that_is_none_changes_nothing(operations):
    made = operations.create("site", ["predict"]).about
    with pytest.raises(REFUSED, match="grace"):
        operations.rotate(made.prefix, grace="soon")
    assert operations.list() == [made]


def test_a_prefix_that_is_taken_is_not_given_again(world, monkeypatch):
    operations = ControlKeys(world.control, who="kim@desk", wall=lambda: world.now)
    same = NewKey("ek_ab12cd34_" + "s" * 43, "ab12cd34", digest_of(b"s" * 43))
    monkeypatch.setattr(key_operations, "new_key", lambda: same)
    assert operations.create("one", ["predict"]).about.prefix == "ab12cd34"
    with pytest.raises(KeyRefused, match="try again"):
        operations.create("two", ["predict"])
    assert [key.name for key in operations.list()] == ["one"]


def test_who_revokes_a_key_that_others_change_is_told_in_the_end(world, monkeypatch):
    operations = ControlKeys(world.control, who="kim@desk", wall=lambda: world.now)
    made = operations.create("one", ["predict"])
    monkeypatch.setattr(world.control.keys, "keep", lambda keys, event: False)
    with pytest.raises(KeyRefused, match=f"others change {made.about.prefix}"):
        operations.revoke(made.about.prefix)


def test_the_trail_is_the_same_from_afar(world, client):
    RemoteKeys(client).create("site", ["predict"])
    here = trail(world.control.events, limit=10)
    assert remote_trail(client, after=0, limit=10) == here
    assert [event.kind for event in here] == ["key-created", "admin"]
    assert remote_trail(client, after=here[0].id, limit=10) == here[1:]
