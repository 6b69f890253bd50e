"""Tokens that an OpenID Connect issuer signed (JWT, RFC 7519), checked as RFC 8725 asks and remembered until they end."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ekiben.errors import Unauthenticated
from ekiben.guards.jwks import FRESH_S, Fetch, Jwks, fetch_over_http
from ekiben.guards.principal import SCOPES, Principal
from ekiben.settings import Settings

if TYPE_CHECKING:
    from joserfc.jws import JWSRegistry

logger = logging.getLogger("ekiben.auth")

LEEWAY_S: Final = 30
"""By so much clocks may differ."""

REFUSED: Final = "the API key or token is none that this server takes, or takes any more"
"""What is said of every key and token that is not good: whoever tries some learns nothing of those that are."""

EXPIRED: Final = "the token has expired; get another from the issuer"
_MOST_REMEMBERED: Final = 10_000
_LARGEST_BYTES: Final = 16 * 1024
_LARGEST_HEADER_BYTES: Final = 4096
_MOST_SUBJECT_CHARS: Final = 255
_PARTS: Final = 3


class _Remembered(msgspec.Struct, frozen=True):
    principal: Principal
    expires: float
    good_until: float


class TokenVerifier:
    """Says whose a token is.

    A token that was verified is remembered by its SHA-256, so that the next request with it costs a look-up. It is verified
    again every ten minutes, and when the issuer's keys change: what a withdrawn key signed ends with it.

    Args:
        keys: The issuer's keys.
        issuer: Who must have issued a token.
        audience: For whom it must be.
        algorithms: What it may be signed with.
        scope_claim: Where it says what it allows: words with spaces between them, or a list of them.
        wall: Seconds since the epoch.
        most: Tokens that are remembered at most.
    """

    def __init__(
        self,
        keys: Jwks,
        *,
        issuer: str,
        audience: str,
        algorithms: tuple[str, ...],
        scope_claim: str = "scope",
        wall: Callable[[], float] = time.time,
        most: int = _MOST_REMEMBERED,
    ) -> None:
        from joserfc.jws import JWSRegistry  # noqa: PLC0415  a server without an issuer need not load it
        from joserfc.jwt import JWTClaimsRegistry  # noqa: PLC0415

        self._keys = keys
        self._issuer = issuer
        self._algorithms = algorithms
        self._scope_claim = scope_claim
        self._wall = wall
        self._most = most
        self._known: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._registry = _sized(JWSRegistry(algorithms=algorithms, strict_check_header=False))
        self._claims = JWTClaimsRegistry(
            now=lambda: int(wall()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        keys.on_change = self._known.clear

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        fetch: Fetch = fetch_over_http,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> TokenVerifier | None:
        """What checks the tokens of the issuer that the settings name; None where they name none."""
        if not settings.oidc_issuer:
            return None
        return cls(
            Jwks(fetch, issuer=settings.oidc_issuer, url=settings.oidc_jwks_url, clock=clock),
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            algorithms=settings.oidc_algorithms,
            scope_claim=settings.oidc_scope_claim,
            wall=wall,
        )

    def remembered(self, token: bytes) -> Principal | None:
        """Whose a token is that was verified; None for one that has to be.

        Raises:
            Unauthenticated: It was, and has expired.
        """
        digest = sha256(token).digest()
        found = self._known.get(digest)
        if found is None:
            return None
        now = self._wall()
        if now < found.good_until:
            self._known.move_to_end(digest)
            return found.principal
        del self._known[digest]
        if now >= found.expires:
            raise Unauthenticated(EXPIRED)
        return None

    async def verify(self, token: bytes) -> Principal:
        """Whose a token is.

        Raises:
            Unauthenticated: It is not good.
            NotReady: The issuer's keys are not known.
        """
        from joserfc.errors import ExpiredTokenError  # noqa: PLC0415  loaded long since, by the constructor

        algorithm, kid = self._header_of(token)
        key = await self._keys.key(kid, algorithm)
        if key is None:
            raise Unauthenticated(REFUSED)
        try:
            claims = self._claims_of(token, algorithm, key)
        except ExpiredTokenError:
            raise Unauthenticated(EXPIRED) from None
        except Exception as e:  # noqa: BLE001
            # NOTE: not only the library's errors: of what strangers send, cryptography and json refuse some on their own.
            logger.debug("a token was refused: %s", type(e).__name__)
            raise Unauthenticated(REFUSED) from None
        principal = self._principal_of(claims)
        self._remember(token, principal, float(claims["exp"]) + LEEWAY_S)
        return principal

    def start(self) -> None:
        """Begins to fetch the issuer's keys, so that the first request need not wait for them."""
        self._keys.begin()

    async def stop(self) -> None:
        """Fetches nothing any more."""
        await self._keys.stop()

    def _header_of(self, token: bytes) -> tuple[str, str | None]:
        """The algorithm and the key's id. Nothing else of a header is believed: no key and no address of keys that it brings.

        Raises:
            Unauthenticated: It is no token, or of an algorithm that is not allowed.
        """
        from joserfc.util import json_b64decode  # noqa: PLC0415  as above

        parts = token.split(b".")
        if len(parts) != _PARTS or len(token) > _LARGEST_BYTES or not token.isascii() or len(parts[0]) > _LARGEST_HEADER_BYTES:
            raise Unauthenticated(REFUSED)
        try:
            header = json_b64decode(parts[0])
        except (ValueError, TypeError, RecursionError):
            header = None
        algorithm = header.get("alg") if isinstance(header, dict) else None
        kid = header.get("kid") if isinstance(header, dict) else None
        if algorithm not in self._algorithms or not isinstance(kid, str | None):
            raise Unauthenticated(REFUSED)
        return algorithm, kid

    def _claims_of(self, token: bytes, algorithm: str, key: Any) -> dict[str, Any]:
        from joserfc import jwt  # noqa: PLC0415  as above

        decoded = jwt.decode(token, key, algorithms=[algorithm], registry=self._registry)
        self._claims.validate(decoded.claims)
        return decoded.claims

    def _principal_of(self, claims: dict[str, Any]) -> Principal:
        subject = claims["sub"]
        if not subject or len(subject) > _MOST_SUBJECT_CHARS or not subject.isprintable():
            raise Unauthenticated(REFUSED)
        said = claims.get(self._scope_claim, "")
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        # An issuer's tokens carry scopes for others too.
        scopes = frozenset(word for word in words if isinstance(word, str) and word.partition(":")[0] in SCOPES)
        return Principal(f"token:{self._issuer}#{subject}", scopes)

    def _remember(self, token: bytes, principal: Principal, expires: float) -> None:
        self._known[sha256(token).digest()] = _Remembered(principal, expires, min(expires, self._wall() + FRESH_S))
        if len(self._known) > self._most:
            self._known.popitem(last=False)


def _sized(registry: JWSRegistry) -> JWSRegistry:
    """With room for headers that name certificates, which some issuers' do."""
    registry.max_header_length = _LARGEST_HEADER_BYTES
    return registry
