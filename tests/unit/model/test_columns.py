from __future__ import annotations

import numpy as np
import pytest

from ekiben.errors import InvalidRequest, InvalidRows
from ekiben.model.columns import cast_column, check_column, listed, number, rule_of, shown, tensor
from ekiben.model.spec import InputSpec

INT = InputSpec(name="i", type="int")
INT32 = InputSpec(name="i", type="int", dtype="int32")
MAYBE_INT = InputSpec(name="i", type="int", nullable=True)
BOOL = InputSpec(name="b", type="bool")
MAYBE_BOOL = InputSpec(name="b", type="bool", nullable=True)
TEXT = InputSpec(name="s", type="string")
MAYBE_TEXT = InputSpec(name="s", type="string", nullable=True)
UINT8 = InputSpec(name="t", type="tensor", dtype="uint8", shape=(2,))
WORDS = InputSpec(name="t", type="tensor", dtype="string", shape=(2,))


@pytest.mark.parametrize(
    ("item", "array", "expected"),
    [
        (INT, np.array([1, 2], np.uint8), np.array([1, 2], np.int64)),
        (INT, np.array([1.0, -2.0], np.float32), np.array([1, -2], np.int64)),
        (INT, np.array([[1], [2]]), np.array([1, 2], np.int64)),
        (INT32, np.array([2**31 - 1, -(2**31)]), np.array([2**31 - 1, -(2**31)], np.int32)),
        (MAYBE_INT, np.array([1.0, np.nan]), np.array([1.0, np.nan])),
        (MAYBE_INT, np.array([1, 2]), np.array([1.0, 2.0])),
        (BOOL, np.array([True]), np.array([True])),
        (MAYBE_BOOL, np.array([True]), np.array([1.0])),
        (MAYBE_BOOL, np.array([0.0, np.nan], np.float32), np.array([0.0, np.nan])),
        (TEXT, np.array(["a", "b"]), np.array(["a", "b"], object)),
        (TEXT, np.array([b"a", "ü".encode()], object), np.array(["a", "ü"], object)),
        (MAYBE_TEXT, np.array(["a", None], object), np.array(["a", ""], object)),
        (UINT8, np.array([[0, 255]]), np.array([[0, 255]], np.uint8)),
        (WORDS, np.array([["a", "b"]]), np.array([["a", "b"]], object)),
    ],
)
def test_an_array_is_cast_where_no_value_changes(item, array, expected):
    faults = []
    found = cast_column(item, array, faults)

    assert faults == []
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize(
    ("item", "array", "bad"),
    [
        (INT, np.array([1.0, 1.5, np.nan, np.inf, 2.0**63, -(2.0**63)]), [(1, 1.5), (2, "nan"), (3, "inf"), (4, 2.0**63)]),
        (INT, np.array([1, 2**64 - 1], np.uint64), [(1, 2**64 - 1)]),
        (INT32, np.array([2**31, 0]), [(0, 2**31)]),
        (INT32, np.array([0.0, 2.0**31]), [(1, 2.0**31)]),
        (MAYBE_INT, np.array([0.5, np.nan]), [(0, 0.5)]),
        (MAYBE_BOOL, np.array([0.5, np.nan, 1]), [(0, 0.5)]),
        (TEXT, np.array(["a", None, 3, b"\xff"], object), [(1, None), (2, 3), (3, "b'\\xff'")]),
        (WORDS, np.array([["a", "b"], ["c", 1]], object), [(1, 1)]),
        (UINT8, np.array([[0, 1], [7, 256], [-1, 256]]), [(1, 256), (2, -1)]),
    ],
)
def test_a_value_a_cast_would_change_is_a_fault_of_its_row_alone(item, array, bad):
    faults = []
    found = cast_column(item, array, faults)

    assert [(f.row, f.value) for f in faults] == bad
    assert found.dtype == item.array_dtype
    good = sorted(set(range(len(array))) - {row for row, _ in bad})
    assert np.array_equal(found[good], cast_column(item, array[good], []), equal_nan=found.dtype.kind == "f")


@pytest.mark.parametrize(
    ("item", "array"),
    [
        (INT, np.array([True])), (INT, np.array(["1"])), (INT, np.array([1], object)), (BOOL, np.array([1])), (MAYBE_BOOL, np.array([1])),
        (BOOL, np.array([1.0])), (TEXT, np.array([1])), (UINT8, np.array([[1.0, 2.0]])), (WORDS, np.array([[1, 2]])),
        (UINT8, np.array([1, 2])), (UINT8, np.array([[1, 2, 3]])), (UINT8, np.array(1)), (INT, np.array(1)),
    ],
)  # fmt: skip
def test_a_dtype_or_shape_that_cannot_hold_such_values_is_refused(item, array):
    with pytest.raises(InvalidRequest, match=f"input '{item.name}'"):
        cast_column(item, array, [])


def test_an_array_of_the_right_dtype_is_not_copied():
    for item, array in ((INT, np.arange(3)), (InputSpec(name="f", type="float"), np.zeros(3, np.float32)), (BOOL, np.zeros(3, bool))):
        assert cast_column(item, array, []) is array


