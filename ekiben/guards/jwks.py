"""The keys that an issuer signs its tokens with: fetched, kept, and fetched again when they rotate (RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ekiben.errors import NotReady

if TYPE_CHECKING:
    from joserfc.jwk import Key

logger = logging.getLogger("ekiben.auth")

Fetch = Callable[[str], Awaitable[bytes]]
"""A URL → what is there; raises `NotReady`."""

FRESH_S: Final = 600.0
"""Keys older than this are fetched again in the background when they are used."""

GOOD_S: Final = 24 * 3600.0
"""So long the last known keys count while the issuer cannot be reached."""

RETRY_S: Final = 10.0
"""Between two fetches at least, whatever tokens ask for."""

TIMEOUT_S: Final = 5.0
LARGEST_BYTES: Final = 512 * 1024
_MOST_KEYS: Final = 100
_SMALLEST_RSA_BITS: Final = 2048
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class Jwks:
    """An issuer's keys.

    Args:
        fetch: Gets what is at a URL.
        issuer: The issuer; where no `url` is given, its discovery document says where its keys are.
        url: Where the keys are; empty asks the issuer.
        clock: Monotonic seconds.
        on_change: Called when the keys are not those they were.
    """

    def __init__(
        self, fetch: Fetch, *, issuer: str, url: str, clock: Callable[[], float], on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._fetch = fetch
        self._issuer = issuer
        self._url = url
        self._clock = clock
        self.on_change = on_change
        self._keys: list[Key] = []
        self._content: list[dict[str, Any]] | None = None
        self._fetched_at = 0.0
        self._tried_at: float | None = None
        self._is_away = False
        self._task: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        """The key that a token says it was signed with.

        Args:
            kid: The key's id; None where the token names none, which is enough where one key only can be meant.
            algorithm: The signature's; a key that is not of its kind is not found.

        Raises:
            NotReady: No keys are known, or those that are have not been confirmed for too long.
        """
        age_s = self._clock() - self._fetched_at
        is_known = self._content is not None and age_s < GOOD_S
        found = self._find(kid, algorithm) if is_known else None
        if found is None:
            await self._refreshed()
            if self._content is None or self._clock() - self._fetched_at >= GOOD_S:
                raise NotReady(f"tokens cannot be checked: the keys of {self._issuer} cannot be fetched", retry_after_s=RETRY_S)
            return self._find(kid, algorithm)
        if age_s > FRESH_S:
            self.begin()
        return found

    async def stop(self) -> None:
        """Fetches nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _find(self, kid: str | None, algorithm: str) -> Key | None:
        fitting = [key for key in self._keys if (kid is None or key.kid == kid) and _fits(key, algorithm)]
        return fitting[0] if fitting and (kid is not None or len(fitting) == 1) else None

    async def _refreshed(self) -> None:
        """Waits for a fetch, if one may be made now; all that wait, wait for the same."""
        task = self.begin()
        if task is not None:
            await asyncio.shield(task)

    def begin(self) -> asyncio.Task[None] | None:
        """The fetch that runs, a new one where none was made just now; None where one was."""
        if self._task is not None and not self._task.done():
            return self._task
        if self._tried_at is not None and self._clock() - self._tried_at < RETRY_S:
            return None
        self._tried_at = self._clock()
        self._task = asyncio.create_task(self._refresh())
        return self._task

    async def _refresh(self) -> None:
        try:
            content = _content_of(await self._fetch(self._url or await self._discovered()))
        except Exception as e:
            if not self._is_away:
                logger.warning("the keys of %s cannot be fetched: %s", self._issuer, e, exc_info=not isinstance(e, NotReady))
            self._is_away = True
            return
        if self._is_away:
            logger.warning("the keys of %s are there again", self._issuer)
        self._is_away = False
        self._fetched_at = self._clock()
        if content != self._content:
            self._keys = [key for raw in content[:_MOST_KEYS] if (key := _imported(raw)) is not None]
            self._content = content
            logger.info("%s has %d keys", self._issuer, len(self._keys))
            self.on_change()

    async def _discovered(self) -> str:
        """Where the issuer says that its keys are (OpenID Connect Discovery 1.0, section 4).

        Raises:
            NotReady: It says so nowhere, or the document is another issuer's.
        """
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _object_of(await self._fetch(url), url)
        if document.get("issuer") != self._issuer:
            raise NotReady(f"{url} is of the issuer {str(document.get('issuer'))[:200]!r}, and EKIBEN_OIDC_ISSUER is {self._issuer!r}")
        found = document.get("jwks_uri")
        if not isinstance(found, str) or not is_safe(found):
            raise NotReady(f"{url} names no jwks_uri that begins with https://")
        return found


def is_safe(url: str) -> bool:
    """Whether what is fetched there cannot be forged on its way: over TLS, or from this machine itself."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")))


async def fetch_over_http(url: str) -> bytes:
    """Gets a small document.

    Raises:
        NotReady: It does not come within `TIMEOUT_S`, is larger than `LARGEST_BYTES`, or is not there.
    """
    import httpx  # noqa: PLC0415  a tenth of a second that a server without an issuer need not spend

    content = b""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise NotReady(f"{url} answered {answer.status_code}")
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > LARGEST_BYTES:
                    raise NotReady(f"{url} answered more than {LARGEST_BYTES} bytes")
    except TimeoutError:
        raise NotReady(f"{url} did not answer within {TIMEOUT_S:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise NotReady(f"{url} does not answer: {e or type(e).__name__}") from None
    return content


def _object_of(content: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise NotReady(f"{what} is no JSON object: {e}") from None


def _content_of(content: bytes) -> list[dict[str, Any]]:
    """The keys of a set, as they stand there."""
    keys = _object_of(content, "the set of keys").get("keys")
    if not isinstance(keys, list):
        raise NotReady("the set of keys has no list of keys")
    return [key for key in keys if isinstance(key, dict)]


def _imported(raw: dict[str, Any]) -> Key | None:
    """A public key that can verify signatures; None for any other. A shared secret is none, wherever it stands."""
    from joserfc.jwk import RSAKey, import_key  # noqa: PLC0415  a server without an issuer need not load it

    if raw.get("kty") not in ("RSA", "EC", "OKP") or raw.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(raw)
        if isinstance(key, RSAKey) and key.public_key.key_size < _SMALLEST_RSA_BITS:
            raise ValueError("an RSA key must have 2048 bits")  # noqa: TRY301  told like whatever else is wrong with it
    except Exception as e:  # noqa: BLE001  the library says what is wrong with a key in many ways
        logger.warning("a key of the issuer cannot be used: %s: %s", type(e).__name__, e)
        return None
    return key


def _fits(key: Key, algorithm: str) -> bool:
    """Whether a key is of the algorithm's kind: with another's, what is public could be taken for a secret."""
    if key.alg not in (None, algorithm):
        return False
    family = algorithm[:2]
    if family in ("RS", "PS"):
        return key.key_type == "RSA"
    if family == "ES":
        return key.key_type == "EC" and key.get("crv") == _CURVES[algorithm]
    return algorithm == "Ed25519" and key.key_type == "OKP" and key.get("crv") == "Ed25519"
