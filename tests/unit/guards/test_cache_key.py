from __future__ import annotations

import itertools
import json
import unicodedata

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, InvalidRows
from ekiben.guards.cache_key import RowKeys, scope_of
from ekiben.model.signature import Batch, Signature
from ekiben.model.spec import InputSpec

NUMBERS = Signature((InputSpec(name="a", type="float"), InputSpec(name="b", type="float", nullable=True)))
MIXED = Signature(
    (
        InputSpec(name="n", type="int"),
        InputSpec(name="ok", type="bool"),
        InputSpec(name="first", type="string", nullable=True),
        InputSpec(name="second", type="string"),
    )
)
KEYS = RowKeys(b"scope", per_principal=False)


def rows(signature: Signature, text: str) -> Batch:
    """Rows of JSON, as a request brings them."""
    return signature.batch(signature.parse_rows(msgspec.json.decode(text)))


def keys(batch: Batch, made: RowKeys = KEYS, principal: str = "ann") -> list[bytes]:
    found = made.of(batch, principal)
    assert found is not None
    return found


def test_what_the_model_takes_for_the_same_has_one_key():
    asked = [
        rows(NUMBERS, '[{"a": 3, "b": null}]'),
        rows(NUMBERS, '[{"b": null, "a": 3.0}]'),
        rows(NUMBERS, "[[3, null]]"),
        rows(NUMBERS, '[{"a": 30e-1}]'),
        NUMBERS.from_columns({"a": np.array([3], np.int16), "b": np.array([np.nan])}),
        NUMBERS.from_columns({"all": np.array([[3, np.nan]], ">f4")}),
        NUMBERS.from_columns({"all": np.asfortranarray(np.array([[9, 9], [3, np.nan], [9, 9]]))}).take(slice(1, 2)),
    ]
    assert len({keys(batch)[0] for batch in asked}) == 1


def test_texts_flags_and_whole_numbers_have_one_key_in_json_and_as_tensors():
    text = rows(MIXED, '[{"n": 3.0, "ok": true, "first": null, "second": "é"}]')
    for first in (None, "", b""):
        binary = MIXED.from_columns(
            {
                "n": np.array([3], np.int32),
                "ok": np.array([True]),
                "first": np.array([first], object),
                "second": np.array(["é".encode()], object),
            }
        )
        assert keys(binary) == keys(text)


def test_a_rows_key_is_the_same_whatever_rows_are_beside_it():
    together = keys(rows(NUMBERS, "[[1, 2], [3, null], [5, 6]]"))
    assert together == [keys(rows(NUMBERS, f"[{row}]"))[0] for row in ("[1, 2]", "[3, null]", "[5, 6]")]
    assert len(set(together)) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[[0.0, 1]]", "[[-0.0, 1]]"),
        ("[[1, 2]]", "[[2, 1]]"),
        ("[[1, null]]", "[[1, 0]]"),
        ("[[1, 1.0000001]]", "[[1, 1]]"),
    ],
)
def test_numbers_that_differ_in_one_bit_have_two_keys(one, other):
    assert keys(rows(NUMBERS, one)) != keys(rows(NUMBERS, other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("", "1:a"), ("1:a", "")),
        (("a\0", "b"), ("a", "\0b")),
        (("0:", "x"), ("", "0:x")),
        ((unicodedata.normalize("NFC", "é"), "x"), (unicodedata.normalize("NFD", "é"), "x")),
        (("ﬀ", "x"), ("ff", "x")),
        (("1", "x"), ("1.0", "x")),
        (("\ud83d\ude00", "x"), ("\N{GRINNING FACE}", "x")),
        (("\ud800", "x"), ("?", "x")),
    ],
)
def test_texts_that_read_alike_have_two_keys(one, other):
    def key(pair):
        columns = {
            "n": np.array([1]),
            "ok": np.array([True]),
            "first": np.array([pair[0]], object),
            "second": np.array([pair[1]], object),
        }
        return keys(MIXED.from_columns(columns))

    assert key(one) != key(other)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=5, unique=True))
