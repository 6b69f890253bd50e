"""Docstrings in JSON Schemas: what a struct is stays its description, what its attributes are moves to its properties."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

_HEADING: Final = re.compile(r"\n*^Attributes:\n", re.MULTILINE)
_ATTRIBUTE: Final = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n     .*)*)", re.MULTILINE)


def described(schemas: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schemas, each property with its own description.

    Args:
        schemas: Of structs whose docstrings are Google's.
    """
    return {name: _described(schema) for name, schema in schemas.items()}


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    text, *attributes = _HEADING.split(inspect.cleandoc(schema.get("description", "")), maxsplit=1)
    texts = {
        _camel(name): " ".join(match["text"].split())
        for part in attributes
        for match in _ATTRIBUTE.finditer(part)
        for name in match["names"].split(", ")
    }
    properties = {
        name: {"description": texts[_camel(name)], **schema_of} if _camel(name) in texts else schema_of
        for name, schema_of in schema.get("properties", {}).items()
    }
    return {**schema, **({"description": text} if text else {}), **({"properties": properties} if properties else {})}


def _camel(name: str) -> str:
    """How a field is spelt outside, whether it is renamed there or not."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
