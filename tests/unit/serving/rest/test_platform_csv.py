import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, InvalidRows, UnsupportedMediaType
from ekiben.model import InputSpec
from ekiben.model.outputs import Outputs
from ekiben.model.signature import Signature
from ekiben.serving.batch_run import Answer
from ekiben.serving.rest.platform_csv import CsvReader, to_csv

INPUTS = (
    InputSpec(name="a", type="float", nullable=True),
    InputSpec(name="k", type="int"),
    InputSpec(name="on", type="bool", nullable=True),
    InputSpec(name="s", type="string"),
    InputSpec(name="t", type="string", nullable=True),
)
SIGNATURE = Signature(INPUTS)
READER = CsvReader(SIGNATURE)


def columns(text, header=None, signature=SIGNATURE):
    body = text if isinstance(text, bytes) else text.encode()
    batch = signature.batch(CsvReader(signature).read(body, header))
    assert not signature.check(batch)
    return {name: array.tolist() for name, array in batch.columns.items()}


def same(found, **expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_cells_are_typed_by_the_signature_and_empty_ones_are_null():
    found = columns('1.5,2,true,hello,there\r\n,3.0,,"a, ""b"" ",\r\n-1e3,-4,0, x ,1\n')
    same(
        found,
        a=[1.5, np.nan, -1000],
        k=[2, 3, -4],
        on=[1, np.nan, 0],
        s=["hello", 'a, "b" ', " x "],
        t=["there", "", "1"],
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_under_a_header_columns_stand_in_any_order_and_null_ones_may_be_missing(mark):
    found = columns(mark + b"s, k ,a\nhello,2,1.5\n")
    same(found, a=[1.5], k=[2], on=[np.nan], s=["hello"], t=[""])


def test_what_the_client_says_of_a_header_counts():
    words = Signature([InputSpec(name="word", type="string"), InputSpec(name="other", type="string")])
    assert columns("word,other\nx,y\n", None, words)["word"] == ["x"]
    assert columns("word,other\nx,y\n", "absent", words)["word"] == ["word", "x"]
    assert columns("word,other\n", "present", words)["word"] == []
    with pytest.raises(InvalidRequest, match="column 'x' is not an input; the inputs are word, other"):
        CsvReader(words).read(b"x,y\n", "present")


def test_a_column_without_a_name_is_an_index():
    with pytest.raises(InvalidRequest, match=r"column '' is not an input \(is it an index\? leave it out\)"):
        READER.read(b",a,k\n0,1,2\n", None)


def test_a_column_twice():
    with pytest.raises(InvalidRequest, match="'k' is there twice"):
        READER.read(b"a,k,k\n0,1,2\n", None)


@pytest.mark.parametrize("header", [None, "absent", "present"])
def test_nothing_is_no_rows(header):
    assert READER.read(b"", header) == []
    assert READER.read(b"\n\r\n", header) == []


@pytest.mark.parametrize(
    ("text", "row", "field", "value"),
    [
        ("1,2,true,x,y\nmany,2,true,x,y", 1, "a", "many"),
        ("1_000,2,true,x,y", 0, "a", "1_000"),
        ("1,2_0,true,x,y", 0, "k", "2_0"),
        ("1,,true,x,y", 0, "k", None),
        ("1,2,maybe,x,y", 0, "on", "maybe"),
        ("1,2,true,x", 0, None, "1,2,true,x"),
        ("s,k\nx,2\nx", 1, None, "x"),
        ("s,a\nx,2", 0, "k", None),
    ],
)
def test_a_bad_row_is_named_with_its_field(text, row, field, value):
    with pytest.raises(InvalidRows) as refused:
        READER.read(text.encode(), None)
    fault = refused.value.details[0]
    assert (fault.row, fault.field, fault.value) == (row, field, value)


def test_values_are_checked_with_the_batch():
    batch = SIGNATURE.batch(READER.read(b"inf,2.5,true,x,y\n1," + b"9" * 5000 + b",true,x,y\n", None))
    assert [(f.row, f.field) for f in SIGNATURE.check(batch)] == [(0, "k"), (0, "a"), (1, "k")]


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"\xff,1", "not UTF-8: invalid start byte at byte 0"), (b'a,"b', "not CSV"), (b'"a"b,c', "not CSV"), (b"a" * 200_000, "not CSV")],
)
def test_what_is_not_csv(body, says):
    with pytest.raises(InvalidRequest, match=says):
        READER.read(body, None)


# tensors ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tensors(**spec):
    return Signature([InputSpec(name="image", type="tensor", **spec)])


