"""Signed webhooks, as the Standard Webhooks specification has it (https://www.standardwebhooks.com, version 1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import msgspec

from ekiben.state.events import Event

_BASE64_PREFIX: Final = b"whsec_"


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


def body_of(event: Event) -> bytes:
    """The message about an event: ``type``, ``timestamp`` (ISO 8601) and ``data``, the event itself."""
    from datetime import UTC, datetime  # noqa: PLC0415  only where a webhook is called

    data: dict[str, Any] = msgspec.to_builtins(event)
    timestamp = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"type": f"rollout.{event.kind}", "timestamp": timestamp, "data": data})


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
