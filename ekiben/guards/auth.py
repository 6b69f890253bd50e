"""Who asks: the key or token that a request brings → a `Principal`, and whether that one may do what is asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from ekiben.errors import Forbidden, Unauthenticated
from ekiben.guards.admin_key import AdminKey
from ekiben.guards.api_keys import MARK, KeyRing
from ekiben.guards.principal import ANONYMOUS_ID, PREDICT, READ, SCOPES, TRUTH, Principal
from ekiben.guards.tokens import REFUSED, TokenVerifier
from ekiben.settings import Settings
from ekiben.state.control import Control

logger = logging.getLogger("ekiben.auth")

ADMIN_KEY_ID: Final = "admin-key"
_MARK: Final = MARK.encode()
_BEARER: Final = b"bearer"
_SCHEME_CHARS: Final = len(_BEARER) + 1


class Authenticator:
    """Says who asks.

    Args:
        admin_key: The key of the admin API; who has it may do everything.
        keys: The API keys.
        tokens: Checks tokens; None where no issuer is configured.
        is_required: Whether a request without a key or token may do nothing.

    Attributes:
        admin_key: As given.
        anonymous: Who asks without saying who.
    """

    def __init__(self, admin_key: AdminKey, keys: KeyRing, tokens: TokenVerifier | None = None, *, is_required: bool = False) -> None:
        self.admin_key = admin_key
        self.anonymous = Principal(ANONYMOUS_ID, frozenset() if is_required else frozenset((PREDICT, TRUTH, READ)))
        self._keys = keys
        self._tokens = tokens
        self._is_required = is_required
        self._admin = Principal(ADMIN_KEY_ID, frozenset(SCOPES))

    @classmethod
    def of(
        cls,
        settings: Settings,
        control: Control,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> Authenticator:
        """The one of the settings, with the keys of a control database."""
        tokens = TokenVerifier.of(settings, wall=wall, clock=clock)
        return cls(AdminKey.of(settings), KeyRing(control.keys, wall=wall), tokens, is_required=settings.auth == "required")

    async def start(self) -> None:
        """Reads the keys and follows their changes until `stop`."""
        if not self._is_required:
            logger.warning("anybody may predict, report truth and read: EKIBEN_AUTH=required asks for an API key or a token")
        await self._keys.start()
        if self._tokens is not None:
            self._tokens.start()

    async def stop(self) -> None:
        """Follows nothing any more."""
        await self._keys.stop()
        if self._tokens is not None:
            await self._tokens.stop()

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Who asks, where that can be said at once: for keys, for tokens that are remembered, and where there is neither.

        Args:
            headers: Names in lower case. ``X-API-Key`` counts before ``Authorization``, which may be for a proxy in front.

        Returns:
            None for a token that `identify` must check.

        Raises:
            Unauthenticated: What it brings is not good, also where it needs nothing.
        """
        given = given_of(headers)
        if not given:
            return self.anonymous
        if given.startswith(_MARK):
            found = self._keys.find(given)
        elif self._tokens is not None:
            found = self._tokens.remembered(given)
        else:
            found = None
        if found is not None:
            return found
        if self.admin_key.matches(given):
            return self._admin
        return self._unknown(given)

    async def identify(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Who asks.

        Args:
            headers: As in `known`.

        Raises:
            Unauthenticated: What it brings is not good, also where it needs nothing.
            NotReady: It brings a token, and the issuer's keys are not known.
        """
        found = self.known(headers)
        if found is None:
            assert self._tokens is not None  # without it, everything is known
            found = await self._tokens.verify(given_of(headers))
        return found

    def authorize(self, principal: Principal, scope: str, model: str | None = None) -> None:
        """Lets a principal do something, or says why not.

        Args:
            principal: Who asks.
            scope: What is asked for.
            model: The model that it is about, where it is about one.

        Raises:
            Unauthenticated: Nothing said who asks.
            Forbidden: They lack the scope.
        """
        if principal.may(scope, model):
            return
        if principal.is_anonymous:
            token = " or a token of its issuer" if self._tokens is not None else ""
            raise Unauthenticated(f"this needs an API key{token}: send X-API-Key: KEY or Authorization: Bearer KEY")
        or_of_model = f" or {scope}:{model}" if model is not None and scope in (PREDICT, TRUTH) else ""
        raise Forbidden(f"{principal.id} may not do this: it lacks the scope {scope}{or_of_model}")

    def _unknown(self, given: bytes) -> Principal | None:
        """What is said of what is no key of ours."""
        if not given.startswith(_MARK):
            if self._tokens is not None:
                return None
            if not self._is_required and not self._keys.is_used:
                # There is nothing it could be checked with, so it is not for us: hosting platforms pass on what they checked
                # themselves. It gives nobody more than nothing does.
                return self.anonymous
        raise Unauthenticated(REFUSED)


def given_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The key or token that a request brings; empty where it brings none, or something else than one."""
    given = headers.get(b"x-api-key")
    if given is None:
        authorization = headers.get(b"authorization")
        if authorization is None:
            return b""
        authorization = authorization.lstrip()
        if authorization[:_SCHEME_CHARS].lower() != b"bearer ":
            return b""
        given = authorization[_SCHEME_CHARS:]
    return given.strip()
