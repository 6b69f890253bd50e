from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, InvalidRows, RowError
from ekiben.model import Batch, InputSpec, Signature

MIXED = (
    InputSpec(name="size", type="float", min=-100, max=100),
    InputSpec(name="input.1", type="int", dtype="int32"),
    InputSpec(name="kind", type="string", categories=("s", "t")),
    InputSpec(name="x:0", type="bool"),
    InputSpec(name="class", type="float", nullable=True),
    InputSpec(name="pixels", type="tensor", dtype="uint8", shape=(2,)),
)
FLOATS = (InputSpec(name="a", type="float", min=-10), InputSpec(name="b", type="float", nullable=True), InputSpec(name="c", type="float"))
GOOD = {"size": 1.5, "input.1": 2, "kind": "s", "x:0": True, "class": None, "pixels": [0, 255]}

OF_MIXED = Signature(MIXED)
OF_FLOATS = Signature(FLOATS)

mixed_rows = st.fixed_dictionaries(
    {
        "size": st.floats(-100, 100, width=32) | st.integers(-100, 100),
        "input.1": st.integers(-(2**31), 2**31 - 1) | st.integers(-1000, 1000).map(float),
        "kind": st.sampled_from("st"),
        "x:0": st.booleans(),
        "class": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "pixels": st.lists(st.integers(0, 255), min_size=2, max_size=2),
    }
)
float_rows = st.fixed_dictionaries(
    {"a": st.floats(-10, 10, width=32), "b": st.none() | st.floats(-10, 10, width=32), "c": st.floats(-10, 10, width=32)}
)
# What a client may get wrong in one field of a mixed row.
BAD = [
    ("size", 100.5), ("size", math.nan), ("size", math.inf), ("size", None), ("size", "1"), ("size", True), ("size", 10**400),
    ("input.1", 1.5), ("input.1", math.nan), ("input.1", -math.inf), ("input.1", None), ("input.1", 2**31), ("input.1", 10**30),
    ("input.1", 2**63), ("input.1", False), ("kind", "u"), ("kind", ""), ("kind", None), ("kind", 3), ("x:0", 1), ("x:0", "true"),
    ("x:0", None), ("class", math.inf), ("class", 1e39), ("class", "n/a"), ("pixels", [1]), ("pixels", [1, 256]), ("pixels", [1, -1]),
    ("pixels", [1, 2, 3]), ("pixels", [1, None]), ("pixels", [[1], [2]]), ("pixels", [1.5, 2]), ("pixels", 7),
]  # fmt: skip


def judged(signature: Signature, rows) -> list[RowError]:
    """All that is wrong with rows, whichever of the two checks finds it."""
    try:
        parsed = signature.parse_rows(rows)
    except InvalidRows as e:
        return e.details
    return signature.check(signature.batch(parsed))


def equal(a: Batch, b: Batch) -> bool:
    same = a.n == b.n and (a.matrix is None) == (b.matrix is None) and list(a.columns) == list(b.columns)
    return same and all(
        x.dtype == y.dtype and x.shape == y.shape and (x.tolist() == y.tolist() or np.array_equal(x, y, equal_nan=True))
        for x, y in zip(a.columns.values(), b.columns.values(), strict=True)
    )


# ── structure ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dicts_lists_and_tuples_are_the_same_rows():
    signature = Signature(MIXED)
    batches = [signature.batch(signature.parse_rows([row])) for row in (GOOD, list(GOOD.values()), tuple(GOOD.values()))]

    assert equal(batches[0], batches[1])
    assert equal(batches[0], batches[2])
    assert {name: c.dtype.name for name, c in batches[0].columns.items()} == {
        "size": "float32", "input.1": "int32", "kind": "object", "x:0": "bool", "class": "float32", "pixels": "uint8"
    }  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_value_is_named_by_row_field_and_rule(field, value):
    (fault,) = judged(Signature(MIXED), [GOOD, {**GOOD, field: value}, GOOD])

    assert (fault.row, fault.field) == (1, field)
    assert fault.rule.startswith("must be ")
    msgspec.json.encode(fault)


@given(rows=st.lists(mixed_rows, min_size=1, max_size=6), bad=st.sampled_from(BAD), at=st.integers(0, 6))
def test_a_bad_row_never_changes_the_verdict_on_its_neighbours(rows, bad, at):
    signature = OF_MIXED
    at = min(at, len(rows))
    mixed = [*rows[:at], {**rows[0], bad[0]: bad[1]}, *rows[at:]]

    assert judged(signature, rows) == []
    assert {f.row for f in judged(signature, mixed)} == {at}


