import asyncio
import time

import msgspec
import pytest
from unit.guards.issuer import AUDIENCE, ISSUER, Issuer, forged, odd_keys

from ekiben.errors import NotReady, Unauthenticated
from ekiben.guards.jwks import Jwks
from ekiben.guards.tokens import EXPIRED, LEEWAY_S, REFUSED, TokenVerifier
from ekiben.settings import load_settings


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuer(clock):
    return Issuer(wall=clock)


def verifier_of(issuer, clock, **options):
    given = {"issuer": issuer.url, "audience": AUDIENCE, "algorithms": ("RS256", "ES256"), "wall": clock, **options}
    return TokenVerifier(Jwks(issuer.fetch, issuer=issuer.url, url=f"{issuer.url}/keys", clock=clock), **given)


@pytest.fixture
def verifier(issuer, clock):
    return verifier_of(issuer, clock)


def verified(verifier, token):
    return asyncio.run(verifier.verify(token))


def refused(verifier, token):
    with pytest.raises(Unauthenticated) as caught:
        verified(verifier, token)
    return str(caught.value)


def test_a_good_token_says_who_it_is_and_what_they_may(verifier, issuer):
    found = verified(verifier, issuer.token())
    assert (found.id, found.scopes) == (f"token:{ISSUER}#kim", {"predict", "read"})
    assert found.may("predict", "tiny")
    assert not found.may("truth", "tiny")


@pytest.mark.parametrize(
    ("claim", "said", "scopes"),
    [
        ("scope", "predict:tiny  truth", {"predict:tiny", "truth"}),
        ("scope", ["predict", 7, None, "admin", "other:tiny"], {"predict", "admin"}),
        ("scope", {"predict": True}, set()),
        ("scope", None, set()),
        ("https://site.test/roles", ["admin"], {"admin"}),
    ],
)
def test_scopes_are_words_or_a_list_in_the_claim_that_the_settings_name(issuer, clock, claim, said, scopes):
    verifier = verifier_of(issuer, clock, scope_claim=claim)
    assert verified(verifier, issuer.token(**{claim: said})).scopes == scopes


def test_every_algorithm_has_keys_of_its_kind(issuer, clock):
    keys = odd_keys()
    issuer.keys = list(keys.values())
    verifier = verifier_of(issuer, clock, algorithms=tuple(keys))
    for alg, key in keys.items():
        assert verified(verifier, issuer.token(key=key, alg=alg)).id.endswith("#kim")
    for alg, kid in (("ES256", "ec3"), ("PS256", "ec"), ("Ed25519", "ps"), ("ES384", "okp")):
        assert refused(verifier, issuer.token(key=keys[alg], alg=alg, header={"kid": kid})) == REFUSED


FORGED = sorted(forged(Issuer(wall=lambda: 1_000_000.0)))


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_token_is_refused_with_one_and_the_same_message(verifier, issuer, what):
    token = forged(issuer)[what]
    assert refused(verifier, token) == REFUSED
    assert verifier.remembered(token) is None
    assert not any("stranger" in url for url in issuer.asked)


def test_a_leeway_of_half_a_minute_at_both_ends(verifier, issuer, clock):
    now = int(clock.now)
    assert verified(verifier, issuer.token(exp=now - LEEWAY_S + 1))
    assert refused(verifier, issuer.token(exp=now - LEEWAY_S)) == EXPIRED
    assert verified(verifier, issuer.token(nbf=now + LEEWAY_S, iat=now + LEEWAY_S))
    assert refused(verifier, issuer.token(nbf=now + LEEWAY_S + 1)) == REFUSED


def test_a_token_that_names_no_key_is_good_where_one_key_only_can_be_meant(verifier, issuer):
    nameless = issuer.token(header={"kid": None})
    assert verified(verifier, nameless)
    issuer.keys.append(issuer.rsa("two"))


def test_a_token_that_names_no_key_is_refused_where_several_can_be_meant(verifier, issuer):
    issuer.keys.append(issuer.rsa("two"))
    assert refused(verifier, issuer.token(header={"kid": None})) == REFUSED


def test_a_verified_token_is_remembered_until_it_expires(verifier, issuer, clock):
    token = issuer.token(exp=int(clock.now) + 60)
    assert verifier.remembered(token) is None
    found = verified(verifier, token)
    assert verifier.remembered(token) is found
    assert verifier.remembered(token[:-1]) is None
    clock.now += 60 + LEEWAY_S - 1
    assert verifier.remembered(token) is found
    clock.now += 1
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.remembered(token)
    assert verifier.remembered(token) is None
    assert refused(verifier, token) == EXPIRED


def test_it_is_verified_again_after_a_while_and_when_the_keys_change(verifier, issuer, clock):
    async def run():
        token = issuer.token(exp=int(clock.now) + 3600)
        await verifier.verify(token)
        clock.now += 601
        assert verifier.remembered(token) is None
        issuer.keys = [issuer.rsa("two")]  # the other one was withdrawn
        await verifier.verify(token)  # still with the key that is known; the set is fetched beside it
        async with asyncio.timeout(5):
            while verifier.remembered(token) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
        await verifier.stop()

    asyncio.run(run())


def test_what_is_remembered_is_bounded_and_the_longest_unused_goes_first(issuer, clock):
    verifier = verifier_of(issuer, clock, most=2)
    one, two, three = (issuer.token(sub=name) for name in "abc")
    verified(verifier, one)
    verified(verifier, two)
    assert verifier.remembered(one)
    verified(verifier, three)
    assert [verifier.remembered(token) is not None for token in (one, two, three)] == [True, False, True]


def test_while_no_keys_are_known_nobody_is_refused_for_good(verifier, issuer, clock):
    issuer.away()
    with pytest.raises(NotReady, match=r"the keys of https://issuer\.test/realm cannot be fetched"):
        verified(verifier, issuer.token())


def test_the_settings_make_it(monkeypatch):
    assert TokenVerifier.of(load_settings({})) is None
    issuer = Issuer()
    settings = load_settings({"EKIBEN_OIDC_ISSUER": issuer.url, "EKIBEN_OIDC_AUDIENCE": AUDIENCE, "EKIBEN_OIDC_SCOPE_CLAIM": "roles"})

    async def run():
        verifier = TokenVerifier.of(settings, fetch=issuer.fetch)
        verifier.start()
        await asyncio.sleep(0.01)
        assert issuer.asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]
        found = await verifier.verify(issuer.token(roles=["admin"], exp=int(time.time()) + 5))
        assert found.scopes == {"admin"}
        await verifier.stop()

    asyncio.run(run())


def test_nothing_of_a_token_stands_in_what_is_said(verifier, issuer, caplog):
    tokens = forged(issuer)
    with caplog.at_level("DEBUG"):
        said = {refused(verifier, token) for token in tokens.values()}
    assert said == {REFUSED}
    for token in tokens.values():
        for piece in token.split(b"."):
            assert len(piece) < 12 or piece.decode("utf-8", "replace") not in caplog.text
    assert msgspec.json.encode(sorted(said))
