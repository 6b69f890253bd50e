"""CSV both ways: cells are typed by the signature, and an empty cell is null.

In: with or without a header line. Without one, cells stand in the order of the inputs; a model whose only input is a tensor of
fixed shape takes its elements one after the other, the last dimension first. Out: one line a row, one column a scalar.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np

from ekiben.errors import InvalidRequest, InvalidRows, RowError, UnsupportedMediaType
from ekiben.model.columns import listed, shown
from ekiben.model.signature import Rows, Signature
from ekiben.model.spec import InputSpec
from ekiben.serving.batch_run import Answer
from ekiben.serving.rest.platform_json import named

_BOOLS: Final = {"true": True, "1": True, "false": False, "0": False}


class CsvReader:
    """Reads the rows of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._inputs = signature.inputs
        self._by_name = {item.name: item for item in signature.inputs}
        self._tensor = signature.inputs[0] if len(signature.inputs) == 1 and signature.has_tensors else None
        shape = self._tensor.shape or () if self._tensor is not None else ()
        self._is_readable = not signature.has_tensors or (self._tensor is not None and -1 not in shape)
        self._n_elements = math.prod(shape)

    def read(self, body: bytes, header: str | None) -> Rows:
        """The rows of a body.

        Args:
            body: UTF-8, with or without a byte order mark.
            header: ``present`` or ``absent``; None where the client does not say. Then the first line is a header when one of
                its cells is the name of an input.

        Raises:
            InvalidRequest: It is not CSV, or has columns that are no inputs.
            InvalidRows: Rows break the signature.
            UnsupportedMediaType: The model's inputs do not fit in cells.
        """
        if not self._is_readable:
            raise UnsupportedMediaType(
                f"CSV holds no tensors of several inputs or open shapes, which are {listed(self._signature.names)}; send JSON"
            )
        lines = _cells(body)
        first = [cell.strip() for cell in lines[0]] if lines else []
        if header == "present" or (header is None and not self._by_name.keys().isdisjoint(first)):
            return self._signature.parse_rows(self._under_header(first, lines[1:]))
        return self._signature.parse_rows(self._elements(lines) if self._tensor is not None else self._in_order(lines))

    def _in_order(self, lines: list[list[str]]) -> list[Any]:
        size = len(self._inputs)
        _check_widths(lines, size, f"must have {size} cells, in this order: {listed(self._signature.names)}")
        columns = [_typed(item, cells) for item, cells in zip(self._inputs, zip(*lines, strict=True), strict=bool(lines))]
        return [list(row) for row in zip(*columns, strict=True)]

    def _under_header(self, names: list[str], lines: list[list[str]]) -> list[Any]:
        unknown = [name for name in names if name not in self._by_name]
        if unknown:
            hint = " (is it an index? leave it out)" if not unknown[0] else ""
            raise InvalidRequest(f"column {unknown[0]!r} is not an input{hint}; the inputs are {listed(self._signature.names)}")
        if self._tensor is not None:
            raise InvalidRequest(f"input {self._tensor.name!r} is a tensor: send its elements without a header line")
        _check_widths(lines, len(names), f"must have {len(names)} cells, one a column: {listed(names)}")
        columns = [_typed(self._by_name[name], cells) for name, cells in zip(names, zip(*lines, strict=True), strict=bool(lines))]
        return named(names, [list(row) for row in zip(*columns, strict=True)])

    def _elements(self, lines: list[list[str]]) -> list[Any]:
        """The tensor of each line, as nested lists."""
        item = self._tensor
        assert item is not None
        shape = item.shape or ()
        _check_widths(lines, self._n_elements, f"must have {self._n_elements} cells, the elements of a tensor of shape {list(shape)}")
        convert = _converter(str(item.dtype))
        return [_nested([convert(cell) for cell in cells], shape) for cells in lines]


def _cells(body: bytes) -> list[list[str]]:
    """The lines that are not empty."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InvalidRequest(f"the body is not UTF-8: {e.reason} at byte {e.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [line for line in reader if line]
    except csv.Error as e:
        raise InvalidRequest(f"the body is not CSV: {e} in line {reader.line_num}") from None


def _check_widths(lines: list[list[str]], size: int, rule: str) -> None:
    wrong = (
        RowError(n, None, shown(",".join(cells)), f"{rule}; it has {len(cells)}") for n, cells in enumerate(lines) if len(cells) != size
    )
    if faults := list(islice(wrong, InvalidRows.EXPLAINED)):
        raise InvalidRows(faults)


def _typed(item: InputSpec, cells: Sequence[str]) -> list[Any]:
    """The values of a column; a cell that is none stays text, for the signature to refuse."""
    if item.type == "string":
        return [cell or None for cell in cells] if item.nullable else list(cells)
    convert = _converter(item.type)
    return [convert(cell) for cell in cells]


def _converter(kind: str) -> Callable[[str], Any]:
    if kind == "string":
        return str
    if kind == "bool":
        return lambda cell: _BOOLS.get(cell.strip().lower(), cell or None)
    return _float if kind.startswith("float") else _integer


def _float(cell: str) -> float | str | None:
    # NOTE: Python reads 1_000 as a number, which no other reader of CSV does.
    try:
        return float(cell) if "_" not in cell else cell
    except ValueError:
        return cell if cell.strip() else None


def _integer(cell: str) -> int | float | str | None:
    try:
        return int(cell) if "_" not in cell else cell
    except ValueError:
        return _float(cell)


def _nested(values: list[Any], shape: Sequence[int]) -> Any:
    """A flat list in a shape, without numpy, which would make text of all values where one is."""
    for size in reversed(shape[1:]):
        values = [values[n : n + size] for n in range(0, len(values), size)] if size else []
    return values if shape else values[0]


# answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_csv(answer: Answer, labels: Sequence[str], *, header: bool) -> bytes:
    """The outputs as CSV.

    Args:
        answer: What was predicted.
        labels: Names of the columns of ``probabilities``.
        header: Whether to begin with a line of names; SageMaker's Batch Transform joins lines, and needs one a row.
    """
    names: list[str] = []
    columns: list[list[Any]] = []
    for name, array in answer.tensors().items():
        for suffix, column in _columns(np.asarray(array), labels if name == "probabilities" else ()):
            names.append(f"{name}{suffix}")
            columns.append(column)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue().encode()


def _columns(array: np.ndarray[Any, Any], labels: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    if array.ndim == 1:
        yield "", [_cell(value) for value in array.tolist()]
        return
    flat = array.reshape(len(array), -1)
    for n in range(flat.shape[1]):
        yield f".{labels[n] if labels else n}", [_cell(value) for value in flat[:, n].tolist()]


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return value
    return json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)