@given(
    rows=st.lists(float_rows, min_size=1, max_size=6), bad=st.sampled_from([math.nan, math.inf, -11, 1e39, None, "x"]), at=st.integers(0, 6)
)
def test_the_same_in_a_matrix(rows, bad, at):
    signature = OF_FLOATS
    at = min(at, len(rows))
    mixed = [*rows[:at], {**rows[0], "a": bad}, *rows[at:]]

    assert judged(signature, rows) == []
    assert [(f.row, f.field) for f in judged(signature, mixed)] == [(at, "a")]


@given(rows=st.lists(mixed_rows, min_size=1, max_size=6), as_lists=st.booleans())
def test_rows_decoded_from_json_are_the_rows_parsed_from_python(rows, as_lists):
    signature = OF_MIXED
    rows = [[row[name] for name in GOOD] for row in rows] if as_lists else rows
    decoded = msgspec.json.decode(msgspec.json.encode(rows), type=list[signature.row_type])

    assert decoded == signature.parse_rows(rows)
    assert equal(signature.batch(decoded), signature.batch(signature.parse_rows(rows)))


@pytest.mark.parametrize(
    ("row", "field", "rule"),
    [
        ({**GOOD, "colour": "red"}, "colour", r"is not an input; the inputs are size, input\.1"),
        ({k: v for k, v in GOOD.items() if k != "kind"}, "kind", "is required: must be one of s, t"),
        ([1, 2], None, r"must have 6 values, in this order: size, .*; it has 2"),
        ("row", None, "must be an object or a list"),
        (None, None, "must be an object or a list"),
        ({1: 2, **GOOD}, "1", "is not an input"),
    ],
)
def test_a_row_of_the_wrong_form_is_explained(row, field, rule):
    with pytest.raises(InvalidRows, match=rule) as caught:
        Signature(MIXED).parse_rows([GOOD, row])

    assert [(f.row, f.field) for f in caught.value.details] == [(1, field)]


def test_a_nullable_field_may_be_left_out():
    signature = Signature(MIXED)
    row = {k: v for k, v in GOOD.items() if k != "class"}

    assert np.isnan(signature.batch(signature.parse_rows([row])).columns["class"]).all()


def test_rows_must_be_a_list():
    with pytest.raises(InvalidRequest, match="rows must be a list"):
        Signature(MIXED).parse_rows({"a": 1})


class Odd(dict):
    """A mapping that msgspec reads as a row, and numpy values in it that it does not."""


def test_whatever_msgspec_refuses_is_explained_somehow():
    with pytest.raises(InvalidRows, match="field 'a'"):
        Signature(FLOATS).parse_rows([Odd(a=np.float32(1), b=None, c=1.0)])
    with pytest.raises(InvalidRows, match="row 0"):
        Signature(FLOATS).parse_rows([{1.0, 2.0, 3.0}])


def test_one_named_input_takes_no_array_of_another_name():
    with pytest.raises(InvalidRequest, match="input 'y' does not exist; the inputs are x"):
        Signature([InputSpec(name="x", type="float")]).from_columns({"y": np.zeros(1)})


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_only_tensor_may_come_bare_or_by_name():
    signature = Signature([InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 2))])
    batch = signature.batch(signature.parse_rows([[[1, 2], [3, 4]], {"image": [[5, 6], [7, 8]]}]))

    assert batch.columns["image"].shape == (2, 2, 2)
    with pytest.raises(InvalidRows, match=r"row 0, field 'image': must be a tensor of float32 with shape \[2, 2\]"):
        signature.parse_rows(["x"])


def test_a_row_of_a_bare_tensor_may_be_neither_list_nor_object():
    signature = Signature([InputSpec(name="a", type="tensor", dtype="float32", shape=(1,)), InputSpec(name="b", type="float")])

    assert [f.field for f in judged(signature, [[[1.0], 2.0], [1.0, 2.0], 3])] == ["a", None]


def test_a_scalar_tensor_and_strings_and_no_rows():
    scalar = Signature([InputSpec(name="t", type="tensor", dtype="float64", shape=())])
    strings = Signature([InputSpec(name="t", type="tensor", dtype="string", shape=(-1,))])

    assert scalar.batch(scalar.parse_rows([1.5, {"t": 2}])).columns["t"].tolist() == [1.5, 2.0]
    assert strings.batch(strings.parse_rows([["a", "b"]])).columns["t"].tolist() == [["a", "b"]]
    assert strings.batch([]).columns["t"].shape == (0, 0)
    assert strings.batch([]).n == 0


