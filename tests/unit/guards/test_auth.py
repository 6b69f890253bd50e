import asyncio

import pytest
from unit.guards.issuer import AUDIENCE, Issuer

from ekiben.errors import Forbidden, NotReady, Unauthenticated
from ekiben.guards.admin_key import AdminKey
from ekiben.guards.api_keys import KeyRing
from ekiben.guards.auth import Authenticator, given_of
from ekiben.guards.jwks import Jwks
from ekiben.guards.key_operations import ControlKeys
from ekiben.guards.principal import Principal
from ekiben.guards.tokens import REFUSED, TokenVerifier
from ekiben.settings import load_settings
from ekiben.state import memory_control

ADMIN_KEY = "a" * 43


class World:
    def __init__(self, folder):
        self.control = memory_control()
        self.keys = ControlKeys(self.control, who="kim@desk", wall=lambda: 1000.0)
        self.ring = KeyRing(self.control.keys, wall=lambda: 1000.0)
        self.issuer = Issuer(wall=lambda: 1000.0)
        self.file = folder / "admin.key"
        self.file.write_text(ADMIN_KEY)

    def authenticator(self, *, is_required=False, issuer=False):
        jwks = Jwks(self.issuer.fetch, issuer=self.issuer.url, url=self.issuer.url, clock=lambda: 0.0)
        tokens = TokenVerifier(jwks, issuer=self.issuer.url, audience=AUDIENCE, algorithms=("RS256",), wall=lambda: 1000.0)
        return Authenticator(AdminKey(self.file), self.ring, tokens if issuer else None, is_required=is_required)

    def key(self, *scopes):
        made = self.keys.create("site", scopes or ("predict",))
        self.ring.refresh()
        return made.key.encode()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def bearer(given):
    return {b"host": b"x", b"authorization": b"Bearer " + given}


def api_key(given):
    return {b"x-api-key": given}


def refused(authenticator, headers):
    with pytest.raises(Unauthenticated) as caught:
        asyncio.run(authenticator.identify(headers))
    return str(caught.value)


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, b""),
        ({b"authorization": b"Bearer abc"}, b"abc"),
        ({b"authorization": b"  bEARER   abc  "}, b"abc"),
        ({b"authorization": b"Bearer"}, b""),
        ({b"authorization": b"Bearer "}, b""),
        ({b"authorization": b"Bearerabc"}, b""),
        ({b"authorization": b"Basic abc"}, b""),
        ({b"authorization": b"abc"}, b""),
        ({b"x-api-key": b" abc "}, b"abc"),
        ({b"x-api-key": b""}, b""),
        ({b"x-api-key": b"abc", b"authorization": b"Bearer of-a-proxy"}, b"abc"),
    ],
)
def test_what_a_request_brings(headers, given):
    assert given_of(headers) == given


@pytest.mark.parametrize("is_required", [False, True])
def test_who_brings_nothing_is_anonymous_and_may_what_is_open(world, is_required):
    authenticator = world.authenticator(is_required=is_required)
    for headers in ({}, {b"authorization": b"Basic a2ltOg=="}, bearer(b"")):
        assert authenticator.known(headers) is authenticator.anonymous
    for scope in ("predict", "truth", "read"):
        assert authenticator.anonymous.may(scope, "tiny") is not is_required
    assert not authenticator.anonymous.may("admin")


@pytest.mark.parametrize("headers_of", [bearer, api_key])
def test_a_key_says_who_asks(world, headers_of):
    key = world.key("predict:tiny", "truth")
    found = world.authenticator(is_required=True).known(headers_of(key))
    assert (found.id, found.scopes) == (f"key:{key[3:11].decode()}", {"predict:tiny", "truth"})


@pytest.mark.parametrize("headers_of", [bearer, api_key])
@pytest.mark.parametrize("text", [ADMIN_KEY, "ek_looks_like_one_of_the_others", "e.y.J" * 5])
def test_the_admin_key_may_everything(world, headers_of, text):
    world.file.write_text(text)
    for authenticator in (world.authenticator(), world.authenticator(issuer=True), world.authenticator(is_required=True)):
        found = authenticator.known(headers_of(text.encode()))
        assert found.id == "admin-key"
        assert all(found.may(scope, "tiny") for scope in ("predict", "truth", "read", "admin"))


@pytest.mark.parametrize("is_required", [False, True])
@pytest.mark.parametrize("issuer", [False, True])
def test_what_is_no_good_is_refused_with_one_message_also_where_nothing_is_needed(world, is_required, issuer):
    authenticator = world.authenticator(is_required=is_required, issuer=issuer)
    key = world.key()
    revoked = world.keys.create("other", ["predict"])
    world.keys.revoke(revoked.about.prefix)
    world.ring.refresh()
    bad = [
        key[:-1] + b"?",
        key + b"x",
        b"ek_00000000_" + key[12:],
        revoked.key.encode(),
        b"ek_",
        b"nonsense",
        ADMIN_KEY[:-1].encode(),
        b"a.b.c",
        b"\xff",
    ]
    assert {refused(authenticator, headers_of(given)) for given in bad for headers_of in (bearer, api_key)} == {REFUSED}


