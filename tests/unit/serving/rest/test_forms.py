from __future__ import annotations

import json
import string
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRequest
from ekiben.serving.rest.forms import is_form, json_of_form

MULTIPART = {b"content-type": b"multipart/form-data; boundary=x"}
URL_ENCODED = {b"content-type": b"application/x-www-form-urlencoded"}
NAMES = st.text(string.ascii_letters + "é日", min_size=1)
VALUES = st.recursive(st.none() | st.integers(-9, 9) | st.text(string.printable), st.lists, max_leaves=5)


def multipart(fields, *, file=b""):
    parts = [
        b'--x\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), file, json.dumps(value).encode())
        for name, value in fields.items()
    ]
    return b"".join([*parts, b"--x--\r\n"])


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"multipart/form-data; boundary=x", True),
        (b" Multipart/Form-Data", True),
        (b"application/x-www-form-urlencoded;charset=utf-8", True),
        (b"application/json", False),
        (b"multipart/mixed; boundary=x", False),
        (b"", False),
    ],
)
def test_what_is_a_form(content_type, expected):
    assert is_form({b"content-type": content_type}) is expected
    assert not is_form({})


@given(st.dictionaries(NAMES, VALUES, min_size=1))
def test_fields_come_back_in_every_kind_of_form(fields):
    encoded = urlencode({name: json.dumps(value) for name, value in fields.items()}).encode()

    assert json.loads(json_of_form(encoded, URL_ENCODED)) == fields
    assert json.loads(json_of_form(multipart(fields), MULTIPART)) == fields
    assert json.loads(json_of_form(multipart(fields, file=b'; filename="f.json"'), MULTIPART)) == fields


def test_a_file_of_any_size_stays_in_memory(monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    rows = [[1.5] * 500_000]

    assert json.loads(json_of_form(multipart({"instances": rows}, file=b'; filename="f"'), MULTIPART)) == {"instances": rows}


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"x", {b"content-type": b"multipart/form-data"}, "is not the form that its Content-Type says: No boundary given"),
        (b"x", MULTIPART, "is not the form"),
        (b"--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--\r\n", MULTIPART, "is not the form"),
        (b"--x\r\nfoo\r\n\r\n1\r\n--x--\r\n", MULTIPART, "is not the form"),
        (b"a=[1", URL_ENCODED, "the form's field 'a' is not JSON"),
        (b"a", URL_ENCODED, "the form's field 'a' is not JSON"),
        (b"%ff=1", URL_ENCODED, "the form's field '\ufffd' is not JSON under a name in UTF-8"),
        (b"a=" + b"[" * 100_000, URL_ENCODED, "nested too deeply"),
        (b"&".join([b"a=1"] * 101), URL_ENCODED, "more than 100 fields"),
        (multipart({f"f{n}": 1 for n in range(101)}), MULTIPART, "more than 100 fields"),
        (multipart({f"f{n}": 1 for n in range(101)}, file=b'; filename="f"'), MULTIPART, "more than 100 fields"),
    ],
)
def test_what_is_no_form_is_said(body, headers, error):
    with pytest.raises(InvalidRequest, match=error):
        json_of_form(body, headers)
