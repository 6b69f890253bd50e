"""Mutations of bytes and of JSON. All chance comes from the `random.Random` that is passed in, so that a seed gives a case again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (0, -1, 1, 2, 127, 255, 256, 32768, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**31))
TEXTS = (
    "", " ", "x", "\0", "é日本🍱", "a" * 300, "x\r\ny", '"', "../..", "%s%n", "NaN", "FP32", "BYTES", "inputs", "-1", "\U0010ffff",
    "\ufeff",
)  # fmt: skip


class Literal(str):
    """JSON text that goes out as it is, valid or not."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object as its members, of which two may have one name."""


_LITERALS = (
    "1e999", "-1e999", "1e-999", "-0", "-0.0", "1.5", "1.0", "NaN", "Infinity", "-Infinity", "01", "1e", "tru", "", '"\\ud800"',
    '"\\udfff\\ud800"', '"\\u0000"', '"\\x"', '"unended', "1" * 400, "1" * 5000, "-" + "9" * 30, "1" + "0" * 310, "9" * 20 + ".5",
    "[" * 40 + "]" * 40,
    "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[[[", "{}", "[]", "/*x*/1", "1,", "\ufeff1",
)  # fmt: skip


def weird(rng: Random) -> Any:
    """A JSON value that nobody expects where it lands."""
    return rng.choice(_WEIRD)(rng)


_WEIRD: tuple[Callable[[Random], Any], ...] = (
    lambda rng: rng.choice((None, True, False)),
    lambda rng: rng.choice(NUMBERS),
    lambda rng: rng.choice(TEXTS),
    lambda rng: Literal(rng.choice(_LITERALS)),
    lambda rng: Literal(rng.choice(_LITERALS)),
    lambda rng: [weird(rng) for _ in range(rng.randrange(4))],
    lambda rng: {rng.choice(TEXTS): weird(rng) for _ in range(rng.randrange(3))},
    lambda rng: rng.uniform(-1e6, 1e6),
    lambda rng: [rng.choice(NUMBERS)] * rng.randrange(40),
)


def dumped(value: Any) -> str:
    """JSON with the literals and double names that `json.dumps` would not write."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{dumped(item)}" for name, item in value) + "}"
    if isinstance(value, dict):
        return dumped(Pairs(value.items()))
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumped, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def encoded(value: Any) -> bytes:
    """As `dumped`, in UTF-8."""
    return dumped(value).encode("utf-8", "surrogatepass")


def mutated_json(rng: Random, value: Any) -> Any:
    """A copy of a JSON value in which one to three things are changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(rng, value, depth=0)
    return value


def _changed(rng: Random, value: Any, *, depth: int) -> Any:
    if isinstance(value, Pairs) or not isinstance(value, dict | list) or not value or rng.random() < 0.05 * depth:
        return weird(rng)
    if isinstance(value, dict):
        return _changed_object(rng, value, depth)
    copy = list(value)
    at = rng.randrange(len(copy))
    choice = rng.randrange(10)
    if choice == 0:
        del copy[at]
    elif choice == 1:
        copy.insert(at, copy[at])
    elif choice == 2:
        copy.insert(at, weird(rng))
    else:
        copy[at] = _changed(rng, copy[at], depth=depth + 1)
    return copy


def _changed_object(rng: Random, value: dict[str, Any], depth: int) -> Any:
    name = rng.choice(list(value))
    choice = rng.randrange(12)
    copy = dict(value)
    if choice == 0:
        del copy[name]
    elif choice == 1:
        copy[rng.choice(TEXTS)] = copy.pop(name)
    elif choice == 2:
        copy[rng.choice((*TEXTS, "parameters", "data", "id", "outputs"))] = weird(rng)
    elif choice == 3:
        return Pairs([*copy.items(), (name, rng.choice((copy[name], weird(rng))))])
    elif choice == 4:
        items = list(copy.items())
        rng.shuffle(items)
        return dict(items)
    else:
        copy[name] = _changed(rng, copy[name], depth=depth + 1)
    return copy


def mutated_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Bytes in which one to four things are changed; ``others`` are what pieces may come from."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_BYTES)(rng, data, rng.choice(others) if others else data)
    return data


def _piece(rng: Random, data: bytes) -> slice:
    start = rng.randrange(len(data) + 1)
    return slice(start, min(start + rng.choice((1, 2, 4, 5, 8, 16, 100)), len(data)))


def _flip(rng: Random, data: bytes, _: bytes) -> bytes:
    if not data:
        return b"\x80"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: Random, data: bytes, _: bytes) -> bytes:
    at = _piece(rng, data)
    number = rng.choice(NUMBERS) % 2**64
    size = rng.choice((1, 2, 4, 8))
    return data[: at.start] + (number % 256**size).to_bytes(size, rng.choice(("little", "big"))) + data[at.start + size :]


def _noise(rng: Random, data: bytes, _: bytes) -> bytes:
    at = _piece(rng, data)
    return data[: at.start] + rng.randbytes(at.stop - at.start) + data[at.stop :]


def _cut(rng: Random, data: bytes, _: bytes) -> bytes:
    at = _piece(rng, data)
    return data[: at.start] + data[at.stop :]


def _end(rng: Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _twice(rng: Random, data: bytes, _: bytes) -> bytes:
    at = _piece(rng, data)
    return data[: at.stop] + data[at] * rng.choice((1, 1, 1, 50)) + data[at.stop :]


def _append(rng: Random, data: bytes, _: bytes) -> bytes:
    return data + rng.randbytes(rng.choice((1, 4, 5, 64, 1000)))


def _splice(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_BYTES: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (_flip, _flip, _overwrite, _noise, _cut, _end, _twice, _append, _splice)
