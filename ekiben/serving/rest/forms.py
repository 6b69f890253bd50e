"""HTML forms, which BentoML's typed endpoints take beside JSON: each field's value is JSON.

They are read here because BentoML answers a form that cannot be read with 500, and reads one of any size.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import create_form_parser

from ekiben.errors import InvalidRequest
from ekiben.serving.rest.codec import untyped
from ekiben.serving.rest.http import Headers

_MULTIPART: Final = b"multipart/form-data"
_MAX_FIELDS: Final = 100
_TOO_MANY: Final = f"the form has more than {_MAX_FIELDS} fields; instances and id are what is read"
_KINDS: Final = (_MULTIPART, b"application/x-www-form-urlencoded")


def is_form(headers: Headers) -> bool:
    """Whether the body is a form by its Content-Type."""
    return _kind(headers) in _KINDS


def _kind(headers: Headers) -> bytes:
    return headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()


def json_of_form(body: bytes, headers: Headers) -> bytes:
    """A form as a JSON object of its fields.

    Raises:
        InvalidRequest: It is not a form, or a value in it is not JSON.
    """
    values: dict[str, Any] = {}
    for name, value in _parts(body, headers) if _kind(headers) == _MULTIPART else _pairs(body):
        try:
            values[name.decode()] = untyped(value)
        except (InvalidRequest, UnicodeDecodeError) as e:
            shown = name[:40].decode("utf-8", "replace")
            raise InvalidRequest(f"the form's field {shown!r} is not JSON under a name in UTF-8: {e}") from None
    return msgspec.json.encode(values)


def _pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of ``name=value&…``."""
    try:
        # As latin-1 each byte is a character, percent-encoded or not.
        pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest(_TOO_MANY) from None
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def _parts(body: bytes, headers: Headers) -> list[tuple[bytes, bytes]]:
    """Names and values of the parts of a multipart form, those of files too."""
    found: list[tuple[bytes, bytes]] = []

    def add(name: bytes | None, value: bytes | None) -> None:
        if len(found) == _MAX_FIELDS:
            raise InvalidRequest(_TOO_MANY)
        found.append((name or b"", value or b""))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        add(file.field_name, file.file_object.read())

    # The body is in memory already, so that no part of it need be written to a file.
    in_memory = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = create_form_parser(
            {"Content-Type": headers[b"content-type"]}, lambda field: add(field.field_name, field.value), on_file, config=in_memory
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, LookupError) as e:
        raise InvalidRequest(f"the body is not the form that its Content-Type says: {e}") from None
    return found
