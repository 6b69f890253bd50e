import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest, InvalidRows
from ekiben.model import InputSpec
from ekiben.model.signature import Signature
from ekiben.serving.rest.platform_json import JsonReader

INPUTS = (
    InputSpec(name="a", type="float"),
    InputSpec(name="k", type="int", nullable=True),
    InputSpec(name="s", type="string", categories=("x", "y")),
)
SIGNATURE = Signature(INPUTS)
READER = JsonReader(SIGNATURE)
IMAGE = Signature([InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 2))])

ROWS = [{"a": 1.5, "k": 2, "s": "x"}, {"a": -1.0, "k": None, "s": "y"}]
LISTS = [list(row.values()) for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("a", "k", "s")}
SHUFFLED = {"columns": ["s", "a", "k"], "index": [7, 9], "data": [["x", 1.5, 2], ["y", -1, None]]}


def read(body, reader=READER):
    rows, request_id, form = reader.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    return [tuple(msgspec.structs.astuple(row)) if isinstance(row, msgspec.Struct) else row for row in rows], request_id, form


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"instances": ROWS}, "instances"),
        ({"instances": LISTS}, "instances"),
        ({"instances": ROWS, "parameters": {"depth": [1]}, "signature_name": "serving_default"}, "instances"),
        (ROWS, ""),
        (LISTS, ""),
        ({"dataframe_records": ROWS, "params": {"x": 1}}, "dataframe_records"),
        ({"dataframe_split": SHUFFLED}, "dataframe_split"),
        ({"dataframe_split": {"data": LISTS}}, "dataframe_split"),
        ({"inputs": COLUMNS}, "inputs"),
        ({"inputs": ROWS}, "inputs"),
        ({"input_data": SHUFFLED}, "input_data"),
        ({"input_data": COLUMNS}, "input_data"),
        ({"input_data": LISTS}, "input_data"),
        ({"data": LISTS, "method": "predict"}, "data"),
    ],
)
def test_every_form_gives_the_same_rows(body, form):
    assert read(body) == ([(1.5, 2, "x"), (-1.0, None, "y")], None, form)


def test_an_object_of_scalars_is_one_row():
    assert read({"inputs": ROWS[0]})[0] == [(1.5, 2, "x")]


def test_a_frame_may_leave_out_what_may_be_null():
    assert read({"dataframe_split": {"columns": ["s", "a"], "data": [["x", 3]]}})[0] == [(3.0, None, "x")]


@pytest.mark.parametrize(("given_id", "read_id"), [("mine", "mine"), (7, "7"), (None, None)])
def test_the_id_in_the_body(given_id, read_id):
    assert read({"instances": ROWS, "id": given_id})[1] == read_id


def test_a_list_may_stand_behind_any_white_space():
    assert len(read(b" \r\n\t" * 100 + json.dumps(ROWS).encode())[0]) == 2


