"""What BentoML's pages say to browsers beside their text: who may frame them, and where scripts may come from.

The page of Swagger UI brings a script of Google's Tag Manager, inline and from elsewhere. Under this policy browsers run neither, and
Swagger UI, whose scripts are the server's own, works.
"""

from __future__ import annotations

from typing import Final

from ekiben.serving.rest.http import Message, Send

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles inline and shows icons from ``data:``; it asks nobody but this server."""

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that know no frame-ancestors
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", POLICY),
)


def secured(send: Send) -> Send:
    """The same ``send``, which adds `HEADERS` to the head of the answer; a header that the page sets itself stays as it is."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            message["headers"] = [*given, *(header for header in HEADERS if header[0] not in names)]
        await send(message)

    return send_secured
