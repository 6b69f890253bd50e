import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, NotAcceptable
from ekiben.model import InputSpec
from ekiben.model.outputs import Outputs
from ekiben.model.signature import Signature
from ekiben.serving.batch_run import Answer
from ekiben.serving.rest.platform_npy import from_npy, read_npy, to_npy

PLANE = Signature([InputSpec(name=name, type="float") for name in ("array", "y", "z")])
MIXED = Signature([InputSpec(name="a", type="float", nullable=True), InputSpec(name="s", type="string"), InputSpec(name="on", type="bool")])
GRID = Signature([InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 3))])


def npy(array, version=None, *, pickle=False):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version, allow_pickle=pickle)
    return out.getvalue()


def handmade(header, data=b"", version=1):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "u1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_stands_for_all_inputs(version, dtype, order):
    array = np.array([[1, 2, 3], [4, 5, 6]], dtype, order=order)
    batch = from_npy(npy(array, version), PLANE)
    assert batch.matrix.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert batch.matrix.flags.c_contiguous
    assert not PLANE.check(batch)


def test_the_only_input_is_the_array():
    array = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert from_npy(npy(array), GRID).columns["image"].tolist() == array.tolist()


def test_a_structured_array_has_a_field_an_input():
    array = np.array([("é", 1.5, True), ("x", np.nan, False)], [("s", "U3"), ("a", "f4"), ("on", "?")])
    batch = from_npy(npy(array), MIXED)
    assert batch.columns["s"].tolist() == ["é", "x"]
    assert batch.columns["on"].tolist() == [True, False]
    np.testing.assert_array_equal(batch.columns["a"], [1.5, np.nan])


def test_names_outside_latin_1():
    signature = Signature([InputSpec(name="温度", type="float"), InputSpec(name="k", type="float")])
    assert from_npy(npy(np.array([(1, 2)], [("温度", "f4"), ("k", "f4")]), (3, 0)), signature).matrix.tolist() == [[1, 2]]


def test_the_array_is_a_view_of_the_body():
    body = npy(np.arange(30, dtype=np.float32).reshape(10, 3))
    assert np.shares_memory(read_npy(body), np.frombuffer(body, np.uint8))


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not an NPY file"),
        (b"PK\x03\x04", "not an NPY file"),
        (b"\x93NUMPY", "not an NPY file"),
        (b"\x93NUMPY\x09\x00\x00\x00", "not an NPY file"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "there may be 10000"),
        (b"\x93NUMPY\x01\x00\x10\x00{}", "the body has 12"),
        (handmade("{}"), "not an object of descr"),
        (handmade("]["), "not an object of descr"),
        (handmade("__import__('os')"), "not an object of descr"),
        (handmade("(" * 5000), "not an object of descr"),
        (handmade(HEADER.replace("(1, 3)", "3")), "not an object of descr"),
        (handmade(HEADER.replace("(1, 3)", "(True,)")), "not an object of descr"),
        (handmade(HEADER.replace("(1, 3)", "(1.0,)")), "not an object of descr"),
        (handmade(HEADER.replace("False", "3")), "not an object of descr"),
        (handmade(HEADER.replace("<f4", "nothing")), "not an object of descr"),
        (handmade(HEADER.replace("'<f4'", "7")), "not an object of descr"),
        (handmade(HEADER.replace("<f4", "|O"), b"\x80\x04K\x01."), "dtype object"),
        (handmade(HEADER.replace("'<f4'", "[('a', '|O')]"), b"\x80"), "Python objects"),
        (handmade(HEADER.replace("<f4", "|V0")), "elements of no size"),
        (handmade(HEADER.replace("<f4", "<U0")), "elements of no size"),
        (handmade(HEADER.replace("'<f4'", "('<f4', (3,))"), bytes(36)), "arrays of arrays"),
        (handmade(HEADER, bytes(11)), r"has 11 bytes of data; shape \[1, 3\] of float32 takes 12"),
        (handmade(HEADER, bytes(13)), "has 13 bytes of data"),
        (handmade(HEADER.replace("(1, 3)", "(-1, 3)"), bytes(12)), "dimensions are 0 to"),
        (handmade(HEADER.replace("(1, 3)", "(0, 2000000000, 2000000000, 2000000000)")), "too large"),
        (handmade(HEADER.replace("(1, 3)", "(9" + "9" * 30 + ",)")), "dimensions are 0 to"),
        (handmade(HEADER.replace("<f4", "<c8"), bytes(24)), "complex64"),
        (handmade(HEADER.replace("<f4", "<M8[s]"), bytes(24)), "datetime64"),
        (handmade(HEADER.replace("(1, 3)", "(3,)"), bytes(12)), "not that of a matrix"),
        (handmade(HEADER.replace("'<f4'", "[('array', '<f4')]").replace("(1, 3)", "(1, 1)"), bytes(4)), r"must have the shape \[rows\]"),
        (handmade(HEADER.replace("'<f4'", "[('array', '<f4')]").replace("(1, 3)", "(1,)"), bytes(4)), "input 'y' is missing"),
        (b"\x93NUMPY\x03\x00\x01\x00\x00\x00\xff", "not UTF-8"),
        (npy(np.array([[1, "x", None]], object), pickle=True), "Python objects"),
    ],
)
def test_what_is_refused(body, says):
    with pytest.raises(InvalidRequest, match=says):
        from_npy(body, PLANE)


