"""What no client of HTTP/2 should send: frames out of order, of wrong sizes, too many of them, or cut off.

A scenario makes the bytes of one connection. Whatever the server thinks of them, it may close the connection or reset the
stream, but must not fail itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import NamedTuple

import hpack
from integration.fuzzing.grpc_cases import INFER, fields, prefixed
from integration.fuzzing.grpc_messages import MESSAGES
from integration.fuzzing.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INTERNAL_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    Http2,
    frame,
    header_block,
    settings,
)
from integration.fuzzing.mutations import mutated_bytes

_LAST = b"the last"
_QUIET_S = 0.25
"""How long to wait for a server that waits itself, for the rest of a frame."""

BLOCK = header_block(fields(INFER))
_REST = header_block([(":method", "POST"), (":scheme", "http"), (":path", "/v1/models/tiny:predict"), (":authority", "localhost")])
BEGIN = PREFACE + settings()
WHOLE = END_HEADERS | END_STREAM


class Scenario(NamedTuple):
    """One connection.

    Attributes:
        parts: What is sent, one after the other, with a little time between.
        finishes: Whether the client half-closes the connection behind it.
        answers: Whether it is sound, so that the call on stream 1 must be answered with status 0.
    """

    parts: list[bytes]
    finishes: bool = False
    answers: bool = False


def sound(stream: int = 1) -> list[bytes]:
    """The frames of a call that is right."""
    return [frame(HEADERS, END_HEADERS, stream, BLOCK), frame(DATA, END_STREAM, stream, prefixed(MESSAGES[0]))]


def sound_rest(stream: int = 1) -> list[bytes]:
    """The frames of a request over REST that is right."""
    return [frame(HEADERS, END_HEADERS, stream, _REST), frame(DATA, END_STREAM, stream, b'{"instances":[[1,2,3,4]]}')]


def bad_preface(rng: Random) -> Scenario:
    """Something else where the preface should be."""
    others = (
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
        b"PRI * HTTP/2.0\r\n",
        rng.randbytes(64),
    )
    first = rng.choice((mutated_bytes(rng, PREFACE), *others))
    return Scenario([first + settings() + b"".join(sound())], finishes=rng.random() < 0.5)


def changed_frames(rng: Random) -> Scenario:
    """A sound call, of which some frames are changed, dropped, doubled or in another order."""
    frames = [settings([(3, 100)]), *sound(1), frame(PING, payload=b"12345678"), *sound(3), frame(WINDOW_UPDATE, 0, 1, b"\0\0\1\0")]
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(len(frames))
        one = bytearray(frames[at])
        choice = rng.randrange(8)
        if choice == 0:
            del frames[at]
        elif choice == 1:
            frames.insert(at, bytes(one))
        elif choice == 2:
            rng.shuffle(frames)
        else:
            where = {3: 3, 4: 4, 5: rng.randrange(5, 9), 6: rng.randrange(3)}.get(choice, rng.randrange(len(one)))
            one[where] = rng.choice((0, 1, 4, 5, 8, 9, 10, 40, 127, 255, rng.randrange(256)))
            frames[at] = bytes(one)
        if not frames:
            break
    return Scenario([PREFACE, b"".join(frames)])


def changed_bytes(rng: Random) -> Scenario:
    """The bytes of a sound connection, changed anywhere."""
    return Scenario([mutated_bytes(rng, BEGIN + b"".join(sound(1) + sound(3)))], finishes=rng.random() < 0.3)


def sizes(rng: Random) -> Scenario:
    """Frames whose size is not what their type allows, or larger than the server allows."""
    kind = rng.choice((DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, 77))
    stream = rng.choice((0, 1))
    made = rng.choice((
        frame(kind, 0, stream, b"", length=2**24 - 1) + bytes(70_000),
        frame(kind, 0, stream, bytes(rng.choice((0, 1, 3, 5, 7, 9, 65_537)))),
        frame(HEADERS, PADDED | WHOLE, 1, b"\xff" + BLOCK),
        frame(HEADERS, HAS_PRIORITY | WHOLE, 1, b"\0\0"),
        frame(DATA, PADDED | END_STREAM, 1, b"\x09" + b"12345678"),
    ))  # fmt: skip
    before = sound()[0] if rng.random() < 0.5 else b""
    return Scenario([BEGIN + before + made])


def settings_flood(rng: Random) -> Scenario:
    """Many SETTINGS, or some that are wrong."""
    wrong = rng.choice((
        settings([(4, 2**31)]), settings([(5, 1)]), settings([(5, 2**24)]), settings([(2, 7)]), settings([(99, 1)] * 100),
        settings([(3, 0), (6, 0), (1, 0)]),
        settings([(1, 2**32 - 1)]), frame(SETTINGS, ACK, 0, b"123456"), frame(SETTINGS, 0, 1), frame(SETTINGS, ACK),
        frame(SETTINGS, 0, 0, b"12345"),
    ))  # fmt: skip
    return Scenario([BEGIN + wrong * rng.choice((1, 1, 300)) + b"".join(sound())])


def rapid_reset(rng: Random) -> Scenario:
    """Calls that are reset as soon as they are made."""
    count = rng.choice((1, 50, 400))
    code = rng.choice((0, 8, 2**32 - 1)).to_bytes(4)
    calls = [frame(HEADERS, END_HEADERS, 2 * n + 1, BLOCK) + frame(RST_STREAM, 0, 2 * n + 1, code) for n in range(count)]
    return Scenario([BEGIN, *calls] if count == 1 else [BEGIN + b"".join(calls)])


def cancelled(rng: Random) -> Scenario:
    """Whole calls that are reset while they may be worked on."""
    calls = [b"".join(rng.choice((sound, sound_rest))(2 * n + 1)) for n in range(rng.choice((1, 20, 100)))]
    resets = [frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(len(calls))]
    return Scenario([BEGIN + b"".join(calls), b"".join(resets)])


def ping_flood(rng: Random) -> Scenario:
    """Many PINGs, answered or answers themselves."""
    return Scenario([BEGIN + frame(PING, rng.choice((0, ACK, 255)), rng.choice((0, 0, 1)), b"12345678") * rng.choice((1, 2000))])


def windows(rng: Random) -> Scenario:
    """Windows that overflow, do not grow, or are of streams that are not there."""
    step = rng.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4)
    update = frame(WINDOW_UPDATE, 0, rng.choice((0, 1, 2, 7, 2**31 - 1)), step)
    return Scenario([BEGIN + sound()[0] + update * rng.choice((1, 2, 200)) + sound()[1]])


def starved(rng: Random) -> Scenario:
    """A client that lets the server send nothing, or a byte at a time, and goes."""
    begin = PREFACE + settings([(4, rng.choice((0, 1)))])
    calls = b"".join(b"".join(rng.choice((sound, sound_rest))(2 * n + 1)) for n in range(rng.choice((1, 30))))
    return Scenario([begin + calls, *[frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")] * 5])


def continuation(rng: Random) -> Scenario:
    """Header blocks in too many parts, without an end, or with something else between."""
    half = len(BLOCK) // 2
    part = frame(CONTINUATION, 0, 1, rng.choice((b"", header_block([("x-a", "b" * 1000)]))))
    return Scenario([BEGIN + rng.choice((
        frame(HEADERS, 0, 1, BLOCK) + part * rng.choice((1, 50, 1500)),
        frame(HEADERS, 0, 1, BLOCK[:half]) + frame(PING, payload=b"12345678") + frame(CONTINUATION, END_HEADERS, 1, BLOCK[half:]),
        frame(HEADERS, 0, 1, BLOCK[:half]) + frame(CONTINUATION, END_HEADERS, 3, BLOCK[half:]),
        frame(CONTINUATION, END_HEADERS, 1, BLOCK),
        frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 1, b""),
    ))])  # fmt: skip


def wrong_streams(rng: Random) -> Scenario:
    """Frames on streams that are closed, not there yet, even, or zero."""
    first, second = sound()
    return Scenario([BEGIN + rng.choice((
        first + second + second,
        first + second + first,
        second,
        frame(DATA, 0, 0, b"x"),
        frame(HEADERS, WHOLE, 0, BLOCK),
        frame(HEADERS, WHOLE, 2, BLOCK),
        b"".join(sound(5)) + b"".join(sound(3)),
        frame(RST_STREAM, 0, 9, bytes(4)),
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + BLOCK),
        frame(PRIORITY, 0, 1, b"\0\0\0\1\xff") + first,
        frame(GOAWAY, 0, 0, bytes(8)) + first + second,
        first + frame(HEADERS, WHOLE, 1, header_block([("x-late", "1")])) + second,
        first + frame(HEADERS, END_HEADERS, 1, header_block([("x-late", "1")])),
        frame(HEADERS, WHOLE, 1, header_block([*fields(INFER), ("content-length", "5")])),
        frame(HEADERS, END_HEADERS, 1, header_block([*fields(INFER), ("content-length", "500")])) + second,
        b"".join(frame(n % 256, 255, 1, b"unknown") for n in range(10, 300)),
    ))])  # fmt: skip


def many_streams(rng: Random) -> Scenario:
    """Many calls at once, none of which ends."""
    return unended(rng.choice((30, 100)))


def unended(count: int) -> Scenario:
    """So many calls at once; each open one takes the server some 25 kB until the connection ends."""
    return Scenario([BEGIN + b"".join(frame(HEADERS, END_HEADERS, 2 * n + 1, BLOCK) for n in range(count))])


def bad_compression(rng: Random) -> Scenario:
    """Header blocks that no decoder takes, or that grow a thousandfold in it."""
    large = b"\x40" + header_block([("x-large", "a" * 3900)])[1:]
    block = rng.choice((
        rng.randbytes(rng.choice((1, 5, 60))), b"\x80", b"\xff" + b"\xff" * 9 + b"\x01", b"\xbe", b"\x3f" + b"\xff" * 5 + b"\x07",
        b"\x20" * 50 + BLOCK,
        b"\x00\x85\xff\xff\xff\xff\xff\x01a", b"\x00\x7f\xff\xff\xff\xff\x0f", mutated_bytes(rng, BLOCK), b"", b"\x10",
        BLOCK + large + b"\xbe" * 3000,
        mutated_bytes(rng, hpack.Encoder().encode([(str(k), str(v)) for k, v in fields(INFER)])),
    ))  # fmt: skip
    return Scenario([BEGIN + frame(HEADERS, WHOLE, 1, block) + b"".join(sound(3))])


def half_closed(rng: Random) -> Scenario:
    """A client that sends no more, and still reads."""
    whole = BEGIN + b"".join(sound())
    return Scenario([whole if rng.random() < 0.5 else whole[: rng.randrange(len(whole))]], finishes=True)


def slow(rng: Random) -> Scenario:
    """A sound call, a few bytes at a time."""
    data = BEGIN + b"".join(sound())
    size = rng.choice((7, 40))
    return Scenario([data[at : at + size] for at in range(0, len(data), size)], answers=True)


SCENARIOS: tuple[Callable[[Random], Scenario], ...] = (
    bad_preface, changed_frames, changed_bytes, sizes, settings_flood, rapid_reset, cancelled, ping_flood, windows, starved, continuation,
    wrong_streams, many_streams, bad_compression, half_closed, slow,
)  # fmt: skip
_OFTEN = (changed_frames, changed_bytes, bad_compression, wrong_streams)


def scenario(rng: Random) -> Scenario:
    """One of them; those with the most to vary more often."""
    return rng.choice((*SCENARIOS, *_OFTEN, *_OFTEN))(rng)


async def play(port: int, made: Scenario) -> str | None:
    """Sends a scenario's bytes; says what is wrong with what comes back, None where nothing is."""
    connection = Http2(port)
    await connection.open(begin=b"")
    try:
        for part in made.parts:
            connection.send(part)
            if len(made.parts) > 1:
                await asyncio.sleep(0.001)
        if made.finishes:
            connection.finish()
        else:
            connection.send(frame(PING, 0, 0, _LAST))
        return await _watch(connection, made)
    finally:
        await connection.close()


async def _watch(connection: Http2, made: Scenario) -> str | None:
    decoder = hpack.Decoder()
    is_awaited = made.answers
    while True:
        found = None
        with suppress(TimeoutError):
            found = await asyncio.wait_for(connection.read(), 10 if is_awaited else _QUIET_S)
        if found is None or (found.kind == PING and found.payload == _LAST and not is_awaited):
            return "a sound call got no answer" if is_awaited else None
        if _code_of(found) == INTERNAL_ERROR:
            return f"INTERNAL_ERROR: {found}"
        if found.kind == HEADERS:
            answer = dict(decoder.decode(found.payload))
            if answer.get(":status", "200") >= "500" or answer.get("grpc-status") in {"2", "13"}:
                return f"the server failed: {answer}"
            is_awaited = is_awaited and not (found.stream == 1 and answer.get("grpc-status") == "0")


def _code_of(found: Frame) -> int | None:
    """The error code of a frame that has one."""
    at = {RST_STREAM: 0, GOAWAY: 4}.get(found.kind)
    return None if at is None else int.from_bytes(found.payload[at : at + 4])
