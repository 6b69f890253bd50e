"""API keys and the audit trail, asked of a server's admin API."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ekiben.cli.remote import AdminClient
from ekiben.guards.api_keys import prefix_of
from ekiben.guards.key_operations import DEFAULT_GRACE, KeyView, MadeKey
from ekiben.state.events import Event


class RemoteKeys:
    """`ekiben.guards.key_operations.KeyOperations`, answered by a server.

    Args:
        client: Asks it.
    """

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def create(self, name: str, scopes: Sequence[str], *, expires: str | None = None) -> MadeKey:
        """See `KeyOperations`."""
        return self._client.ask("POST", "/keys", MadeKey, body={"name": name, "scopes": list(scopes), "expires": expires})

    def list(self) -> list[KeyView]:
        """See `KeyOperations`."""
        return self._client.ask("GET", "/keys", list[KeyView])

    def rotate(self, prefix: str, *, grace: str = DEFAULT_GRACE) -> MadeKey:
        """See `KeyOperations`."""
        return self._client.ask("POST", f"/keys/{_part(prefix)}/rotate", MadeKey, body={"grace": grace})

    def revoke(self, prefix: str) -> KeyView:
        """See `KeyOperations`."""
        return self._client.ask("POST", f"/keys/{_part(prefix)}/revoke", KeyView)


def remote_trail(client: AdminClient, *, after: int, limit: int) -> list[Event]:
    """What was done over the admin API and with keys, see `ekiben.guards.audit.trail`.

    Raises:
        EkibenError: The server does not answer, or not so.
    """
    return client.ask("GET", "/audit", list[Event], query={"after": after, "limit": limit})


def _part(prefix: str) -> str:
    """What stands in the path; of a whole key its prefix alone, for paths are logged along the way."""
    return quote(prefix_of(prefix), safe="")
