import pytest

from ekiben.errors import InvalidRequest
from ekiben.serving.rest.admin_route import AdminRoute, Body, Name, Query, Reference, Text, Word


class _Some(Query, frozen=True):
    word: Word = "a"
    n: int = 1
    on: bool | None = None


class _Given(Body, frozen=True):
    to: Reference
    model: Name = "m"
    why: Text = ""


ROW = AdminRoute(
    method="POST",
    path="/things/{thing}/parts.v1/{part}",
    name="x",
    summary="X.",
    handler=lambda _: None,
    answer=dict,
    query=_Some,
    body=_Given,
)
BARE = AdminRoute(method="GET", path="/things", name="y", summary="Y.", handler=lambda _: None, answer=(dict, list))


def test_the_path():
    assert ROW.placeholders == ["thing", "part"]
    match = ROW.regex.match("/admin/v1/things/a-1.b/parts.v1/2/")
    assert match is not None
    assert match.groupdict() == {"thing": "a-1.b", "part": "2"}
    assert ROW.regex.match("/things/a/parts.v1/2") is None
    for path in ("/things/a/partsxv1/2", "/things/a/parts.v1/", "/things/a/parts.v1/2/3"):
        assert ROW.regex.match(f"/admin/v1{path}") is None
    for part in ("", ".", "..", "A", "a b", "a\n", "ä", "a\x00", "a" * 129):
        assert ROW.regex.match(f"/admin/v1/things/{part}/parts.v1/2") is None
    assert ROW.regex is ROW.regex


def test_methods_and_answers():
    assert (ROW.methods, BARE.methods) == (("POST",), ("GET", "HEAD"))
    assert (ROW.answers, BARE.answers) == ((dict,), (dict, list))


def test_the_query():
    assert ROW.read_query(b"") == _Some()
    assert ROW.read_query(b"word=b&n=3&on=true") == _Some(word="b", n=3, on=True)
    assert BARE.read_query(b"") is None
    for query in (b"n=x", b"n=1.5", b"on=perhaps", b"word=%00", b"word=", b"none=1", b"n=1&n=1", b"word=\xff", b"&".join([b"n=1"] * 40)):
        with pytest.raises(InvalidRequest):
            ROW.read_query(query)
    with pytest.raises(InvalidRequest, match="takes no parameters; it got 'n'"):
        BARE.read_query(b"n=1")


@pytest.mark.parametrize("to", ["v1", "m:v1", "m@champion", "20261127-101010.1"])
def test_references(to):
    assert ROW.read_body(b'{"to": "%s"}' % to.encode()) == _Given(to=to)


def test_the_body():
    assert ROW.read_body(b'{"to": "a", "why": "two\\nlines"}') == _Given(to="a", why="two\nlines")
    fields = (b'"to": 1', b'"to": "a:b:c"', b'"to": "a", "model": "A"', b'"to": "a", "why": "\\u0000"', b'"to": "a", "x": 1')
    for body in (b"", b"{", b"[]", *(b"{%s}" % given for given in fields), b'{"to": "a", "why": "%s"}' % (b"x" * 2001)):
        with pytest.raises(InvalidRequest):
            ROW.read_body(body)
    assert BARE.read_body(b"") is BARE.read_body(b" {} ") is None
    with pytest.raises(InvalidRequest, match="takes no body"):
        BARE.read_body(b'{"x": 1}')
