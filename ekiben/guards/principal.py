"""Who asks, and what they may do."""

from __future__ import annotations

from typing import Final

import msgspec

PREDICT: Final = "predict"
TRUTH: Final = "truth"
READ: Final = "read"
ADMIN: Final = "admin"
SCOPES: Final = (PREDICT, TRUTH, READ, ADMIN)
"""What can be allowed: predicting, of all models or of one (``predict:flight_delay``); reporting ground truth, likewise; reading
metadata and metrics; everything, with the admin API."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        id: As events, limits and caches name them: ``key:PREFIX``, ``token:ISSUER#SUBJECT``, ``admin-key``, or ``anonymous``.
        scopes: What they may do.
    """

    id: str
    scopes: frozenset[str]

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing said who it is."""
        return self.id == ANONYMOUS_ID

    def may(self, scope: str, model: str | None = None) -> bool:
        """Whether they may do something, to a model where it is about one."""
        scopes = self.scopes
        return scope in scopes or ADMIN in scopes or (model is not None and f"{scope}:{model}" in scopes)


ANONYMOUS_ID: Final = "anonymous"
