"""Rows in JSON, in each form that a hosting platform's clients send.

| form | whose |
|---|---|
| ``{"instances": [row, …]}``, ``[row, …]`` | Vertex AI, KServe, TensorFlow Serving; SageMaker |
| ``{"dataframe_records": [row, …]}``, ``{"dataframe_split": {"columns": […], "data": […]}}`` | MLflow, Databricks |
| ``{"inputs": {name: [value, …]}}``, ``{"inputs": [row, …]}`` | MLflow, TensorFlow Serving's columns |
| ``{"input_data": …}`` as a split frame, columns or rows; ``{"data": [row, …]}`` | Azure ML |
| one row a line | SageMaker's JSON Lines |

What stands beside the form (``parameters``, ``params``, ``signature_name``, …) is not read: models here take none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from ekiben.errors import InvalidRequest, InvalidRows, RowError
from ekiben.model.columns import listed, shown
from ekiben.model.signature import Rows, Signature
from ekiben.serving.rest.codec import untyped

BARE_FORMS: Final = frozenset({"input_data", "data"})
"""Forms whose platform is answered with the list of predictions alone."""

_ROWS: Final = ("instances", "dataframe_records", "data")
_OTHERS: Final = ("dataframe_split", "inputs", "input_data")
_FORMS: Final = (*_ROWS, *_OTHERS)
_FRAME: Final = frozenset({"columns", "index", "data"})
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_SPACE: Final = b" \t\r\n"


class JsonReader:
    """Reads the rows of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        row_type: Any = signature.row_type
        unset = msgspec.UnsetType
        rows = [(name, list[row_type] | unset, msgspec.UNSET) for name in _ROWS]
        others = [(name, msgspec.Raw | unset, msgspec.UNSET) for name in _OTHERS]
        request_type = msgspec.defstruct("PlatformRequest", [*rows, *others, ("id", str | int | None, None)])
        self._decode = msgspec.json.Decoder(request_type).decode
        self._decode_list = msgspec.json.Decoder(list[row_type]).decode
        self._decode_lines = msgspec.json.Decoder(row_type).decode_lines

    def read(self, body: bytes) -> tuple[Rows, str | None, str]:
        """The rows of a body, its id, and its form (``""`` where it is a bare list).

        Raises:
            InvalidRequest: It is not JSON in exactly one of the forms.
            InvalidRows: Rows break the signature.
        """
        if body.lstrip(_SPACE)[:1] == b"[":
            return self._checked(self._decode_list, body, lambda rows: rows), None, ""
        try:
            request: Any = self._decode(body)
        except _FAULTS as e:
            return self._slowly(body, e)
        forms = [name for name in _FORMS if getattr(request, name) is not msgspec.UNSET]
        if len(forms) != 1:
            raise InvalidRequest(_one_form(forms))
        form = forms[0]
        found = getattr(request, form)
        if form in _OTHERS:
            found = self._parsed(_READ[form](untyped(bytes(found))))
        return found, None if request.id is None else str(request.id), form

    def read_lines(self, body: bytes) -> Rows:
        """The rows of JSON Lines; empty lines are skipped.

        Raises:
            InvalidRequest: A line is not JSON.
            InvalidRows: Rows break the signature.
        """
        return self._checked(self._decode_lines, body, _lines)

    def _checked(self, decode: Callable[[bytes], Rows], body: bytes, slowly: Callable[[Any], Any]) -> Rows:
        try:
            return decode(body)
        except _FAULTS as e:
            rows = slowly(body) if slowly is _lines else untyped(body)
            raise self._fault(rows, e) from None

    def _slowly(self, body: bytes, error: Exception) -> tuple[Rows, str | None, str]:
        """Says exactly why a body has none of the forms."""
        request = untyped(body)
        forms = [name for name in _FORMS if name in request] if isinstance(request, dict) else []
        if len(forms) != 1:
            raise InvalidRequest(_one_form(forms)) from None
        rows = request[forms[0]]
        if forms[0] in _ROWS and not isinstance(rows, list):
            raise InvalidRequest(f'"{forms[0]}" must be a list of rows, each an object or a list of values') from None
        raise self._fault(rows if forms[0] in _ROWS else [], error) from None

    def _parsed(self, rows: list[Any]) -> Rows:
        try:
            return self._signature.parse_rows(rows)
        except RecursionError:  # showing a value takes a little more than reading it
            raise InvalidRequest("the body is nested too deeply") from None

    def _fault(self, rows: Any, error: Exception) -> InvalidRequest | InvalidRows:
        try:
            faults = self._signature.explain(rows)
        except RecursionError:  # as above
            return InvalidRequest("the body is nested too deeply")
        return InvalidRows(faults) if faults else InvalidRequest(f"the body is not a valid request: {error}")


def _one_form(found: Sequence[str]) -> str:
    if len(found) > 1:
        return f"the body has {' and '.join(found)}; give one of them"
    return f'the body must be a list of rows, or an object with one of {", ".join(_FORMS)}: {{"instances": [row, …]}}'


def _lines(body: bytes) -> list[Any]:
    rows = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip(_SPACE):
            try:
                rows.append(untyped(line))
            except InvalidRequest as e:
                raise InvalidRequest(f"line {number}: {str(e).replace('the body', 'it')}") from None
    return rows


def _split_frame(frame: Any) -> list[Any]:
    """The rows of a data frame split into columns, index and data; without columns they are in the signature's order."""
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
        raise InvalidRequest('a split frame must be an object {"columns": [name, …], "data": [[value, …], …]}')
    columns: Any = frame.get("columns")
    data: list[Any] = frame["data"]
    if columns is None:
        return data
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise InvalidRequest(f'"columns" must be a list of names, got {shown(columns)}')
    return named(columns, data)


def named(columns: Sequence[str], data: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows of values under the names of columns.

    Raises:
        InvalidRequest: A name is there twice.
        InvalidRows: A row is not a list of as many values.
    """
    if len(set(columns)) < len(columns):
        twice = next(name for n, name in enumerate(columns) if name in columns[:n])
        raise InvalidRequest(f"column {twice!r} is there twice")
    size = len(columns)
    rule = f"must be a list of {size} values, one a column: {listed(columns)}"
    wrong = (RowError(n, None, shown(row), rule) for n, row in enumerate(data) if not isinstance(row, list) or len(row) != size)
    if faults := list(islice(wrong, InvalidRows.EXPLAINED)):
        raise InvalidRows(faults)
    return [dict(zip(columns, row, strict=True)) for row in data]


def _inputs(inputs: Any) -> list[Any]:
    """Rows as they are, or out of columns; an object of no lists is one row."""
    if isinstance(inputs, list):
        return inputs
    if not isinstance(inputs, dict):
        raise InvalidRequest(f'"inputs" must be an object {{name: [value, …]}} or a list of rows, got {shown(inputs)}')
    if not any(isinstance(column, list) for column in inputs.values()):
        return [inputs]
    sizes = {name: len(column) if isinstance(column, list) else None for name, column in inputs.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidRequest(f"columns must all be lists of one length, got {shown(sizes)}")
    return [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]


def _input_data(data: Any) -> list[Any]:
    return _split_frame(data) if isinstance(data, dict) and "data" in data and _FRAME.issuperset(data) else _inputs(data)


_READ: Final = {"dataframe_split": _split_frame, "inputs": _inputs, "input_data": _input_data}
