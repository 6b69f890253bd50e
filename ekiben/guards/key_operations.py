"""What people do with API keys: make, list, rotate, revoke. The commands and the admin API call this."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from ekiben.errors import KeyRefused, UnknownKey
from ekiben.guards.api_keys import MARK, NewKey, new_key, prefix_of
from ekiben.guards.principal import PREDICT, SCOPES, TRUTH
from ekiben.model.rollout_spec import seconds
from ekiben.model.spec import NAME_PATTERN
from ekiben.state.control import Control
from ekiben.state.events import Event
from ekiben.state.keys import ApiKey

CREATED: Final = "key-created"
ROTATED: Final = "key-rotated"
REVOKED: Final = "key-revoked"

DEFAULT_GRACE: Final = "1h"
_TRIES: Final = 5
_MOST_NAME_CHARS: Final = 100
_LONGEST_S: Final = 100 * 365 * 86400.0
_OF_MODELS: Final = (PREDICT, TRUTH)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

KeyState = Literal["good", "expired", "revoked"]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key, as people see it.

    Attributes:
        prefix: What names it.
        name: Whom or what it is for.
        scopes: What it allows.
        state: ``good``; ``expired``, also where another took its place; or ``revoked``.
        created: When it was made, seconds since the epoch.
        created_by: Who made it.
        expires: When it ends, seconds since the epoch; null for never.
        revoked: When it was revoked, seconds since the epoch; null where it was not.
        replaced_by: Prefix of the key that was made in its place; empty where none was.
    """

    prefix: str
    name: str
    scopes: tuple[str, ...]
    state: KeyState
    created: float
    created_by: str
    expires: float | None = None
    revoked: float | None = None
    replaced_by: str = ""


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made: the only answer that ever has it.

    Attributes:
        key: The key, as requests bring it.
        about: What is known of it later.
    """

    key: str
    about: KeyView

    def __repr__(self) -> str:
        return f"MadeKey({self.about.prefix})"  # as of `NewKey`


class KeyOperations(Protocol):
    """What can be asked, of the control database or of a server."""

    def create(self, name: str, scopes: Sequence[str], *, expires: str | None = None) -> MadeKey:
        """Makes a key.

        Args:
            name: Whom or what it is for.
            scopes: What it allows.
            expires: After how long it ends, as ``90d``; None for never.
        """

    def list(self) -> list[KeyView]:
        """All keys, those that ended too, by when they were made."""

    def rotate(self, prefix: str, *, grace: str = DEFAULT_GRACE) -> MadeKey:
        """Makes a key in place of another, with its name, its scopes and as long a life.

        Args:
            prefix: Of the other one, or the other one itself.
            grace: How long the other one goes on being good.
        """

    def revoke(self, prefix: str) -> KeyView:
        """Ends a key for good; one that is revoked stays so.

        Args:
            prefix: Of the key, or the key itself.
        """


class ControlKeys:
    """`KeyOperations` on the control database.

    Args:
        control: The control database.
        who: Who asks, for the events.
        wall: Seconds since the epoch.
    """

    def __init__(self, control: Control, *, who: str, wall: Callable[[], float]) -> None:
        self._control = control
        self._who = who
        self._wall = wall

    def create(self, name: str, scopes: Sequence[str], *, expires: str | None = None) -> MadeKey:
        """See `KeyOperations`.

        Raises:
            KeyRefused: The name, a scope or the duration is not what it must be.
            StateError: The control database does not answer.
        """
        checked_name, checked = _checked_name(name), _checked_scopes(scopes)
        now = self._wall()
        ends = now + _checked_duration("expires", expires) if expires is not None else 0.0
        return self._keep(lambda made: self._new(made, checked_name, checked, ends, now), CREATED, f"made for {checked_name}")

    def list(self) -> list[KeyView]:
        """See `KeyOperations`.

        Raises:
            StateError: The control database does not answer.
        """
        now = self._wall()
        return [_view(key, now) for key in self._control.keys.all()]

    def rotate(self, prefix: str, *, grace: str = DEFAULT_GRACE) -> MadeKey:
        """See `KeyOperations`.

        Raises:
            UnknownKey: There is none.
            KeyRefused: It has ended or has a successor, or the duration is none.
            StateError: The control database does not answer.
        """
        grace_s = _checked_duration("grace", grace)

        def changed(made: NewKey) -> list[ApiKey]:
            now = self._wall()
            old = self._rotatable(prefix, now)
            ends = now + (old.expires - old.created) if old.expires else 0.0
            end_of_grace = min(now + grace_s, old.expires or now + grace_s)
            replaced = msgspec.structs.replace(old, expires=end_of_grace, replaced_by=made.prefix)
            return [*self._new(made, old.name, old.scopes, ends, now), replaced]

        return self._keep(changed, ROTATED, f"made in place of {prefix_of(prefix)}, which is good for another {grace}")

    def revoke(self, prefix: str) -> KeyView:
        """See `KeyOperations`.

        Raises:
            UnknownKey: There is none.
            KeyRefused: Others change it all the time.
            StateError: The control database does not answer.
        """
        for _ in range(_TRIES):
            now = self._wall()
            key = self._find(prefix)
            if key.revoked:
                return _view(key, now)
            revoked = msgspec.structs.replace(key, revoked=now)
            if self._control.keys.keep([revoked], event=self._event(REVOKED, revoked, f"{key.prefix} ({key.name}) was revoked", now)):
                return _view(revoked, now)
        raise KeyRefused(f"others change {prefix_of(prefix)} at the same time; try again")

    def _keep(self, change: Callable[[NewKey], Sequence[ApiKey]], kind: str, what: str) -> MadeKey:
        """Makes a key, and keeps it with what else changes; again where somebody else was first."""
        for _ in range(_TRIES):
            made = new_key()
            keys = change(made)
            now = keys[0].created
            if self._control.keys.keep(keys, event=self._event(kind, keys[0], f"{made.prefix} was {what}", now)):
                return MadeKey(key=made.text, about=_view(keys[0], now))
        raise KeyRefused("others change the keys at the same time; try again")

    def _new(self, made: NewKey, name: str, scopes: tuple[str, ...], expires: float, now: float) -> Sequence[ApiKey]:
        return [
            ApiKey(prefix=made.prefix, name=name, digest=made.digest, scopes=scopes, created=now, created_by=self._who, expires=expires)
        ]

    def _find(self, prefix: str) -> ApiKey:
        wanted = prefix_of(prefix)
        found = self._control.keys.get(wanted)
        if found is None:
            raise UnknownKey(f"there is no API key {wanted[:20]!r}; `ekiben keys list` shows the prefixes")
        return found

    def _rotatable(self, prefix: str, now: float) -> ApiKey:
        key = self._find(prefix)
        if key.replaced_by:
            raise KeyRefused(f"{key.prefix} was rotated already; its successor is {key.replaced_by}")
        state = _state(key, now)
        if state != "good":
            raise KeyRefused(f"{key.prefix} is {state}; make a new key with `ekiben keys create`")
        return key

    def _event(self, kind: str, key: ApiKey, message: str, now: float) -> Event:
        details: dict[str, Any] = {"prefix": key.prefix, "name": key.name, "scopes": list(key.scopes), "expires": key.expires or None}
        return Event(time=now, who=self._who, model="", kind=kind, message=message, details=details)


def _state(key: ApiKey, now: float) -> KeyState:
    if key.revoked:
        return "revoked"
    return "expired" if key.expires and key.expires <= now else "good"


def _view(key: ApiKey, now: float) -> KeyView:
    return KeyView(
        prefix=key.prefix, name=key.name, scopes=key.scopes, state=_state(key, now), created=key.created, created_by=key.created_by,
        expires=key.expires or None, revoked=key.revoked or None, replaced_by=key.replaced_by,
    )  # fmt: skip


def _checked_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > _MOST_NAME_CHARS or _CONTROL.search(text) or text.startswith(MARK):
        raise KeyRefused(f"a key's name is 1 to {_MOST_NAME_CHARS} characters that say whom it is for, like 'booking-site'")
    return text


def _checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    if not scopes:
        raise KeyRefused(f"a key needs one or more scopes: {', '.join(SCOPES)}, predict:MODEL, truth:MODEL")
    for scope in scopes:
        action, colon, model = scope.partition(":")
        if scope not in SCOPES and not (colon and action in _OF_MODELS and re.fullmatch(NAME_PATTERN, model)):
            raise KeyRefused(f"{scope[:80]!r} is no scope; there are {', '.join(SCOPES)}, predict:MODEL and truth:MODEL")
    return tuple(dict.fromkeys(scopes))


def _checked_duration(what: str, text: str) -> float:
    try:
        found = seconds(text)
    except ValueError as e:
        raise KeyRefused(f"{what}: {e}") from None
    if found > _LONGEST_S or (what == "expires" and not found):
        raise KeyRefused(f"{what} is {text!r}; it must be a duration like 90d, of a hundred years at most")
    return found
