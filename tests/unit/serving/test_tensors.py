import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ekiben.errors import InvalidRequest
from ekiben.serving.datatypes import NUMPY_OF, datatype_of
from ekiben.serving.tensors import MAX_DIMENSION, count_of, dtype_of, from_raw, object_array, reshaped, text_of, to_raw

NUMBERS = [name for name in NUMPY_OF if name != "BYTES"]


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def refusal(datatype, shape, data):
    with pytest.raises(InvalidRequest) as caught:
        from_raw("x", datatype, shape, data)
    return str(caught.value)


# numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(data=st.data(), datatype=st.sampled_from(NUMBERS))
def test_a_tensor_survives_its_bytes(data, datatype):
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(NUMPY_OF[datatype], shapes))
    raw = to_raw(array)
    assert raw == array.astype(array.dtype.newbyteorder("<")).tobytes("C")
    found = from_raw("x", datatype, array.shape, raw)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()  # NaNs and negative zeros too
    assert datatype_of(found) == datatype


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_strings_survive_their_bytes(texts):
    array = object_array(texts)
    raw = to_raw(array)
    assert raw == b"".join(element(t.encode()) for t in texts)
    assert from_raw("x", "BYTES", [len(texts)], raw).tolist() == texts


def test_what_is_not_contiguous_goes_row_by_row():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert to_raw(array.T) == np.array([0, 3, 1, 4, 2, 5], np.int16).tobytes()
    assert to_raw(np.array([["a", "b"], ["c", "d"]], object).T) == b"".join(element(c) for c in (b"a", b"c", b"b", b"d"))


def test_aligned_bytes_are_seen_and_not_copied():
    backing = bytearray(8 + 32)
    data = memoryview(backing).toreadonly()
    start = -np.frombuffer(data, np.uint8).ctypes.data % 8
    found = from_raw("x", "FP64", [4], data[start : start + 32])
    backing[start : start + 8] = struct.pack("<d", 2.5)
    assert found[0] == 2.5
    assert not found.flags.owndata


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("datatype", ["FP64", "INT16", "FP16", "BOOL", "BF16"])
def test_unaligned_bytes_are_copied_into_place(offset, datatype):
    width = 2 if datatype == "BF16" else np.dtype(NUMPY_OF[datatype]).itemsize
    raw = bytes([1, 0] * 16)[: 2 * width] if datatype != "BOOL" else b"\1\0"
    body = bytearray(16 + len(raw))
    start = -np.frombuffer(body, np.uint8).ctypes.data % 8 + offset
    body[start : start + len(raw)] = raw
    found = from_raw("x", datatype, [2], memoryview(body)[start : start + len(raw)])
    assert found.flags.aligned
    assert found.tolist() == from_raw("x", datatype, [2], raw).tolist()


def test_bf16_is_the_upper_half_of_a_float():
    values = np.array([1.0, -2.5, 3.0e38, np.inf, np.nan, 0.0], np.float32)
    halves = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    found = from_raw("x", "BF16", [2, 3], halves.tobytes())
    assert found.dtype == np.float32
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.reshape(-1), values, rtol=1 / 128)
    assert "11 bytes; its shape [6] and datatype take 12" in refusal("BF16", [6], halves.tobytes()[:11])


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("change", [-1, 1])
def test_bytes_that_are_not_as_many_as_the_shape_takes(datatype, change):
    size = 6 * np.dtype(NUMPY_OF[datatype]).itemsize
    assert f"'x' has {size + change} bytes; its shape [2, 3] and datatype take {size}" in refusal(datatype, [2, 3], bytes(size + change))


def test_booleans_are_0_or_1():
    assert from_raw("x", "BOOL", [2], b"\0\1").tolist() == [False, True]
    assert from_raw("x", "BOOL", [0], b"").tolist() == []
    for bad in (b"\0\2", b"\xff\0"):
        assert "bytes other than 0 and 1" in refusal("BOOL", [2], bad)