def test_null_in_a_tensor_is_nan_where_the_spec_allows_it():
    allowed = Signature([InputSpec(name="t", type="tensor", dtype="float32", shape=(2,), nullable=True)])
    refused = Signature([InputSpec(name="t", type="tensor", dtype="float32", shape=(2,))])

    assert judged(allowed, [[1, None]]) == []
    assert [f.row for f in judged(refused, [[1, 2], [1, None]])] == [1]
    assert [f.value for f in judged(allowed, [[1, math.inf]])] == ["inf"]


def test_a_varying_dimension_is_the_same_within_a_request_and_decides_who_shares_a_batch():
    signature = Signature([InputSpec(name="t", type="tensor", dtype="int64", shape=(-1,))])
    short, long = signature.parse_rows([[1], [2]]), signature.parse_rows([[1, 2]])

    assert not signature.fixed_shapes
    assert signature.shapes(short) != signature.shapes(long)
    assert signature.shapes(short) == signature.shapes(signature.as_batch(short))
    faults = judged(signature, [[1], [2, 3], [4]])
    assert [f.row for f in faults] == [1]
    assert "the same for all rows of a request" in faults[0].rule
    assert Signature(MIXED).shapes(short) is None


def test_all_rows_of_a_wrong_shape_are_all_reported():
    signature = Signature([InputSpec(name="t", type="tensor", dtype="string", shape=(2, -1))])

    assert [f.row for f in judged(signature, [[["a"]], [["a"], ["b"], ["c"]]])] == [0, 1]


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nulls_and_nan_become_what_the_spec_says():
    signature = Signature(
        [
            InputSpec(name="b", type="bool", nullable=True),
            InputSpec(name="i", type="int", nullable=True, min=0),
            InputSpec(name="f", type="float", nullable=True),
            InputSpec(name="s", type="string", nullable=True, categories=("x",)),
        ]
    )
    rows = [[None, None, None, None], [True, 3, 1.5, "x"], [False, math.nan, math.nan, ""]]
    columns = signature.batch(signature.parse_rows(rows)).columns

    assert judged(signature, rows) == []
    assert np.array_equal(columns["b"], [np.nan, 1, 0], equal_nan=True)
    assert np.array_equal(columns["i"], [np.nan, 3, np.nan], equal_nan=True)
    assert columns["s"].tolist() == ["", "x", ""]
    assert [(f.row, f.field) for f in judged(signature, [[None, -1, None, None], [None, 1.5, None, "y"]])] == [
        (0, "i"), (1, "i"), (1, "s")
    ]  # fmt: skip


def test_an_unknown_category_passes_where_the_spec_allows_it():
    allow = Signature([InputSpec(name="s", type="string", categories=("x",), unknown="allow"), InputSpec(name="f", type="float")])

    assert judged(allow, [["y", 1]]) == []


def test_a_bound_is_met_in_the_precision_of_the_column():
    signature = Signature([InputSpec(name="a", type="float", max=0.1), InputSpec(name="b", type="float", min=0.1)])
    mixed = Signature([InputSpec(name="a", type="float", max=0.1), InputSpec(name="b", type="string")])

    assert judged(signature, [[0.1, 0.1]]) == []
    assert [f.field for f in judged(signature, [[0.10001, 0.0999]])] == ["a", "b"]
    assert judged(mixed, [[0.1, ""]]) == []


def test_a_bound_beyond_the_dtype_lets_no_infinity_pass():
    signature = Signature([InputSpec(name="a", type="float", max=1e300), InputSpec(name="b", type="float")])

    assert [f.value for f in judged(signature, [[1e39, 1]])] == ["inf"]


def test_integers_keep_all_their_bits():
    signature = Signature([InputSpec(name="i", type="int"), InputSpec(name="s", type="string")])
    large = 2**63 - 1

    assert signature.batch(signature.parse_rows([[large, ""], [-(2**63), ""]])).columns["i"].tolist() == [large, -(2**63)]
    assert signature.batch(signature.parse_rows([[large, ""], [3.0, ""]])).columns["i"].tolist() == [large, 3]


