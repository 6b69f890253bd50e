"""What whoever asks for a path must be allowed to do; health is for everybody, inference is let in where it is answered."""

from __future__ import annotations

import re
from typing import Final

from ekiben.guards.principal import ADMIN, PREDICT, READ

_HEALTH: Final = re.compile(r"^(/v2/health/(live|ready)|/readyz|/livez|/healthz|/v[12]/models/[^/]+(/versions/[^/]+)?/ready)/?\Z")
_CHANGES: Final = re.compile(r"^/v2/repository/models/[^/]+/(load|unload)/?\Z")
_READING: Final = ("GET", "HEAD", "OPTIONS")


def scope_of_path(path: str, *, is_open: bool) -> tuple[str, str | None] | None:
    """The scope for a path of metadata, health or the model repository, and the model where it is about one.

    Args:
        path: The path.
        is_open: Whether those who say nothing of themselves may predict. Then loading is allowed by its own setting alone.

    Returns:
        None where everybody may ask.
    """
    if _HEALTH.match(path):
        return None
    if _CHANGES.match(path):
        return None if is_open else (ADMIN, None)
    return READ, None


def scope_of_page(path: str, method: str) -> str | None:
    """The scope for a path that BentoML's app answers: pages, documents and metrics. None where everybody may ask.

    What is sent there may come to be predicted, of a path that is a typed endpoint's but for a slash, say.
    """
    if method not in _READING:
        return PREDICT
    return None if _HEALTH.match(path) else READ
