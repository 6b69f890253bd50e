import msgspec

from ekiben.serving.rest.schema_docs import described


class _Thing(msgspec.Struct, rename="camel"):
    """A thing.

    It has a second paragraph.

    Attributes:
        first_one: The first,
            which goes on: here.
        low, high: The two.
        plain: ``code``.
    """

    first_one: int
    low: float
    high: float
    plain: str
    other: bool = False


class _Bare(msgspec.Struct):
    x: int


def test_attributes_move_to_their_properties():
    _, schemas = msgspec.json.schema_components([_Thing], ref_template="{name}")
    thing = described(schemas)["_Thing"]
    assert thing["description"] == "A thing.\n\nIt has a second paragraph."
    texts = {name: schema.get("description") for name, schema in thing["properties"].items()}
    assert texts == {
        "firstOne": "The first, which goes on: here.",
        "low": "The two.",
        "high": "The two.",
        "plain": "``code``.",
        "other": None,
    }
    assert thing["properties"]["firstOne"]["type"] == "integer"
    assert thing["required"] == ["firstOne", "low", "high", "plain"]


def test_what_has_no_docstring_and_what_has_no_properties():
    _, schemas = msgspec.json.schema_components([_Bare], ref_template="{name}")
    assert described({**schemas, "Word": {"enum": ["a"], "description": "A word."}}) == {
        "_Bare": {"title": "_Bare", "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
        "Word": {"enum": ["a"], "description": "A word."},
    }
