"""Named, typed inputs: rows and columns in, validated arrays out.

Two checks, each written once for every way of running:

* **structure** (is there a value for each input, of the right type?) is a msgspec type made from the inputs, so that JSON
  is decoded and checked in one pass, and Python rows pass through the same type;
* **values** (ranges, categories, finite numbers) are checked on the arrays of a whole batch at once, whatever requests
  its rows came from. A row that breaks a rule is reported by its index; its neighbours are not touched.

`InputSpec` says which unusual values are refused and what the others become.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest, InvalidRows, RowError
from ekiben.model.columns import bounds, cast_column, check_column, concatenate, listed, number, rule_of, scalars, shown, tensor, value_type
from ekiben.model.spec import InputSpec

Array = npt.NDArray[Any]
Row = Any  # an instance of Signature.row_type: a Struct, a tuple, or the nested list of a single tensor
Rows = list[Row]

_astuple = msgspec.structs.astuple


class Batch:
    """Arrays of n rows.

    Attributes:
        n: Number of rows.
        columns: One array an input, in the signature's order: ``[n]`` for a scalar, ``[n, *shape]`` for a tensor.
        matrix: ``[n, inputs]`` when all inputs are scalars of one numeric type (the columns are then views of it), else None.
        faults: What was found wrong while the arrays were made; `Signature.check` reports it with the rest.
    """

    __slots__ = ("_columns", "_names", "faults", "matrix", "n")

    def __init__(
        self,
        n: int,
        columns: dict[str, Array] | None,
        *,
        matrix: Array | None = None,
        names: Sequence[str] = (),
        faults: Sequence[RowError] = (),
    ) -> None:
        self.n = n
        self.matrix = matrix
        self.faults = faults
        self._columns = columns
        self._names = names

    @property
    def columns(self) -> dict[str, Array]:
        """The arrays by name; made of the matrix when first asked for."""
        if self._columns is None:
            assert self.matrix is not None
            self._columns = {name: self.matrix[:, i] for i, name in enumerate(self._names)}
        return self._columns

    def take(self, rows: slice | Array) -> Batch:
        """The rows given by a slice or by an array of indices; a slice makes views, not copies."""
        faults = self._faults_of(rows) if self.faults else ()
        if self.matrix is not None:
            matrix = self.matrix[rows]
            return Batch(len(matrix), None, matrix=matrix, names=self._names, faults=faults)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Batch(len(next(iter(columns.values()))), columns, faults=faults)

    def _faults_of(self, rows: slice | Array) -> list[RowError]:
        taken = np.arange(self.n)[rows].tolist()
        return [RowError(new, f.field, f.value, f.rule) for new, old in enumerate(taken) for f in self.faults if f.row == old]


Payload = Rows | Batch


def rows_of(payload: Payload) -> int:
    """How many rows there are."""
    return payload.n if isinstance(payload, Batch) else len(payload)


class Signature:
    """The inputs of one model.

    Attributes:
        inputs: Their specs, in order.
        names: Their names, in order.
        row_type: The msgspec type of one row: an object with the inputs' names, or a list in their order. A model whose
            only input is a tensor takes the bare nested list too.
        uniform_dtype: The numpy dtype of `Batch.matrix`, or None when batches are made of columns.
        fixed_shapes: True when rows of any two requests can share a batch.
    """

    def __init__(self, inputs: Sequence[InputSpec]) -> None:
        self.inputs = tuple(inputs)
        self.names = tuple(i.name for i in inputs)
        self.has_tensors = any(i.type == "tensor" for i in inputs)
        self.fixed_shapes = not any(-1 in (i.shape or ()) for i in inputs)
        dtypes = {i.array_dtype for i in inputs}
        is_uniform = (
            not self.has_tensors and len(dtypes) == 1 and dtypes <= {"float32", "float64"} and all(i.type == "float" for i in inputs)
        )
        self.uniform_dtype = np.dtype(dtypes.pop()) if is_uniform else None
        self._types = tuple(value_type(i) for i in inputs)
        self._by_name = {i.name: i for i in inputs}
        self._index = {name: n for n, name in enumerate(self.names)}
        self._is_bare = len(inputs) == 1 and self.has_tensors
        self._bare_dtype = np.dtype(inputs[0].array_dtype) if self._is_bare else None
        self.row_type = self._make_row_type()
        self._rows_type: Any = list.__class_getitem__(self.row_type)
        if self.uniform_dtype is not None:
            limits = [bounds(i) for i in inputs]
            self._low = np.array([b[0] for b in limits], self.uniform_dtype)
            self._high = np.array([b[1] for b in limits], self.uniform_dtype)
            self._nullable = np.array([i.nullable for i in inputs])

    def _make_row_type(self) -> Any:
        # NOTE: fields are f0, f1, … renamed, because an input may be called `input.1`, `x:0` or `class`.
        fields: list[Any] = []
        for n, (item, kind) in enumerate(zip(self.inputs, self._types, strict=True)):
            nullable_scalar = item.nullable and item.type != "tensor"
            fields.append((f"f{n}", kind, None) if nullable_scalar else (f"f{n}", kind))
        struct = msgspec.defstruct(
            "Row", fields, kw_only=True, forbid_unknown_fields=True, rename={f"f{n}": name for n, name in enumerate(self.names)}, gc=False
        )
        as_list: Any = self._types[0] if self._is_bare else tuple.__class_getitem__(self._types)
        return struct | as_list

    # rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def parse_rows(self, rows: Any) -> Rows:
        """Checks the structure of rows made of dicts or lists.

        Raises:
            InvalidRequest: ``rows`` is not a list.
            InvalidRows: A row is; each is named with field, value and rule.
        """
        if not isinstance(rows, list | tuple):
            raise InvalidRequest(f"rows must be a list of objects or lists, got {shown(rows)}")
        try:
            return msgspec.convert(rows, self._rows_type)  # type: ignore[no-any-return]
        except (msgspec.ValidationError, OverflowError) as e:
            raise InvalidRows(self.explain(rows) or [RowError(0, None, shown(rows), str(e))]) from None

    def explain(self, rows: Sequence[Any]) -> list[RowError]:
        """Says what is wrong with the structure of rows that failed `row_type`; slow, and exact.

        It stops once it has found ``InvalidRows.EXPLAINED`` problems, or a few more of one row.
        """
        faults: list[RowError] = []
        for index, row in enumerate(rows):
            try:
                msgspec.convert(row, self.row_type)
            except (msgspec.ValidationError, OverflowError):
                faults += self._explain_row(index, row)
            if len(faults) >= InvalidRows.EXPLAINED:
                break
        return faults

    def _explain_row(self, index: int, row: Any) -> list[RowError]:
        if isinstance(row, dict):
            unknown = list(islice((name for name in row if name not in self._by_name), InvalidRows.EXPLAINED))
            faults = [
                RowError(index, str(name), shown(row[name]), f"is not an input; the inputs are {listed(self.names)}") for name in unknown
            ]
            values = [(item, kind, row[item.name]) for item, kind in zip(self.inputs, self._types, strict=True) if item.name in row]
            faults += [
                RowError(index, item.name, None, f"is required: {rule_of(item)}")
                for item in self.inputs
                if item.name not in row and (not item.nullable or item.type == "tensor")
            ]
        elif self._is_bare:
            faults, values = [], [(self.inputs[0], self._types[0], row)]
        elif isinstance(row, list | tuple):
            if len(row) != len(self.inputs):
                return [
                    RowError(
                        index,
                        None,
                        shown(row),
                        f"must have {len(self.inputs)} values, in this order: {listed(self.names)}; it has {len(row)}",
                    )
                ]
            faults, values = [], list(zip(self.inputs, self._types, row, strict=True))
        else:
            return [RowError(index, None, shown(row), "must be an object or a list")]
        for item, kind, value in values:
            try:
                msgspec.convert(value, kind)
            except (msgspec.ValidationError, OverflowError):
                faults.append(RowError(index, item.name, shown(value), rule_of(item)))
        return faults

    # arrays ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def batch(self, rows: Rows) -> Batch:
        """Makes arrays of parsed rows.

        A value that its column cannot hold (3.5 as an int, a tensor of another shape) becomes one of the batch's faults.
        """
        is_struct = msgspec.Struct
        if self._is_bare:
            bare = [_astuple(row)[0] if isinstance(row, is_struct) else row for row in rows]
            faults: list[RowError] = []
            return Batch(len(rows), {self.names[0]: tensor(self.inputs[0], bare, faults)}, faults=faults)
        tuples = [_astuple(row) if isinstance(row, is_struct) else row for row in rows]
        if self.uniform_dtype is not None:
            with np.errstate(over="ignore"):
                matrix = np.array(tuples, self.uniform_dtype).reshape(len(tuples), len(self.names))
            return Batch(len(tuples), None, matrix=matrix, names=self.names)
        faults = []
        columns: dict[str, Array] = {}
        for n, item in enumerate(self.inputs):
            values = list(map(itemgetter(n), tuples))
            columns[item.name] = tensor(item, values, faults) if item.type == "tensor" else scalars(item, values, faults)
        return Batch(len(tuples), columns, faults=faults)

    def from_columns(self, columns: Mapping[str, Array]) -> Batch:
        """Makes a batch of named arrays: ``[n]`` or ``[n, 1]`` for scalars, ``[n, *shape]`` for tensors.

        A single array ``[n, inputs]``, whatever its name, stands for all inputs in their order when they are numbers.

        Raises:
            InvalidRequest: Names, shapes, types or numbers of rows do not fit the inputs.
        """
        if len(columns) == 1 and not self.has_tensors and len(self.inputs) > 1:
            ((name, array),) = columns.items()
            if name not in self._by_name:
                return self._from_matrix(name, array)
        if self._is_bare and self._fits_as_it_is(columns):
            return Batch(len(columns[self.names[0]]), dict(columns))
        unknown = [name for name in columns if name not in self._by_name]
        if unknown:
            raise InvalidRequest(f"input {unknown[0]!r} does not exist; the inputs are {listed(self.names)}")
        missing = [i.name for i in self.inputs if i.name not in columns]
        if missing:
            raise InvalidRequest(f"input {missing[0]!r} is missing; the inputs are {listed(self.names)}")
        faults: list[RowError] = []
        cast = {item.name: cast_column(item, np.asarray(columns[item.name]), faults) for item in self.inputs}
        sizes = {name: len(column) for name, column in cast.items()}
        if len(set(sizes.values())) > 1:
            raise InvalidRequest(f"inputs must all have the same number of rows, got {sizes}")
        n = next(iter(sizes.values()))
        if self.uniform_dtype is not None:
            return Batch(n, None, matrix=np.column_stack(list(cast.values())), names=self.names)
        return Batch(n, cast, faults=faults)

    def _fits_as_it_is(self, columns: Mapping[str, Array]) -> bool:
        """Whether the only input is given, a tensor of numbers of just its dtype and shape; quickly, as it mostly is."""
        array, (item,) = columns.get(self.names[0]), self.inputs
        if array is None or len(columns) != 1 or array.dtype != self._bare_dtype or array.dtype.kind == "O":
            return False
        return array.ndim > 0 and array.shape[1:] == item.shape

    def _from_matrix(self, name: str, array: Array) -> Batch:
        if array.ndim != 2 or array.shape[1] != len(self.inputs):  # noqa: PLR2004  a matrix
            raise InvalidRequest(
                f"input {name!r} does not exist, and its shape {list(array.shape)} is not that of a matrix of all inputs, "
                f"[rows, {len(self.inputs)}]; the inputs are {listed(self.names)}"
            )
        if self.uniform_dtype is not None and array.dtype == self.uniform_dtype:
            return Batch(len(array), None, matrix=array, names=self.names)
        if self.uniform_dtype is not None and array.dtype.kind in "iuf":
            with np.errstate(over="ignore"):
                return Batch(len(array), None, matrix=array.astype(self.uniform_dtype, copy=False), names=self.names)
        faults: list[RowError] = []
        columns = {item.name: cast_column(item, array[:, n], faults) for n, item in enumerate(self.inputs)}
        return Batch(len(array), columns, faults=faults)

    def as_batch(self, payload: Payload) -> Batch:
        """The payload's arrays, whichever form it came in."""
        return payload if isinstance(payload, Batch) else self.batch(payload)

    def merge(self, payloads: Sequence[Payload]) -> Batch:
        """One batch of the rows of several requests, in their order. Their `shapes` must be equal."""
        rows = [p for p in payloads if not isinstance(p, Batch)]
        if len(rows) == len(payloads):
            return self.batch(list(chain.from_iterable(rows)))
        batches = [self.as_batch(p) for p in payloads]
        if len(batches) == 1:
            return batches[0]
        faults: list[RowError] = []
        n = 0
        for batch in batches:
            faults += [RowError(f.row + n, f.field, f.value, f.rule) for f in batch.faults] if batch.faults else ()
            n += batch.n
        if self.uniform_dtype is not None:
            return Batch(n, None, matrix=concatenate([b.matrix for b in batches if b.matrix is not None]), names=self.names, faults=faults)
        return Batch(n, {name: concatenate([b.columns[name] for b in batches]) for name in self.names}, faults=faults)

    def shapes(self, payload: Payload) -> Any:
        """A key that is equal for payloads which `merge` can join; None where that is always so."""
        if self.fixed_shapes:
            return None
        return tuple(column.shape[1:] for column in self.as_batch(payload).columns.values())

    def key_in(self, payload: Payload, name: str) -> str | None:
        """The first row's value of an input as a routing key; None of no input or row, or where the value is missing or a NaN.

        It is the same in whichever form the row came: 5, 5.0 and the 5.0 that a nullable integer's column holds are one key.
        """
        if not name or rows_of(payload) == 0:
            return None
        if isinstance(payload, Batch):
            value = payload.columns[name][0]
            value = value.item() if isinstance(value, np.generic) else value
        else:
            row = payload[0]
            value = (_astuple(row) if isinstance(row, msgspec.Struct) else row)[self._index[name]]
        if isinstance(value, float):
            with np.errstate(over="ignore"):
                value = float(np.dtype(self._by_name[name].array_dtype).type(value)) if self._by_name[name].type == "float" else value
            value = int(value) if value.is_integer() else value
        elif isinstance(value, bool):
            value = int(value)
        return None if value is None or value != value or value == "" else str(value)  # noqa: PLR0124  a NaN differs from itself

    # values ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, batch: Batch) -> list[RowError]:
        """Checks ranges, categories and finiteness of a batch.

        Returns:
            What is wrong, in the order of rows; empty when all rows may go to the model.
        """
        matrix = batch.matrix
        if matrix is not None:
            # NaN and the infinities fail both comparisons, as the default bounds are the dtype's largest numbers.
            ok = (matrix >= self._low) & (matrix <= self._high)
            if ok.all():
                return list(batch.faults)
            ok |= np.isnan(matrix) & self._nullable
            faults = [RowError(int(r), self.names[c], number(matrix[r, c]), rule_of(self.inputs[c])) for r, c in np.argwhere(~ok)]
            return [*batch.faults, *faults]
        faults = list(batch.faults)
        known_bad = {(f.row, f.field) for f in faults}
        for item in self.inputs:
            faults += [f for f in check_column(item, batch.columns[item.name]) if (f.row, f.field) not in known_bad]
        return sorted(faults, key=lambda f: f.row) if faults else faults
