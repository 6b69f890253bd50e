import asyncio
import gzip
import threading
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, PayloadTooLarge
from ekiben.serving.compression import ALGORITHMS, deflate, deflated, inflate, inflated

DATA = bytes(range(256)) * 8
MIB = 2**20


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@given(data=st.binary(max_size=3000), algorithm=st.sampled_from(ALGORITHMS))
def test_what_was_compressed_comes_back(data, algorithm):
    assert inflated(deflated(data, algorithm), algorithm, len(data)) == data


@given(st.binary(max_size=3000), st.integers(0, 9))
def test_deflate_comes_with_zlibs_header_or_bare(data, level):
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    assert inflated(packer.compress(data) + packer.flush(), "deflate", len(data)) == data
    assert inflated(zlib.compress(data, level), "deflate", len(data)) == data


def test_the_formats_are_those_that_others_read():
    assert gzip.decompress(deflated(DATA, "gzip")) == DATA
    assert zlib.decompress(deflated(DATA, "deflate")) == DATA


def test_gzip_may_have_any_number_of_members():
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert inflated(members, "gzip", 7) == b"one two"
    with pytest.raises(PayloadTooLarge):
        inflated(members, "gzip", 6)
    large = b"".join(gzip.compress(DATA * 100) for _ in range(3))
    assert inflated(large, "gzip", MIB) == DATA * 300


def test_thousands_of_members_take_time_in_proportion():
    """A copy of the rest at each member's end would be 80 GB here."""
    members = gzip.compress(b"") * 90_000
    assert inflated(members, "gzip", 10) == b""


@pytest.mark.parametrize("packed", [zlib.compress(DATA), bare(DATA)])
def test_what_follows_deflate_is_refused(packed):
    with pytest.raises(InvalidRequest, match="3 bytes follow"):
        inflated(packed + b"abc", "deflate", MIB)


@pytest.mark.parametrize(
    ("algorithm", "packed"), [("gzip", gzip.compress(DATA)), ("deflate", zlib.compress(DATA)), ("deflate", bare(DATA))]
)
def test_what_is_cut_off_is_refused_wherever_it_is(algorithm, packed):
    for end in range(len(packed)):
        with pytest.raises(InvalidRequest, match=f"{algorithm}"):
            inflated(packed[:end], algorithm, MIB)


def test_a_second_member_that_is_cut_off():
    with pytest.raises(InvalidRequest, match="cut off"):
        inflated(gzip.compress(b"a") + gzip.compress(b"b")[:-1], "gzip", MIB)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("data", [b"{}", b'{"instances": []}', b"\xff" * 20, gzip.compress(DATA)[::-1]])
def test_what_is_not_compressed_so_is_refused(algorithm, data):
    with pytest.raises(InvalidRequest):
        inflated(data, algorithm, MIB)


def test_a_changed_byte_is_found_by_the_checksum():
    packed = bytearray(gzip.compress(DATA, 0))
    packed[100] ^= 1
    with pytest.raises(InvalidRequest, match="is not gzip"):
        inflated(bytes(packed), "gzip", MIB)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_limit_is_exact(algorithm):
    packed = deflated(DATA, algorithm)
    assert inflated(packed, algorithm, len(DATA)) == DATA
    with pytest.raises(PayloadTooLarge, match=f"more than {len(DATA) - 1} bytes"):
        inflated(packed, algorithm, len(DATA) - 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_of_a_bomb_no_more_than_the_limit_is_ever_held(algorithm):
    bomb = deflated(bytes(100 * MIB), algorithm)
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            inflated(bomb, algorithm, MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB


@pytest.fixture
def threads(monkeypatch):
    """The threads in which something was compressed or decompressed."""
    seen: list[threading.Thread] = []
    original = {name: getattr(zlib, name) for name in ("decompressobj", "compressobj")}

    def noting(name):
        def made(*arguments):
            seen.append(threading.current_thread())
            return original[name](*arguments)

        return made

    for name in original:
        monkeypatch.setattr(f"ekiben.serving.compression.zlib.{name}", noting(name))
    return seen


def test_small_data_is_done_at_once(threads):
    assert asyncio.run(inflate(gzip.compress(DATA), "gzip", MIB)) == DATA
    assert zlib.decompress(asyncio.run(deflate(DATA, "deflate"))) == DATA
    assert set(threads) == {threading.main_thread()}


def test_large_data_is_done_in_a_thread(threads):
    large = bytes(70_000)
    stored = zlib.compress(large, 0)
    assert asyncio.run(inflate(stored, "deflate", MIB)) == large
    assert zlib.decompress(asyncio.run(deflate(large, "deflate"))) == large
    assert threading.main_thread() not in threads[1:]


def test_small_data_that_becomes_large_goes_on_in_a_thread(threads):
    large = bytes(300_000)
    assert asyncio.run(inflate(zlib.compress(large), "deflate", MIB)) == large
    assert threads[-1] is not threading.main_thread()
    with pytest.raises(PayloadTooLarge, match="more than 200000"):
        asyncio.run(inflate(zlib.compress(large), "deflate", 200_000))


def test_a_small_limit_is_decided_at_once(threads):
    with pytest.raises(PayloadTooLarge, match="more than 1000 bytes"):
        asyncio.run(inflate(zlib.compress(DATA), "deflate", 1000))
    assert set(threads) == {threading.main_thread()}