def test_no_two_pairs_of_texts_have_one_key(pairs):
    columns = {
        "n": np.ones(len(pairs), np.int64),
        "ok": np.ones(len(pairs), bool),
        "first": np.array([p[0] for p in pairs] + [None], object)[:-1],
        "second": np.array([p[1] for p in pairs] + [None], object)[:-1],
    }
    assert len(set(keys(Batch(len(pairs), columns)))) == len(pairs)


def test_true_is_no_number_and_a_number_no_text():
    for wrong in ('{"n": true, "ok": true, "second": "x"}', '{"n": "1", "ok": true, "second": "x"}', '{"n": 1, "ok": 1, "second": "x"}'):
        with pytest.raises(InvalidRows):
            rows(MIXED, f"[{wrong}]")
    with pytest.raises((InvalidRows, InvalidRequest, msgspec.DecodeError)):
        rows(NUMBERS, "[[1e400, 1]]")


def test_what_overflows_its_type_has_the_key_of_no_number_and_is_refused_by_the_check():
    infinite = rows(NUMBERS, "[[1e300, 1]]")
    assert NUMBERS.check(infinite)
    assert keys(infinite) != keys(rows(NUMBERS, "[[3.4e38, 1]]"))


def test_a_row_with_a_fault_has_no_key_for_it_looks_like_another():
    bad = rows(MIXED, '[{"n": 3.5, "ok": true, "first": "", "second": "x"}]')
    good = rows(MIXED, '[{"n": 0, "ok": true, "first": "", "second": "x"}]')
    assert [column.tolist() for column in bad.columns.values()] == [column.tolist() for column in good.columns.values()]
    assert KEYS.of(bad, "ann") is None
    assert keys(good)


def test_tensors_of_other_shapes_and_types_have_other_keys():
    def key(shape, dtype="float32", where=("x",)):
        return keys(Batch(1, {name: np.zeros((1, *shape), dtype) for name in where}))[0]

    found = [key((2, 3)), key((3, 2)), key((6,)), key((6,), "int32"), key((0,)), key((0, 4)), key((3,), where=("x", "y")), key((7,))]
    assert len(set(found)) == len(found)


def test_texts_in_tensors_are_told_apart():
    def key(*texts):
        column = np.array([[*texts, ""]], object)[:, :-1]
        return keys(Batch(1, {"x": column}))[0]

    assert len({key("ab", "c"), key("a", "bc"), key("abc", ""), key("", "abc")}) == 4


def test_principals_share_keys_only_where_they_may():
    batch = rows(NUMBERS, "[[1, 2]]")
    own = RowKeys(b"scope", per_principal=True)
    assert keys(batch, KEYS, "ann") == keys(batch, KEYS, "bob")
    names = ["ann", "bob", "", "an", "key:ab12", "\ud800"]
    assert len({keys(batch, own, name)[0] for name in names} | set(keys(batch))) == len(names) + (
        0 if keys(batch, own, "") == keys(batch) else 1
    )


def test_no_principal_reads_like_another_with_part_of_the_row():
    own = RowKeys(b"scope", per_principal=True)
    batches = [rows(NUMBERS, "[[1, 2]]"), rows(NUMBERS, "[[2, 1]]")]
    names = ["ann", "3:ann", "ann8:", "ann2:<f"]
    assert len({keys(b, own, name)[0] for b, name in itertools.product(batches, names)}) == 8


def test_each_version_has_its_own_keys_also_with_the_same_name(tiny_artifact):
    manifest = tiny_artifact.manifest
    changed = msgspec.structs.replace(manifest, checksums={**manifest.checksums, "model.onnx": "0" * 64})
    scopes = [
        scope_of("tiny", "1", manifest),
        scope_of("tiny", "2", manifest),
        scope_of("tiny1", "", manifest),
        scope_of("tiny", "1", changed),
    ]
    batch = rows(NUMBERS, "[[1, 2]]")
    assert len({keys(batch, RowKeys(scope, per_principal=False))[0] for scope in scopes}) == 4
    assert scopes[0] == scope_of("tiny", "1", msgspec.convert(json.loads(msgspec.json.encode(manifest)), type(manifest)))