def test_a_tensor_is_its_elements_one_after_the_other():
    signature = tensors(dtype="float32", shape=(2, 3))
    assert columns("1,2,3,4,5,6\n6,5,4,3,2,1\n", None, signature)["image"] == [[[1, 2, 3], [4, 5, 6]], [[6, 5, 4], [3, 2, 1]]]
    assert columns("1,2\n3,4\n", None, tensors(dtype="int64", shape=(2,)))["image"] == [[1, 2], [3, 4]]
    assert columns("true,0\n", None, tensors(dtype="bool", shape=(2,)))["image"] == [[True, False]]
    assert columns("a,b\n", None, tensors(dtype="string", shape=(2, 1)))["image"] == [[["a"], ["b"]]]
    assert columns("7\n", None, tensors(dtype="float32", shape=()))["image"] == [7]


def test_a_tensor_of_another_size_or_type():
    reader = CsvReader(tensors(dtype="float32", shape=(2, 3)))
    with pytest.raises(InvalidRows, match=r"row 1: must have 6 cells, the elements of a tensor of shape \[2, 3\]; it has 5"):
        reader.read(b"1,2,3,4,5,6\n1,2,3,4,5\n", None)
    with pytest.raises(InvalidRows, match="row 0, field 'image'"):
        reader.read(b"1,2,3,4,x,6\n", None)
    with pytest.raises(InvalidRequest, match="without a header line"):
        reader.read(b"image\n1\n", None)


@pytest.mark.parametrize(
    "signature",
    [
        tensors(dtype="float32", shape=(-1,)),
        Signature([InputSpec(name="a", type="float"), InputSpec(name="image", type="tensor", dtype="float32", shape=(2,))]),
    ],
)
def test_what_does_not_fit_in_cells(signature):
    with pytest.raises(UnsupportedMediaType, match="send JSON"):
        CsvReader(signature).read(b"1,2\n", None)


@given(
    st.binary(max_size=60) | st.text(alphabet='a,k"\n\r1.\0é', max_size=40).map(str.encode), st.sampled_from([None, "present", "absent"])
)
def test_any_bytes_are_read_or_refused(body, header):
    try:
        rows = READER.read(body, header)
    except (InvalidRequest, InvalidRows):
        return
    assert isinstance(rows, list)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=5)


@given(st.lists(st.tuples(FINITE, st.integers(-(2**62), 2**62), TEXT, TEXT), min_size=1, max_size=5), st.booleans())
def test_what_a_writer_of_csv_writes_is_what_is_read(rows, header):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    if header:
        writer.writerow(["a", "k", "s", "t", "on"])
    writer.writerows([[a, k, s, t, ""] if header else [a, k, "", s, t] for a, k, s, t in rows])
    found = columns(out.getvalue(), "present" if header else "absent")
    same(found, a=[r[0] for r in rows], k=[r[1] for r in rows], s=[r[2] for r in rows], t=[r[3] for r in rows])


# answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(arrays, **more):
    n = len(next(iter(arrays.values())))
    return Answer(Outputs(n, arrays, **more), 0, n)


def test_a_classifiers_answer_has_a_column_a_label():
    found = answer(
        {"probabilities": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)}, labels=("no", "yes, sir"), class_index=np.array([1, 0])
    )
    assert to_csv(found, ("no", "yes, sir"), header=True) == (
        b'prediction,confidence,probabilities.no,"probabilities.yes, sir"\n"yes, sir",0.75,0.25,0.75\nno,0.5,0.5,0.5\n'
    )
    assert to_csv(found, ("no", "yes, sir"), header=False).startswith(b'"yes, sir",0.75')


def test_a_regressors_answer_is_a_number_a_line_and_nan_is_empty():
    text = to_csv(answer({"prediction": np.array([1.5, np.nan, -2])}), (), header=False)
    assert [line.strip('"') for line in text.decode().splitlines()] == ["1.5", "", "-2.0"]


def test_tensors_are_laid_flat():
    ragged = np.empty(1, object)
    ragged[0] = np.array([1, 2])
    arrays = {
        "m": np.arange(6).reshape(1, 2, 3),
        "is": np.array([True]),
        "bag": np.array([{"x": 1}], object),
        "ragged": ragged,
        "none": np.array([None], object),
    }
    lines = to_csv(answer(arrays), (), header=True).decode().splitlines()
    assert lines[0] == "m.0,m.1,m.2,m.3,m.4,m.5,is,bag,ragged,none"
    assert next(csv.reader(lines[1:])) == ["0", "1", "2", "3", "4", "5", "true", '{"x": 1}', "[1, 2]", ""]
