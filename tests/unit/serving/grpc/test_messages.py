import asyncio
import gzip
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.serving.grpc.calling import GONE, Wire, part
from unit.serving.grpc.calling import framed as frame

from ekiben.errors import InvalidRequest, PayloadTooLarge, ReadTimeout, UnsupportedMediaType
from ekiben.serving import read_clock
from ekiben.serving.compression import SMALLEST_BYTES
from ekiben.serving.grpc.messages import MessageReader, encoding_of, framed, reply_encoding_of
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.rest.http import Disconnected

LIMIT = 10_000


def read(events, *, encoding=None, limit=LIMIT):
    """All messages."""

    async def all_of():
        reader = MessageReader(Wire(events).receive, encoding, limit)
        found = []
        while (message := await reader.next()) is not None:
            found.append(message)
        return found

    return asyncio.run(all_of())


def pieces(data, *cuts):
    """The data cut there, as events."""
    bounds = [0, *sorted(cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(bounds)]
    return [part(p, more=n < len(parts) - 1) for n, p in enumerate(parts)]


# reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cut", range(len(frame(b"one") + frame(b"") + frame(b"three")) + 1))
def test_messages_split_at_every_byte(cut):
    assert read(pieces(frame(b"one") + frame(b"") + frame(b"three"), cut)) == [b"one", b"", b"three"]


@given(st.lists(st.binary(max_size=20), max_size=5), st.data())
def test_messages_in_any_pieces(messages, data):
    stream = b"".join(map(frame, messages))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert read(pieces(stream, *cuts)) == messages


def test_byte_by_byte():
    stream = frame(b"one") + frame(b"two")
    assert read(pieces(stream, *range(len(stream)))) == [b"one", b"two"]


def test_a_message_is_there_before_the_next_has_come():
    async def first():
        wire = Wire([part(frame(b"one"), more=True)])
        reader = MessageReader(wire.receive, None, LIMIT)
        assert await reader.next() == b"one"
        later = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0)
        assert not later.done()
        wire.give(part(frame(b"two")))
        assert await later == b"two"
        assert await reader.next() is None
        assert await reader.next() is None

    asyncio.run(first())


@pytest.mark.parametrize("events", [[part(b"")], [part(b"", more=True), part(b"")], [{"type": "http.request"}]])
def test_no_message(events):
    assert read(events) == []


@pytest.mark.parametrize("cut", range(1, len(frame(b"one"))))
def test_a_stream_that_ends_inside_a_message(cut):
    with pytest.raises(InvalidRequest, match=f"ends inside a message, after {cut} bytes"):
        read([part(frame(b"one")[:cut])])
    with pytest.raises(InvalidRequest, match=f"after {cut} bytes"):
        read([part(frame(b"one") + frame(b"one")[:cut])])


@pytest.mark.parametrize("events", [[GONE], [part(frame(b"one")[:5], more=True), GONE]])
def test_a_client_that_goes_away(events):
    with pytest.raises(Disconnected):
        read(events)


@pytest.mark.parametrize("prefix", [b"\0" + (LIMIT + 1).to_bytes(4), b"\1" + b"\xff" * 4, b"\0\xff\xff\xff\xff" + b"x" * 100])
def test_a_message_too_large_by_its_prefix_is_refused_before_it_is_read(prefix):
    wire = Wire([part(prefix, more=True), part(b"x", more=True)])
    with pytest.raises(PayloadTooLarge, match=f"the limit is {LIMIT} "):
        asyncio.run(MessageReader(wire.receive, "gzip", LIMIT).next())
    assert wire.taken == 1


def test_the_limit_is_of_each_message():
    assert read([part(frame(b"x" * LIMIT) * 3)]) == [b"x" * LIMIT] * 3


@pytest.mark.parametrize("flag", [2, 128, 255])
def test_a_flag_that_is_none(flag):
    for events in (pieces(frame(b"one", flag)), pieces(frame(b"one", flag), 3)):
        with pytest.raises(InvalidRequest, match=f"begins with {flag}; it must be 0"):
            read(events, encoding="gzip")


# compression ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_each_message_says_whether_it_is_compressed(encoding, pack):
    stream = frame(pack(b"one"), 1) + frame(b"two") + frame(pack(b""), 1)
    for cuts in ((), (4,), (20,)):
        assert read(pieces(stream, *cuts), encoding=encoding) == [b"one", b"two", b""]


def test_compressed_without_an_encoding():
    with pytest.raises(InvalidRequest, match="no grpc-encoding"):
        read([part(frame(gzip.compress(b"one"), 1))])


def test_not_what_the_encoding_says():
    with pytest.raises(InvalidRequest, match="not gzip"):
        read([part(frame(zlib.compress(b"one"), 1))], encoding="gzip")


def test_a_message_too_large_once_decompressed():
    bomb = frame(gzip.compress(bytes(50_000_000)), 1)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match="more than 100000 bytes once decompressed"):
            read([part(bomb)], encoding="gzip", limit=100_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_encoding_of_what_comes():
    assert encoding_of({}) is None
    assert encoding_of({b"grpc-encoding": b"identity"}) is None
    assert encoding_of({b"grpc-encoding": b"gzip"}) == "gzip"
    assert encoding_of({b"grpc-encoding": b"deflate"}) == "deflate"
    for unknown in (b"br", b"GZIP", b"\xff", b""):
        with pytest.raises(UnsupportedMediaType, match="there are gzip, deflate and identity"):
            encoding_of({b"grpc-encoding": unknown})


@pytest.mark.parametrize(
    ("given_encoding", "accepted", "expected"),
    [
        (None, b"gzip", None),
        (b"identity", b"gzip", None),
        (b"gzip", b"identity, deflate, gzip", "gzip"),
        (b"deflate", b"deflate", "deflate"),
        (b"gzip", b"identity,deflate", None),
        (b"gzip", None, None),
        (b"br", b"br", None),
    ],
)
def test_the_encoding_of_what_goes(given_encoding, accepted, expected):
    headers = {b"grpc-encoding": given_encoding, b"grpc-accept-encoding": accepted}
    assert reply_encoding_of({k: v for k, v in headers.items() if v is not None}) == expected


@pytest.mark.parametrize(("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_what_is_worth_it_is_compressed(encoding, unpack):
    large, small = b"x" * SMALLEST_BYTES, b"x" * (SMALLEST_BYTES - 1)
    packed = asyncio.run(framed(large, encoding))
    assert packed[0] == 1
    assert int.from_bytes(packed[1:5]) == len(packed) - 5 < 100
    assert unpack(packed[5:]) == large
    assert asyncio.run(framed(small, encoding)) == frame(small)
    assert asyncio.run(framed(large, None)) == frame(large)


# slow clients ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_began_must_become_whole_in_time(monkeypatch):
    monkeypatch.setattr(read_clock, "_LOOK_S", 0.01)
    now = [0.0]
    reads = ReadClock(10, lambda: now[0])
    stream = [part(frame(b"one"), more=True), part(frame(b"two")[:6], more=True)]

    async def receive():
        if not stream:
            await asyncio.Event().wait()
        now[0] += 100  # between messages a client may be silent
        return stream.pop(0)

    async def read():
        reader = MessageReader(receive, None, LIMIT, reads)
        first = await reader.next()
        second = asyncio.create_task(reader.next())
        await asyncio.sleep(0.03)
        assert not second.done()
        now[0] += 11
        with pytest.raises(ReadTimeout, match="within 10 s"):
            await second
        return first

    assert asyncio.run(read()) == b"one"