def test_empty_requests_make_empty_batches():
    for inputs in (MIXED, FLOATS):
        signature = Signature(inputs)
        batch = signature.batch(signature.parse_rows([]))
        assert batch.n == 0
        assert signature.check(batch) == []


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def columns_of(rows):
    return {name: np.array([np.nan if r[name] is None else r[name] for r in rows]) for name in rows[0]}


@given(rows=st.lists(mixed_rows, min_size=1, max_size=5))
def test_columns_and_rows_of_the_same_values_make_the_same_batch(rows):
    signature = OF_MIXED
    of_columns = signature.from_columns(columns_of(rows))

    assert equal(of_columns, signature.batch(signature.parse_rows(rows)))
    assert signature.check(of_columns) == []


def test_a_matrix_stands_for_all_inputs_in_their_order():
    signature = Signature(FLOATS)
    batch = signature.from_columns({"anything": np.arange(6, dtype=np.int64).reshape(2, 3)})

    assert batch.matrix.dtype == np.float32
    assert batch.columns["c"].tolist() == [2.0, 5.0]
    mixed = Signature([InputSpec(name="f", type="float"), InputSpec(name="i", type="int")])
    assert mixed.from_columns({"m": np.array([[1.5, 2.0]])}).columns["i"].tolist() == [2]
    assert [f.field for f in mixed.check(mixed.from_columns({"m": np.array([[1.5, 2.5]])}))] == ["i"]
    words = Signature([InputSpec(name="s", type="string"), InputSpec(name="t", type="string")])
    assert words.from_columns({"m": np.array([[b"a", b"b"]])}).columns["t"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0], "b": [1.0], "c": [1.0], "d": [1.0]}, "input 'd' does not exist; the inputs are a, b, c"),
        ({"a": [1.0], "b": [1.0]}, "input 'c' is missing"),
        ({"a": [1.0], "b": [1.0], "c": [1.0, 2.0]}, "same number of rows"),
        ({"a": [1.0], "b": [1.0], "c": [[1.0, 2.0]]}, r"must have the shape \[rows\] or \[rows, 1\], got \[1, 2\]"),
        ({"a": [1.0], "b": [1.0], "c": ["x"]}, "an array of <U1 does not hold such values"),
        ({"a": [1.0], "b": [1.0], "c": [True]}, "an array of bool does not hold such values"),
        ({"m": [[1.0, 2.0]]}, r"its shape \[1, 2\] is not that of a matrix"),
        ({"m": [1.0]}, "is not that of a matrix"),
        ({"m": [[True, False, True]]}, "array of bool"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(InvalidRequest, match=message):
        Signature(FLOATS).from_columns({name: np.array(values) for name, values in columns.items()})


# ── split and merge ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(requests=st.lists(st.tuples(st.lists(mixed_rows, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=4))
def test_split_after_merge_is_the_identity(requests):
    signature = OF_MIXED
    payloads = [signature.from_columns(columns_of(rows)) if as_columns else signature.parse_rows(rows) for rows, as_columns in requests]
    merged = signature.merge(payloads)

    start = 0
    for payload in payloads:
        alone = signature.as_batch(payload)
        assert equal(merged.take(slice(start, start + alone.n)), alone)
        assert equal(merged.take(np.arange(start, start + alone.n)), alone)
        start += alone.n
    assert merged.n == start


@given(requests=st.lists(st.tuples(st.lists(float_rows, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=4))
def test_split_after_merge_is_the_identity_in_a_matrix(requests):
    signature = OF_FLOATS
    payloads = []
    for rows, as_columns in requests:
        matrix = np.array([[np.nan if row[name] is None else row[name] for name in "abc"] for row in rows], np.float64)
        payloads.append(signature.from_columns({"m": matrix}) if as_columns else signature.parse_rows(rows))
    merged = signature.merge(payloads)

    assert merged.matrix is not None
    start = 0
    for payload in payloads:
        alone = signature.as_batch(payload)
        assert equal(merged.take(slice(start, start + alone.n)), alone)
        start += alone.n


def test_faults_move_with_their_rows():
    signature = Signature(MIXED)
    bad = signature.batch(signature.parse_rows([GOOD, {**GOOD, "input.1": 1.5}]))
    merged = signature.merge([signature.parse_rows([GOOD, GOOD, GOOD]), bad])

    assert [(f.row, f.field) for f in signature.check(merged)] == [(4, "input.1")]
    assert [f.row for f in signature.check(merged.take(slice(3, 5)))] == [1]
    assert [f.row for f in signature.check(merged.take(np.array([4, 0])))] == [0]
    assert signature.check(merged.take(slice(0, 4))) == []
    assert signature.merge([bad]) is bad


def test_tensors_whose_varying_dimension_is_empty_join_too():
    signature = Signature([InputSpec(name="x", type="tensor", dtype="float32", shape=(-1, 2))])
    empty = signature.from_columns({"x": np.zeros((1, 0, 2), np.float32)})

    assert signature.merge([empty, empty, empty]).columns["x"].shape == (3, 0, 2)


# routing keys ────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYED = Signature([
    InputSpec(name="id", type="int"),
    InputSpec(name="account", type="int", nullable=True),
    InputSpec(name="name", type="string", nullable=True),
    InputSpec(name="amount", type="float"),
    InputSpec(name="is_new", type="bool"),
    InputSpec(name="was_new", type="bool", nullable=True),
])  # fmt: skip


@given(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**53), 2**53) | st.integers(-1000, 1000).map(float),
            "account": st.none() | st.integers(-(2**53), 2**53),
            "name": st.none() | st.text(max_size=5),
            "amount": st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e38, max_value=1e38)
            | st.integers(-1000, 1000),
            "is_new": st.booleans(),
            "was_new": st.none() | st.booleans(),
        }
    )
)
def test_a_key_is_the_same_in_whichever_form_its_row_came(row):
    as_object = KEYED.parse_rows([row, row])
    as_list = KEYED.parse_rows([[row[name] for name in KEYED.names]])
    for name in KEYED.names:
        key = KEYED.key_in(as_object, name)
        assert KEYED.key_in(as_list, name) == key
        assert KEYED.key_in(KEYED.batch(as_object), name) == key
        assert (key is None) == (row[name] in (None, ""))


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("id", 7, "7"), ("id", 7.0, "7"), ("id", -(2**63), "-9223372036854775808"), ("account", 7, "7"), ("account", None, None),
        ("name", "Ann", "Ann"), ("name", "", None), ("name", None, None), ("amount", 0.5, "0.5"), ("amount", 3, "3"), ("amount", -0.0, "0"),
        ("is_new", True, "1"), ("was_new", False, "0"), ("was_new", None, None),
    ],
)  # fmt: skip
def test_what_a_key_is(name, value, key):
    row = {"id": 1, "account": 2, "name": "n", "amount": 1.5, "is_new": False, "was_new": True, name: value}
    rows = KEYED.parse_rows([row, {**row, "name": "another"}])
    assert KEYED.key_in(rows, name) == key
    assert KEYED.key_in(KEYED.batch(rows), name) == key


