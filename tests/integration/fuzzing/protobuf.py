"""Mutations of protobuf messages on the wire, where a message says nothing of its own schema."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from integration.fuzzing.mutations import NUMBERS, mutated_bytes

VARINT, FIXED64, BYTES, GROUP, END, FIXED32 = range(6)


class Field(NamedTuple):
    """One field: its number, its wire type, and its value without what the type itself adds."""

    number: int
    kind: int
    value: int | bytes


def varint(value: int, *, spare: int = 0) -> bytes:
    """A varint, with so many bytes more than it needs."""
    value %= 2**70
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    if spare:
        parts[-1] |= 128
        parts += b"\x80" * (spare - 1) + b"\x00"
    return bytes(parts)


def fields_of(data: bytes) -> list[Field] | None:
    """The fields of a message; None where it is no message."""
    fields: list[Field] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _varint_at(data, at)
            number, kind = tag >> 3, tag & 7
            value: int | bytes
            if kind == VARINT:
                value, at = _varint_at(data, at)
            elif kind in {FIXED64, FIXED32}:
                size = 8 if kind == FIXED64 else 4
                value, at = data[at : at + size], at + size
            elif kind == BYTES:
                size, at = _varint_at(data, at)
                value, at = data[at : at + size], at + size
            else:
                return None
            if number == 0 or at > len(data):
                return None
            fields.append(Field(number, kind, value))
    except IndexError:
        return None
    return fields


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def written(rng: Random, field: Field, *, lying: bool = False) -> bytes:
    """A field on the wire; its length may be a lie."""
    tag = varint(field.number << 3 | field.kind)
    if isinstance(field.value, int):
        return tag + varint(field.value)
    if field.kind != BYTES:
        return tag + field.value
    size = len(field.value)
    if lying:
        size = rng.choice((size + 1, size - 1, size + 1000, *NUMBERS)) % 2**64
    return tag + varint(size) + field.value


def mutated_message(rng: Random, data: bytes) -> bytes:
    """A message in which one to three things are changed, at any depth."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _changed(rng, data, depth=0)
    return data


def _changed(rng: Random, data: bytes, *, depth: int) -> bytes:
    fields = fields_of(data)
    if not fields or rng.random() < 0.1:
        return mutated_bytes(rng, data)
    at = rng.randrange(len(fields))
    field = fields[at]
    if isinstance(field.value, bytes) and field.value and depth < 3 and rng.random() < 0.6:
        inner = _changed(rng, field.value, depth=depth + 1)
        return _joined(rng, [*fields[:at], field._replace(value=inner), *fields[at + 1 :]])
    if rng.random() < 0.1:
        rng.shuffle(fields)
        return _joined(rng, fields)
    return _joined(rng, fields[:at]) + rng.choice(_FIELD)(rng, field) + _joined(rng, fields[at + 1 :])


def _joined(rng: Random, fields: list[Field]) -> bytes:
    return b"".join(written(rng, field) for field in fields)


def _of_another_type(rng: Random, number: int) -> bytes:
    return varint(number << 3 | rng.randrange(8)) + rng.choice((b"", b"\x00", b"\x01x", b"\xff" * 10, rng.randbytes(8), rng.randbytes(20)))


def _unknown(rng: Random) -> bytes:
    """A field that no message has: groups and messages nested without end, or a length of a terabyte."""
    number = rng.choice((100, 536870911, 7, 1000))
    depth = rng.choice((1, 50, 99, 101, 5000))
    begin, end = varint(number << 3 | GROUP), varint(number << 3 | END)
    nested = b""
    for _ in range(min(depth, 120)):
        nested = varint(number << 3 | BYTES) + varint(len(nested)) + nested
    endless = varint(number << 3 | BYTES) + varint(2**40)
    return rng.choice((begin * depth + end * depth, begin * depth, end, nested, endless, rng.randbytes(12)))


_OTHER_NUMBERS = (0, 1, 2, 3, 4, 5, 7, 15, 16, 19000, 2**29 - 1, 2**32)
_FIELD: tuple[Callable[[Random, Field], bytes], ...] = (
    lambda _, __: b"",
    lambda rng, field: written(rng, field) * rng.choice((2, 3, 200)),
    lambda rng, field: written(rng, field, lying=True),
    lambda rng, field: written(rng, field._replace(number=rng.choice(_OTHER_NUMBERS))),
    lambda rng, field: _of_another_type(rng, field.number),
    lambda rng, field: written(rng, field) + _unknown(rng),
    lambda rng, field: written(rng, field._replace(kind=VARINT, value=rng.choice(NUMBERS))),
    lambda rng, field: varint(field.number << 3 | VARINT) + varint(rng.choice(NUMBERS), spare=rng.choice((0, 1, 5, 9, 12))),
)
