"""An issuer of tokens, in memory: its keys, its documents, and tokens that it would and would not sign."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from ekiben.errors import NotReady

ISSUER = "https://issuer.test/realm"
AUDIENCE = "ekiben"
_RSA = {kid: RSAKey.generate_key(2048, {"kid": kid}) for kid in ("one", "two", "stranger")}


class Issuer:
    """Signs tokens and publishes its keys.

    Attributes:
        url: Its name, and where its documents are.
        keys: What it publishes.
        asked: The URLs that were asked for, in order.
        problem: What is raised instead of an answer.
    """

    def __init__(self, url: str = ISSUER, *, wall: Callable[[], float] = time.time) -> None:
        self.url = url
        self.wall = wall
        self.keys: list[Key] = [_RSA["one"]]
        self.more: list[Any] = []
        self.asked: list[str] = []
        self.problem: Exception | None = None
        self.discovery: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/keys"}

    @staticmethod
    def rsa(kid: str) -> RSAKey:
        """A key; ``stranger`` is the one of somebody else."""
        return _RSA[kid]

    def document(self, url: str) -> bytes:
        """What is at a URL."""
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps(self.discovery).encode()
        return json.dumps({"keys": [*(key.as_dict(private=False) for key in self.keys), *self.more]}).encode()

    async def fetch(self, url: str) -> bytes:
        """As `ekiben.guards.jwks.Fetch`."""
        self.asked.append(url)
        if self.problem is not None:
            raise self.problem
        return self.document(url)

    def away(self) -> None:
        """It cannot be reached any more."""
        self.problem = NotReady("the issuer does not answer")

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token says; what is changed to None is left out."""
        now = int(self.wall())
        made = {"iss": self.url, "aud": AUDIENCE, "sub": "kim", "iat": now, "nbf": now, "exp": now + 300, "scope": "openid predict read"}
        return {name: value for name, value in (made | changed).items() if value is not None}

    def token(self, *, key: Key | None = None, header: dict[str, Any] | None = None, alg: str = "RS256", **changed: Any) -> bytes:
        """A token; a good one unless something is changed."""
        key = key if key is not None else self.keys[0]
        head = {"alg": alg, "kid": key.kid, **(header or {})}
        return jwt.encode({k: v for k, v in head.items() if v is not None}, self.claims(**changed), key, algorithms=[alg]).encode()


def part(value: Any) -> bytes:
    """A part of a token that was not made by a library."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def forged(issuer: Issuer) -> dict[str, bytes]:
    """Tokens that nobody may take, by what is wrong with them."""
    now = int(issuer.wall())
    good = issuer.token()
    head, payload, signature = good.split(b".")
    kid, stranger, public = issuer.keys[0].kid, issuer.rsa("stranger"), issuer.keys[0]
    pem = public.as_pem(private=False)
    jwk = stranger.as_dict(private=False)
    confused = part({"alg": "HS256", "kid": kid}) + b"." + part(issuer.claims(scope="admin"))
    admin = part(issuer.claims(scope="admin"))
    with_jku = {"jku": "https://stranger.test/keys", "x5u": "https://stranger.test/certificate", "kid": kid}
    return {
        "alg none": part({"alg": "none", "kid": kid}) + b"." + admin + b".",
        "alg None": part({"alg": "None", "kid": kid}) + b"." + admin + b"." + signature,
        "no alg": part({"kid": kid}) + b"." + payload + b"." + signature,
        "alg a list": part({"alg": ["RS256"], "kid": kid}) + b"." + payload + b"." + signature,
        "HS256 with the public key": confused + b"." + part(hmac.digest(pem, confused, "sha256")),
        "another algorithm of the family": issuer.token(alg="RS512"),
        "a stranger's key under the kid": issuer.token(key=stranger, header={"kid": kid}),
        "an unknown kid": issuer.token(key=stranger),
        "a kid that is a path": issuer.token(header={"kid": "../../dev/null"}),
        "a kid that is a number": part({"alg": "RS256", "kid": 1}) + b"." + payload + b"." + signature,
        "its own jwk": issuer.token(key=stranger, header={"jwk": jwk, "kid": kid}),
        "its own jwk and kid": issuer.token(key=stranger, header={"jwk": jwk}),
        "its own jku": issuer.token(key=stranger, header=with_jku),
        "crit": part({"alg": "RS256", "kid": kid, "crit": ["exp"], "exp": now}) + b"." + payload + b"." + signature,
        "another issuer": issuer.token(iss="https://other.test"),
        "an issuer with a slash more": issuer.token(iss=issuer.url + "/"),
        "no issuer": issuer.token(iss=None),
        "another audience": issuer.token(aud="other"),
        "other audiences": issuer.token(aud=["other", "ekiben2"]),
        "no audience": issuer.token(aud=None),
        "no expiry": issuer.token(exp=None),
        "an expiry that is text": issuer.token(exp="9999999999"),
        "an expiry that is true": issuer.token(exp=True),
        "expiry infinite": issuer.token(exp=float("inf")),
        "nbf in the future": issuer.token(nbf=now + 60),
        "iat in the future": issuer.token(iat=now + 60),
        "no subject": issuer.token(sub=None),
        "an empty subject": issuer.token(sub=""),
        "a subject that is a number": issuer.token(sub=7),
        "a subject of control characters": issuer.token(sub="kim\nadmin"),
        "a subject without end": issuer.token(sub="k" * 300),
        "tampered payload": head + b"." + admin + b"." + signature,
        "tampered signature": head + b"." + payload + b"." + part(b"\0" * 256),
        "no signature": head + b"." + payload + b".",
        "two parts": head + b"." + payload,
        "five parts": good + b"." + payload + b"." + signature,
        "no JSON": part(b"{") + b"." + payload + b"." + signature,
        "a list as header": part([]) + b"." + payload + b"." + signature,
        "a deep header": part(b"[" * 3000) + b"." + payload + b"." + signature,
        "no base64": b"!!!.???.***",
        "not ASCII": "é.é.é".encode(),
        "no end": good + b"A" * 20_000,
        "nothing at all": b"..",
    }


def odd_keys() -> dict[str, Key]:
    """A key of each other kind that may sign."""
    return {
        "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
        "ES384": ECKey.generate_key("P-384", {"kid": "ec3"}),
        "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
        "PS256": RSAKey.generate_key(2048, {"kid": "ps"}),
    }
