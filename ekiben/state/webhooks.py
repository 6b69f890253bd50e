"""Webhooks: messages about events, signed as the Standard Webhooks specification has it (https://www.standardwebhooks.com, version 1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ekiben.state.delivering import Tried
from ekiben.state.events import Event

_BASE64_PREFIX: Final = b"whsec_"
_TIMEOUT_S: Final = 10.0
_GONE: Final = 410

Send = Callable[[str, bytes, dict[str, str]], int]
"""Posts a body with headers to a URL and returns the status code; raises `OSError` where nothing answers."""


def secret_of(content: bytes) -> bytes:
    """The secret in a file: what follows ``whsec_`` in base64, or else the content itself without white space around it.

    Raises:
        ValueError: There is none, or it is no base64; the message does not show it.
    """
    content = content.strip()
    if not content:
        raise ValueError("its file is empty; it must hold whsec_ and base64, or any text")
    if not content.startswith(_BASE64_PREFIX):
        return content
    try:
        secret = base64.b64decode(content.removeprefix(_BASE64_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        raise ValueError("it begins with whsec_ and has no base64 behind it; write it anew")
    return secret


def message_id(event: Event, url: str) -> str:
    """The id of the message about an event to a webhook: the same for every try, another for every other message."""
    text = f"{event.id}|{event.time}|{event.model}|{event.rollout}|{event.kind}|{url}"
    return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def body_of(event: Event, what: str = "") -> bytes:
    """The message about an event: ``type``, ``timestamp`` (ISO 8601) and ``data``, the event itself.

    Args:
        event: The event.
        what: The message's type; left out, ``rollout.`` and the event's kind.
    """
    from datetime import UTC, datetime  # noqa: PLC0415  only where a webhook is called

    data: dict[str, Any] = msgspec.to_builtins(event)
    timestamp = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"type": what or f"rollout.{event.kind}", "timestamp": timestamp, "data": data})


def headers_of(identifier: str, timestamp: int, body: bytes, secret: bytes | None) -> dict[str, str]:
    """The headers of one try.

    Args:
        identifier: The message's id.
        timestamp: When it is tried, whole seconds since the epoch.
        body: What is sent.
        secret: What signs it; None signs nothing.

    Returns:
        ``webhook-id``, ``webhook-timestamp`` and, signed, ``webhook-signature``: ``v1,`` and the base64 of the HMAC-SHA256 of
        id, timestamp and body, joined by dots.
    """
    headers = {"content-type": "application/json", "webhook-id": identifier, "webhook-timestamp": str(timestamp)}
    if secret is not None:
        signed = f"{identifier}.{timestamp}.".encode() + body
        headers["webhook-signature"] = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return headers


def shown(url: str) -> str:
    """A webhook's URL as people may see it: many hold a secret in path, query or user."""
    from urllib.parse import urlsplit  # noqa: PLC0415  only where one failed

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}/…"


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Posts over HTTP; redirects are not followed, as they would take the signed message elsewhere.

    Raises:
        OSError: Nothing answers, or not in time.
    """
    import httpx  # noqa: PLC0415  a server without webhooks needs none

    try:
        return httpx.post(url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False).status_code
    except httpx.InvalidURL:
        # NOTE: the message may quote the part of the URL that is wrong, and many a webhook's URL is a secret.
        raise OSError("its address is no URL") from None
    except httpx.HTTPError as e:
        raise OSError(f"{type(e).__name__}: {e}") from None


def try_post(send: Send, url: str, body: bytes, *, identifier: str, secret_file: str, now: float) -> Tried:
    """Posts a message once, signed where there is a secret.

    Args:
        send: What posts.
        url: Where to.
        body: The message.
        identifier: The message's id, the same in every try.
        secret_file: File with the secret that signs it; empty signs nothing.
        now: Seconds since the epoch.
    """
    try:
        secret = secret_of(Path(secret_file).read_bytes()) if secret_file else None
    except (OSError, ValueError) as e:
        return Tried(f"the secret that signs it cannot be read: {e}")
    try:
        status = send(url, body, headers_of(identifier, int(now), body, secret))
    except OSError as e:
        return Tried(f"nothing answers: {e}")
    return Tried() if 200 <= status < 300 else Tried(f"it answered {status}", is_final=status == _GONE)  # noqa: PLR2004  success