def test_where_there_is_nothing_to_check_it_with_what_a_platform_passes_on_is_not_looked_at(world):
    open_server = world.authenticator()
    assert open_server.known(bearer(b"of.the.platform")).is_anonymous
    assert open_server.known(bearer(b"of-the-platform")).is_anonymous
    assert refused(open_server, bearer(b"ek_00000000_" + b"x" * 43)) == REFUSED  # that is meant for us
    assert refused(world.authenticator(is_required=True), bearer(b"of.the.platform")) == REFUSED
    world.keys.revoke(world.key()[3:11].decode())
    world.ring.refresh()
    assert refused(open_server, bearer(b"of-the-platform")) == REFUSED  # there was a key once


def test_a_token_is_checked_once_and_known_from_then_on(world):
    authenticator = world.authenticator(is_required=True, issuer=True)
    headers = bearer(world.issuer.token())
    assert authenticator.known(headers) is None
    found = asyncio.run(authenticator.identify(headers))
    assert found.id.startswith("token:https://issuer.test/realm#")
    assert authenticator.known(headers) is found
    assert asyncio.run(authenticator.identify(headers)) is found
    assert refused(authenticator, bearer(world.issuer.token(aud="other"))) == REFUSED


def test_without_the_issuers_keys_a_token_can_wait_and_a_key_need_not(world):
    world.issuer.away()
    authenticator = world.authenticator(is_required=True, issuer=True)
    with pytest.raises(NotReady):
        asyncio.run(authenticator.identify(bearer(world.issuer.token())))
    assert authenticator.known(bearer(world.key()))


@pytest.mark.parametrize(
    ("scopes", "scope", "model", "said"),
    [
        ({"predict"}, "predict", "tiny", None),
        ({"predict:tiny"}, "predict", "tiny", None),
        ({"admin"}, "truth", "tiny", None),
        ({"predict:tiny"}, "predict", "other", "it lacks the scope predict or predict:other"),
        ({"predict:tiny"}, "predict", None, "it lacks the scope predict"),
        ({"predict"}, "read", "tiny", "it lacks the scope read"),
        ({"predict", "truth", "read"}, "admin", None, "it lacks the scope admin"),
        (set(), "predict", "tiny", "it lacks the scope predict or predict:tiny"),
    ],
)
def test_who_may_do_what(world, scopes, scope, model, said):
    authenticator = world.authenticator()
    principal = Principal("key:ab12cd34", frozenset(scopes))
    if said is None:
        authenticator.authorize(principal, scope, model)
        return
    with pytest.raises(Forbidden) as caught:
        authenticator.authorize(principal, scope, model)
    assert str(caught.value) == f"key:ab12cd34 may not do this: {said}"


def test_the_anonymous_is_told_what_to_send(world):
    for issuer, said in ((False, "an API key: send"), (True, "an API key or a token of its issuer: send")):
        authenticator = world.authenticator(is_required=True, issuer=issuer)
        with pytest.raises(Unauthenticated, match=said):
            authenticator.authorize(authenticator.anonymous, "predict", "tiny")
    with pytest.raises(Unauthenticated):
        world.authenticator().authorize(world.authenticator().anonymous, "admin")


@pytest.mark.parametrize(
    ("environ", "warns"),
    [
        ({}, True),
        ({"EKIBEN_AUTH": "required"}, False),
        ({"EKIBEN_AUTH": "required", "EKIBEN_OIDC_ISSUER": "https://issuer.invalid", "EKIBEN_OIDC_AUDIENCE": AUDIENCE}, False),
    ],
)
def test_the_settings_make_it_and_it_says_once_that_it_is_open(tmp_path, caplog, environ, warns):
    control = memory_control()
    key = ControlKeys(control, who="kim@desk", wall=lambda: 0.0).create("site", ["predict"]).key.encode()
    authenticator = Authenticator.of(load_settings({"EKIBEN_HOME": str(tmp_path), **environ}), control)

    async def run():
        await authenticator.start()
        found = authenticator.known(bearer(key))
        await authenticator.stop()
        return found

    assert asyncio.run(run()).may("predict")
    assert authenticator.anonymous.may("predict") is warns
    assert caplog.text.count("anybody may predict") == int(warns)
    admin = (tmp_path / "admin.key").read_bytes().strip()
    assert authenticator.known(api_key(admin)).id == "admin-key"