def test_tensors_by_rows_and_by_columns():
    images = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    reader = JsonReader(IMAGE)
    for body in ({"inputs": images}, {"instances": images}, {"input_data": images}, images):
        assert read(body, reader)[0] == images
    assert read({"inputs": {"image": images}}, reader)[0] == [(image,) for image in images]
    assert read({"dataframe_split": {"columns": ["image"], "data": [[images[0]]]}}, reader)[0] == [(images[0],)]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "an object with one of instances, dataframe_records, data, dataframe_split, inputs, input_data"),
        ({"rows": ROWS}, "an object with one of instances"),
        (b"7", "an object with one of instances"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[1", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[\xff]", "not JSON"),
        ({"instances": ROWS, "inputs": ROWS}, "instances and inputs; give one"),
        ({"instances": {"a": 1}, "inputs": ROWS}, "instances and inputs; give one"),
        ({"instances": None}, '"instances" must be a list of rows'),
        ({"data": {"columns": []}}, '"data" must be a list of rows'),
        ({"dataframe_split": ROWS}, '{"columns": [name, …], "data": [[value, …], …]}'),
        ({"dataframe_split": {"columns": ["a"]}}, '{"columns": [name, …], "data": [[value, …], …]}'),
        ({"dataframe_split": {"columns": "a", "data": []}}, '"columns" must be a list of names'),
        ({"dataframe_split": {"columns": [1, 2, 3], "data": LISTS}}, '"columns" must be a list of names'),
        ({"dataframe_split": {"columns": ["a", "s", "a"], "data": LISTS}}, "column 'a' is there twice"),
        ({"inputs": 3}, '"inputs" must be an object {name: [value, …]} or a list of rows'),
        ({"inputs": None}, '"inputs" must be an object'),
        ({"inputs": {"a": [1, 2], "k": [1], "s": ["x", "y"]}}, "columns must all be lists of one length"),
        ({"inputs": {"a": [1, 2], "k": 1, "s": ["x", "y"]}}, "columns must all be lists of one length"),
        ({"instances": ROWS, "id": [1]}, "not a valid request"),
        (b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}", ""),
        (b'{"instances": [{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_request_says_what_would_be_one(body, says):
    with pytest.raises((InvalidRequest, InvalidRows)) as refused:
        read(body)
    assert says in str(refused.value)
    assert refused.type is InvalidRequest or not says


@pytest.mark.parametrize(
    ("body", "row", "field"),
    [
        ({"instances": [ROWS[0], {**ROWS[1], "a": "many"}]}, 1, "a"),
        ([LISTS[0], ["many", *LISTS[1][1:]]], 1, "a"),
        ({"dataframe_records": [{"a": 1, "s": "x", "extra": 1}]}, 0, "extra"),
        ({"dataframe_split": {**SHUFFLED, "data": [["x", 1, 2], ["y", "many", 1]]}}, 1, "a"),
        ({"dataframe_split": {**SHUFFLED, "data": [["x", 1, 2], ["y", 1]]}}, 1, None),
        ({"dataframe_split": {**SHUFFLED, "data": [3]}}, 0, None),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, 0, "s"),
        ({"inputs": {**COLUMNS, "a": [1, None]}}, 1, "a"),
        ({"input_data": {**COLUMNS, "b": [1, 2]}}, 0, "b"),
        ({"inputs": {}}, 0, "a"),
    ],
)
def test_a_bad_row_is_named_with_its_field(body, row, field):
    with pytest.raises(InvalidRows) as refused:
        read(body)
    assert (refused.value.details[0].row, refused.value.details[0].field) == (row, field)


def test_lines():
    text = b"\n".join(json.dumps(row).encode() for row in (ROWS[0], LISTS[1]))
    assert len(READER.read_lines(text)) == len(READER.read_lines(text + b"\r\n\n")) == 2
    assert READER.read_lines(b"") == []
    with pytest.raises(InvalidRequest, match=r"^line 3: it is not JSON"):
        READER.read_lines(text + b"\n{")
    with pytest.raises(InvalidRows) as refused:
        READER.read_lines(text + b"\n\n[1, 2]\n")
    assert refused.value.details[0].row == 2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.sampled_from(["a", "k", "s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["instances", "data", "inputs", "input_data", "dataframe_split", "columns", "index", "id", "a", "k", "s"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_any_json_is_read_or_refused(body):
    try:
        rows, _, _ = READER.read(json.dumps(body).encode())
    except (InvalidRequest, InvalidRows):
        return
    assert isinstance(rows, list)


@pytest.mark.parametrize("form", ["inputs", "instances", "input_data"])
def test_no_depth_of_nesting_is_too_much(form):
    # Where reading a value just works, showing it does not.
    for depth in range(750, 1010):
        deep = b"[" * depth + b"]" * depth
        with pytest.raises((InvalidRequest, InvalidRows)):
            READER.read(b'{"%s": [{"a": %s, "s": "x"}]}' % (form.encode(), deep))