def test_a_key_of_a_matrix():
    batch = OF_FLOATS.from_columns({"m": np.array([[1.25, np.nan, 3.0]], np.float32)})
    assert batch.matrix is not None
    assert [OF_FLOATS.key_in(batch, name) for name in "abc"] == ["1.25", None, "3"]
    assert OF_FLOATS.key_in(OF_FLOATS.parse_rows([[1.25, None, 3]]), "a") == "1.25"


def test_without_a_name_or_a_row_there_is_no_key():
    rows = KEYED.parse_rows([[1, 2, "n", 1.5, True, True]])
    assert KEYED.key_in(rows, "") is None
    assert KEYED.key_in([], "id") is None
    assert KEYED.key_in(KEYED.batch(rows).take(slice(0, 0)), "id") is None


@pytest.mark.parametrize(
    ("name", "value"), [("id", 10**400), ("id", math.inf), ("amount", 1e300), ("amount", math.inf), ("amount", -math.inf)]
)
def test_a_value_that_its_column_cannot_hold_has_a_key_too(name, value):
    row = {"id": 1, "account": 2, "name": "n", "amount": 1.5, "is_new": False, "was_new": True, name: value}
    assert KEYED.key_in(KEYED.parse_rows([row]), name)


def test_not_all_of_a_million_mistakes_are_told():
    signature = Signature([InputSpec(name="a", type="float")])
    with pytest.raises(InvalidRows, match="at least 1000 problems") as refusal:
        signature.parse_rows([{"b": 1}] * 100_000)
    assert len(refusal.value.details) == InvalidRows.SHOWN
    assert len(signature.explain([{f"x{n}": 0 for n in range(100_000)}])) <= InvalidRows.EXPLAINED + 1
