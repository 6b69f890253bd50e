"""The admin API's rows about API keys, and about what was done over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from ekiben.guards.audit import trail
from ekiben.guards.key_operations import DEFAULT_GRACE, KeyOperations, KeyView, MadeKey
from ekiben.serving.rest.admin_rollouts import Since
from ekiben.serving.rest.admin_route import AdminRoute, Asked, Body
from ekiben.state.events import Event, Events

KeysFor = Callable[[str], KeyOperations]
"""Who asks → what answers them."""

_MOST_SCOPES = 100
Length = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-z.]{1,40}$", description="A duration: 90d, 12h, 1h30m.")]
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
ScopeWord = Annotated[str, msgspec.Meta(max_length=80, description="predict, truth, read, admin, predict:MODEL or truth:MODEL.")]


class KeyCreate(Body, frozen=True):
    """A key to make.

    Attributes:
        name: Whom or what it is for.
        scopes: What it allows.
        expires: After how long it ends; left out, never.
    """

    name: KeyName
    scopes: Annotated[tuple[ScopeWord, ...], msgspec.Meta(min_length=1, max_length=_MOST_SCOPES)]
    expires: Length | None = None


class KeyRotate(Body, frozen=True):
    """How a key is rotated.

    Attributes:
        grace: How long the old one goes on being good.
    """

    grace: Length = DEFAULT_GRACE


def key_routes(keys_for: KeysFor, events: Events) -> tuple[AdminRoute, ...]:
    """The rows.

    Args:
        keys_for: Who asks → what answers about keys, for them.
        events: Where what was done is kept.
    """

    def create(asked: Asked) -> MadeKey:
        given: KeyCreate = asked.body
        return keys_for(asked.who).create(given.name, given.scopes, expires=given.expires)

    def rotate(asked: Asked) -> MadeKey:
        return keys_for(asked.who).rotate(asked.path["prefix"], grace=asked.body.grace)

    def audit(asked: Asked) -> list[Event]:
        return trail(events, after=asked.query.after, limit=asked.query.limit)

    return (
        AdminRoute(
            method="GET",
            path="/keys",
            name="listKeys",
            summary="API keys without their secrets, those that ended too, the oldest first.",
            handler=lambda asked: keys_for(asked.who).list(),
            answer=list[KeyView],
        ),
        AdminRoute(
            method="POST",
            path="/keys",
            name="createKey",
            summary="Makes an API key, and shows it this once.",
            handler=create,
            answer=MadeKey,
            status=201,
            body=KeyCreate,
            example={"name": "booking-site", "scopes": ["predict:flight_delay", "truth"], "expires": "90d"},
        ),
        AdminRoute(
            method="POST",
            path="/keys/{prefix}/rotate",
            name="rotateKey",
            summary="Makes an API key in place of another, which goes on being good for a while.",
            handler=rotate,
            answer=MadeKey,
            body=KeyRotate,
            example={"grace": "1h"},
        ),
        AdminRoute(
            method="POST",
            path="/keys/{prefix}/revoke",
            name="revokeKey",
            summary="Ends an API key for good, on every worker within a second.",
            handler=lambda asked: keys_for(asked.who).revoke(asked.path["prefix"]),
            answer=KeyView,
        ),
        AdminRoute(
            method="GET",
            path="/audit",
            name="listAudit",
            summary="Who did what over this API and with keys, and who was refused, the oldest first.",
            handler=audit,
            answer=list[Event],
            query=Since,
        ),
    )