@pytest.mark.parametrize("text", [b"\xff\xff\xff\xff", b"\x00\xd8\x00\x00"])
def test_text_that_is_not_unicode(text):
    header = "{'descr': [('s', '<U1'), ('a', '<f4'), ('on', '|b1')], 'fortran_order': False, 'shape': (1,), }"
    with pytest.raises(InvalidRequest, match="'s' holds text that is not Unicode"):
        from_npy(handmade(header, text + bytes(5)), MIXED)


def test_booleans_are_0_or_1():
    header = "{'descr': [('s', '<U1'), ('a', '<f4'), ('on', '|b1')], 'fortran_order': False, 'shape': (1,), }"
    with pytest.raises(InvalidRequest, match="'on' has bytes other than 0 and 1"):
        from_npy(handmade(header, b"x\0\0\0" + bytes(4) + b"\x02"), MIXED)


def test_a_header_that_promises_much_takes_no_memory():
    body = handmade("{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000, 3), }", bytes(24))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="takes 48000000000"):
            from_npy(body, PLANE)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


GOOD = npy(np.arange(6, dtype=np.float32).reshape(2, 3))


@given(st.lists(st.tuples(st.integers(6, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(GOOD)))
@pytest.mark.filterwarnings("ignore")  # what literals and dtypes may soon not be allowed to be
def test_mutated_files_are_read_or_refused(changes, cut):
    body = bytearray(GOOD)
    for at, value in changes:
        body[at] = value
    for mutated in (bytes(body), bytes(body[:cut])):
        try:
            batch = from_npy(mutated, PLANE)
        except InvalidRequest:
            continue
        assert batch.n <= len(GOOD)


# answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(arrays, **more):
    n = len(next(iter(arrays.values())))
    return Answer(Outputs(n, arrays, **more), 0, n)


def load(body):
    return np.load(io.BytesIO(body), allow_pickle=False)


def test_the_only_output_is_the_array():
    assert load(to_npy(answer({"prediction": np.array([1.5, 2], np.float32)}))).tolist() == [1.5, 2]


def test_several_outputs_are_the_fields_of_a_structured_array():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    found = load(to_npy(answer({"probabilities": probabilities}, labels=("no", "jä"), class_index=np.array([1, 0]))))
    assert found.dtype.names == ("prediction", "confidence", "probabilities")
    assert found["prediction"].tolist() == ["jä", "no"]
    assert found["confidence"].tolist() == [0.75, 0.5]
    np.testing.assert_array_equal(found["probabilities"], probabilities)


def test_what_npy_cannot_hold():
    ragged = np.empty(2, object)
    ragged[0], ragged[1] = np.zeros(1), np.zeros(2)
    with pytest.raises(NotAcceptable, match="output 'bag' is neither numbers nor text"):
        to_npy(answer({"bag": ragged}))