def test_there_is_no_such_datatype():
    for datatype in ("", "float32", "FP8", "BF16"):
        with pytest.raises(InvalidRequest, match=f"'x' has the datatype '{datatype}'; there are BOOL"):
            dtype_of("x", datatype)
    with pytest.raises(InvalidRequest) as caught:
        from_raw("x", "F" * 10_000, [1], b"")
    assert len(str(caught.value)) < 500


# shapes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_number_of_elements():
    assert count_of("x", []) == 1
    assert count_of("x", [2, 0, 3]) == 0
    assert count_of("x", [MAX_DIMENSION] * 16) == MAX_DIMENSION**16


@pytest.mark.parametrize("shape", [[-1], [2, -1], [MAX_DIMENSION + 1], [10**4000, 1], [1] * 17, [-(2**63)]])
def test_what_is_no_shape(shape):
    with pytest.raises(InvalidRequest, match="16 of them at most") as caught:
        count_of("x", shape)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BOOL", "BF16"])
def test_a_shape_far_beyond_its_bytes_makes_nothing(datatype):
    assert "its shape" in refusal(datatype, [MAX_DIMENSION] * 16, b"\0\0\0\0")


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_an_empty_tensor_of_a_shape_that_numpy_cannot_have(datatype):
    assert "which is too large" in refusal(datatype, [0, *[MAX_DIMENSION] * 3], b"")


def test_reshaping_makes_a_view():
    array = np.arange(6)
    assert np.shares_memory(reshaped("x", array, [2, 3]), array)


# strings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_strings_are_their_length_and_themselves():
    raw = element(b"ab") + element(b"") + element("é".encode()) + element(b"a\0b")
    found = from_raw("x", "BYTES", [2, 2], raw)
    assert found.dtype == object
    assert found.tolist() == [["ab", ""], ["é", "a\0b"]]
    assert from_raw("x", "BYTES", [], element(b"one")).item() == "one"
    assert from_raw("x", "BYTES", [0], b"").tolist() == []
    assert from_raw("x", "BYTES", [1], memoryview(element(b"view"))).tolist() == ["view"]


def test_what_is_not_utf8_stays_bytes():
    assert from_raw("x", "BYTES", [2], element(b"\xff\xfe") + element(b"ok")).tolist() == [b"\xff\xfe", "ok"]
    assert text_of(b"\xff") == b"\xff"


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([1], b""),
        ([1], b"\2\0\0"),
        ([1], element(b"abc")[:-1]),
        ([1], element(b"abc") + b"\0"),
        ([1], b"\xff\xff\xff\xff"),
        ([1], b"\xff\xff\xff\xffabc"),
        ([1], b"\x04\0\0\0abc"),
        ([2], element(b"a")),
        ([1], element(b"a") * 2),
        ([2], element(b"a") * 2 + b"\1"),
        ([0], element(b"")),
    ],
)
def test_lengths_that_lie(shape, data):
    assert f"has {len(data)} bytes, which are not the {shape[0]} elements" in refusal("BYTES", shape, data)


@given(data=st.binary(max_size=60), shape=st.lists(st.integers(0, 4), max_size=3))
def test_any_bytes_are_strings_or_refused(data, shape):
    try:
        found = from_raw("x", "BYTES", shape, data)
    except InvalidRequest:
        return
    assert to_raw(found) == data
    assert list(found.shape) == shape


def test_strings_of_any_kind_are_written():
    assert to_raw(np.array(["ab", "é"])) == element(b"ab") + element("é".encode())
    assert to_raw(np.array([b"ab", b"\xff"])) == element(b"ab") + element(b"\xff")
    assert to_raw(object_array([b"\xff", "a", 5])) == element(b"\xff") + element(b"a") + element(b"5")
    assert to_raw(object_array([])) == b""


def test_an_array_of_objects_is_not_looked_into():
    assert object_array([[1, 2], "a"]).shape == (2,)
