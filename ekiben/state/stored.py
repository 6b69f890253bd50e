"""How things are written into columns and read again, also those that a newer or an older version wrote."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from ekiben.errors import StateError

_T = TypeVar("_T")
_LONGEST: Final = 200


def encoded(value: Any) -> str:
    """JSON."""
    return msgspec.json.encode(value).decode()


def decoded(text: str | bytes, wanted: type[_T]) -> _T:
    """What `encoded` wrote. Fields that only a newer version knows are left out, even where the type forbids unknown ones.

    Raises:
        StateError: It is nothing of that type.
    """
    try:
        return msgspec.json.decode(text, type=wanted)
    except msgspec.MsgspecError:
        pass
    try:
        known = _known(msgspec.json.decode(text), inspect.type_info(wanted))
        return msgspec.convert(known, wanted, str_keys=True)
    except msgspec.MsgspecError as e:
        raise StateError(
            f"the control database has a {wanted.__name__} that cannot be read: {e}; a newer Ekiben may have written it, which can"
        ) from e


def merged(former: str, value: msgspec.Struct) -> str:
    """JSON of a struct in place of a former one, without loss of what only a newer version knows.

    Fields that the struct does not have stay as they were, and so do those that say for this version what they said before.
    """
    before, after = msgspec.json.decode(former), msgspec.json.decode(encoded(value))
    kind = inspect.type_info(type(value))
    assert isinstance(kind, inspect.StructType)
    fields = {field.encode_name: field.type for field in kind.fields}
    for name in before:
        if name not in fields or (name in after and _known(before[name], fields[name]) == after[name]):
            after[name] = before[name]
    return encoded(after)


def plain(text: str) -> str:
    """Text that every database takes: PostgreSQL takes no NUL, and neither takes half a surrogate pair."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


def bounded(text: str) -> str:
    """Text that every database takes and indexes: of a long one the beginning and a digest, so that it equals itself only."""
    text = plain(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…{digest(text)}"


def digest(text: str) -> str:
    """Sixteen bytes that stand for a text, in hexadecimal digits."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _known(value: Any, wanted: inspect.Type) -> Any:
    """A value without the fields that its type does not have."""
    if isinstance(wanted, inspect.UnionType):
        inner = (inspect.StructType, inspect.DictType) if isinstance(value, dict) else (inspect.VarTupleType, inspect.ListType)
        wanted = next((t for t in wanted.types if isinstance(t, inner)), wanted)
    if isinstance(wanted, inspect.StructType) and isinstance(value, dict):
        return {f.encode_name: _known(value[f.encode_name], f.type) for f in wanted.fields if f.encode_name in value}
    if isinstance(wanted, inspect.VarTupleType | inspect.ListType) and isinstance(value, list):
        return [_known(item, wanted.item_type) for item in value]
    if isinstance(wanted, inspect.DictType) and isinstance(value, dict):
        return {key: _known(item, wanted.value_type) for key, item in value.items()}
    return value
