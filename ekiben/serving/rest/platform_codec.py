"""The codec of a platform's scoring path: JSON, JSON Lines, CSV or NPY in, by Content-Type; any of them out, by Accept."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from ekiben.errors import NotAcceptable, UnsupportedMediaType
from ekiben.serving.batch_run import Answer
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.rest.codec import Decoded, rows_payload
from ekiben.serving.rest.http import Headers, Response, json_response
from ekiben.serving.rest.platform_csv import CsvReader, to_csv
from ekiben.serving.rest.platform_json import BARE_FORMS, JsonReader
from ekiben.serving.rest.platform_npy import from_npy, to_npy

JSON: Final = "application/json"
LINES: Final = "application/jsonlines"
CSV: Final = "text/csv"
NPY: Final = "application/x-npy"
TYPES: Final = (JSON, LINES, CSV, NPY)
_ALSO: Final = {
    "application/jsonl": LINES,
    "application/x-jsonlines": LINES,
    "application/x-ndjson": LINES,
    "application/csv": CSV,
}
_ANY: Final = {"*/*": JSON, "application/*": JSON, "text/*": CSV}
_SHOWN_CHARS: Final = 100
_encode_lines = msgspec.json.Encoder().encode_lines


class Written(NamedTuple):
    """How an answer is written.

    Attributes:
        kind: One of `TYPES`.
        is_bare: JSON only: the list of predictions alone.
        has_header: CSV only: a line of names comes first.
    """

    kind: str
    is_bare: bool = False
    has_header: bool = False


_AS_JSON: Final = Written(JSON)


class PlatformCodec:
    """What platforms' clients send and get, for one version."""

    def __init__(self, served: LoadedVersion) -> None:
        self._signature = served.predictor.signature
        self._labels = served.spec.labels
        self._json = JsonReader(self._signature)
        self._csv = CsvReader(self._signature)

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Decodes a request.

        Raises:
            InvalidRequest: The body is not of its type, or has none of the forms that carry rows.
            InvalidRows: Rows break the signature.
            UnsupportedMediaType: The body's type is not one of `TYPES`.
            NotAcceptable: The client accepts none of `TYPES`.
        """
        written = _written(headers.get(b"accept"))
        kind, parameters = _kind(headers.get(b"content-type"))
        if kind == JSON:
            rows, request_id, form = self._json.read(body)
            is_bare = form in BARE_FORMS and written.kind == JSON
            return Decoded(rows_payload(self._signature, rows), request_id, written._replace(is_bare=True) if is_bare else written)
        if kind == NPY:
            return Decoded(from_npy(body, self._signature), None, written)
        rows = self._json.read_lines(body) if kind == LINES else self._csv.read(body, parameters.get("header"))
        return Decoded(rows_payload(self._signature, rows), None, written)

    def encode(self, answer: Answer, request_id: str, version: str, options: Any) -> Response:  # noqa: ARG002  platforms carry it in a header
        """Encodes an answer in the type that was asked for.

        Raises:
            NotAcceptable: The outputs do not fit in that type.
        """
        written: Written = options
        if written.kind == JSON:
            return json_response(answer.rows() if written.is_bare else {"predictions": answer.rows()})
        if written.kind == LINES:
            body = _encode_lines(answer.rows())
        elif written.kind == CSV:
            body = to_csv(answer, self._labels, header=written.has_header)
        else:
            body = to_npy(answer)
        return Response(200, body, content_type=written.kind.encode())


def _kind(content_type: bytes | None) -> tuple[str, dict[str, str]]:
    """The type of the body, JSON where it does not say, and its parameters."""
    if content_type is None or content_type == b"application/json":
        return JSON, {}
    name, parameters = _media_type(content_type.decode("latin-1"))
    kind = JSON if name.endswith("+json") else _ALSO.get(name, name)
    if kind not in TYPES:
        raise UnsupportedMediaType(f"the body is {name[:_SHOWN_CHARS]!r}; this path reads {', '.join(TYPES)}")
    if (charset := parameters.get("charset", "utf-8")) not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"the body's charset is {charset[:_SHOWN_CHARS]!r}; send it in utf-8")
    return kind, parameters


def _written(accept: bytes | None) -> Written:
    """What to answer with: the type that the client likes best of those there are."""
    if accept is None or accept in (b"*/*", b"application/json", b""):
        return _AS_JSON
    ranges = [_media_type(part) for part in accept.decode("latin-1").split(",")]
    # Sorting keeps the client's order among equals.
    for name, parameters in sorted(ranges, key=lambda item: -_quality(item[1])):
        kind = _ANY.get(name) or _ALSO.get(name, name)
        if kind in TYPES and _quality(parameters) > 0:
            return Written(kind, has_header=parameters.get("header") == "present")
    raise NotAcceptable(f"Accept is {accept[:_SHOWN_CHARS].decode('latin-1')!r}; this path answers {', '.join(TYPES)}")


def _media_type(text: str) -> tuple[str, dict[str, str]]:
    name, *parts = text.split(";")
    pairs = (part.partition("=") for part in parts)
    return name.strip().lower(), {key.strip().lower(): value.strip().strip('"').lower() for key, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