def test_one_row_of_a_tensor_is_one_fault_with_its_first_bad_value():
    item = InputSpec(name="t", type="tensor", dtype="float32", shape=(2, 2), max=1)
    column = np.array([[[0, 1], [1, 0]], [[0, 3], [2, 0]], [[np.nan, 0], [0, 0]]], np.float32)

    assert [(f.row, f.value) for f in check_column(item, column)] == [(1, 3.0), (2, "nan")]


def test_bounds_of_integers_are_checked():
    assert [f.row for f in check_column(InputSpec(name="i", type="int", min=0), np.array([0, -1]))] == [1]
    assert check_column(INT, np.array([-1])) == []


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (INT, "must be an integer"),
        (InputSpec(name="f", type="float", min=0, max=123456789.5), "must be a finite number between 0 and 123456789.5"),
        (InputSpec(name="f", type="float", min=-1), "must be a finite number of at least -1"),
        (InputSpec(name="f", type="float", max=2, nullable=True), "must be a finite number of at most 2 or null"),
        (MAYBE_BOOL, "must be true or false or null"),
        (InputSpec(name="s", type="string", categories=("x", "y")), "must be one of x, y"),
        (InputSpec(name="s", type="string", categories=("x",), unknown="allow"), "must be a string"),
        (InputSpec(name="t", type="tensor", dtype="float32", shape=(2, -1)), "must be a tensor of float32 with shape [2, any]"),
    ],
)
def test_a_rule_is_said_in_words(item, rule):
    assert rule_of(item) == rule


def test_long_things_are_shortened():
    assert rule_of(InputSpec(name="s", type="string", categories=tuple("abcdefghijklmnop"))).endswith("l … (4 more)")
    assert shown("x" * 100) == "x" * 60 + "…"
    assert shown(10**100) == str(10**100)[:60]
    assert shown([1] * 100).endswith("…")
    assert shown(float("-inf")) == "-inf"
    assert shown(None) is None
    assert number(np.float32("inf")) == "inf"
    assert listed([str(n) for n in range(50)]).endswith("35 …")


@pytest.mark.parametrize(
    ("shape", "value", "found"),
    [
        ((-1, 3), [], (0, 3)),
        ((-1, 2, 3), [], (0, 2, 3)),
        ((2, -1, 3), [[], []], (2, 0, 3)),
        ((-1,), [], (0,)),
    ],
)
def test_an_empty_list_has_the_dimensions_inside_it_that_are_known(shape, value, found):
    item = InputSpec(name="t", type="tensor", dtype="float32", shape=shape)
    faults = []

    assert tensor(item, [value, value], faults).shape == (2, *found)
    assert faults == []


@pytest.mark.parametrize(("shape", "value"), [((3,), []), ((-1, -1), []), ((3, 3), []), ((-1, 3), [[]])])
def test_an_empty_list_that_does_not_fit_is_a_fault(shape, value):
    faults = []
    tensor(InputSpec(name="t", type="tensor", dtype="float32", shape=shape), [value], faults)

    assert [(f.row, f.field) for f in faults] == [(0, "t")]


# what a client may make large ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_string_has_so_many_characters_and_no_more():
    item = InputSpec(name="s", type="string", max_length=3)
    column = np.array(["abc", "", "日本🍱", "abcd", "x" * 1000], object)
    faults = check_column(item, column)
    assert [(f.row, f.rule) for f in faults] == [
        (3, "must have at most 3 characters; it has 4"),
        (4, "must have at most 3 characters; it has 1000"),
    ]
    assert len(str(faults[1].value)) < 100
    assert check_column(item, column[:3]) == []
    assert check_column(item, column[:0]) == []


def test_the_strings_of_a_tensor_have_a_length_too():
    item = InputSpec(name="t", type="tensor", dtype="string", shape=(2,), max_length=3)
    column = np.array([["a", "b"], ["abcd", "abcde"], ["a", "abcd"]], object)
    assert [(f.row, f.rule) for f in check_column(item, column)] == [
        (1, "must have at most 3 characters; it has 4"),
        (2, "must have at most 3 characters; it has 4"),
    ]


def test_a_large_row_among_tiny_ones_makes_no_column_of_large_ones():
    item = InputSpec(name="t", type="tensor", dtype="float32", shape=(-1,))
    values = [[0.0] * 100_000, *[[1.0]] * 100_000]  # a column of 40 GB
    with pytest.raises(InvalidRows, match=r"row 1, field 't'.*the same for all rows of a request"):
        tensor(item, values, [])
    fixed = InputSpec(name="t", type="tensor", dtype="float32", shape=(1000, 1000))
    with pytest.raises(InvalidRows, match="at least 1000 problems"):
        tensor(fixed, [[]] * 999 + [[1.0]] * 100_000, [])


def test_not_all_of_a_million_mistakes_are_told():
    faults = []
    column = tensor(InputSpec(name="t", type="tensor", dtype="float32", shape=(2,)), [[1.0, 2.0], *[[1.0]] * 5000], faults)
    assert len(faults) == InvalidRows.EXPLAINED
    assert column.shape == (5001, 2)
    assert column[0].tolist() == [1.0, 2.0]
