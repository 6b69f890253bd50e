"""Rows to learn from, as a training script reads them from a file.

The file is Parquet and has three columns, so that no input's name is in the way: ``time`` (when the row was answered),
``features`` (a struct of the inputs, missing values null) and ``label`` (text of a classifier, a number of a regressor). Its
schema's metadata holds the rows' lineage as JSON under ``lineage``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import RetrainingError
from ekiben.model.spec import InputSpec, ModelSpec

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]

_LINEAGE_KEY: Final = b"lineage"


@dataclass(frozen=True)
class Rows:
    """Rows as arrays.

    Attributes:
        columns: One array an input: ``[n]``, ``[n, *shape]`` of a tensor; see `InputSpec`.
        target: ``[n]``: labels as text, or float64.
        times: ``[n]`` datetime64[us], UTC, rising.
        lineage: Where they are from.
    """

    columns: Mapping[str, Array]
    target: Array
    times: Array
    lineage: Mapping[str, Any]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.target)

    def fingerprint(self) -> str:
        """The SHA-256 of all values and the columns' names, hexadecimal."""
        from hashlib import sha256  # noqa: PLC0415  only a training pays for it

        digest = sha256()
        for name, column in {**self.columns, "(target)": self.target, "(times)": self.times.astype(np.int64)}.items():
            digest.update(f"{name} {column.dtype} {column.shape}\n".encode())
            digest.update("\0".join(column.tolist()).encode() if column.dtype == object else np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def write_rows(file: Path, table: pa.Table, lineage: Mapping[str, Any]) -> None:
    """Writes rows for a training script."""
    import pyarrow.parquet as pq  # noqa: PLC0415  as above

    pq.write_table(table.replace_schema_metadata({_LINEAGE_KEY: msgspec.json.encode(dict(lineage))}), file, compression="zstd")


def read_rows(file: Path, spec: ModelSpec) -> Rows:
    """Reads the rows that a training script is to learn from.

    Args:
        file: What `write_rows` wrote.
        spec: The spec of the model that is trained: its inputs must be among the file's.

    Raises:
        RetrainingError: It is no such file, or lacks an input.
    """
    import pyarrow as pa  # noqa: PLC0415  as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        table = pq.read_table(file, use_threads=False)
    except (OSError, pa.ArrowException) as e:
        raise RetrainingError(f"{file} cannot be read as Parquet: {e}") from e
    if not {"time", "features", "label"} <= set(table.column_names):
        raise RetrainingError(f"{file} has the columns {', '.join(table.column_names)}; it must have time, features and label")
    return rows_of(table, spec)


def rows_of(table: pa.Table, spec: ModelSpec) -> Rows:
    """The rows of a window's table as arrays.

    Raises:
        RetrainingError: An input is not there, or of a type that it cannot be.
    """
    fields = fields_of(table["features"])
    absent = [item.name for item in spec.inputs if item.name not in fields]
    if absent:
        raise RetrainingError(f"{spec.name} has an input {absent[0]!r}, which the rows have not; they have {', '.join(fields)}")
    columns = {item.name: _column(fields[item.name], item) for item in spec.inputs}
    target = table["label"].to_numpy()
    lineage = (table.schema.metadata or {}).get(_LINEAGE_KEY, b"{}")
    return Rows(
        columns,
        target.astype(object) if spec.is_classifier else target.astype(np.float64),
        table["time"].to_numpy().astype("datetime64[us]"),
        msgspec.json.decode(lineage),
    )


def fields_of(column: pa.ChunkedArray) -> dict[str, Any]:
    """The fields of a column of structs by name, null where the struct is."""
    struct = one_chunk(column)
    return dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))


def one_chunk(column: pa.ChunkedArray) -> Any:
    """A column as one array."""
    import pyarrow as pa  # noqa: PLC0415  as above

    combined = column.combine_chunks()
    return combined if not isinstance(combined, pa.ChunkedArray) else pa.concat_arrays(combined.chunks)


def _column(array: Any, item: InputSpec) -> Array:
    """An input's column in the type that the signature gives it."""
    import pyarrow as pa  # noqa: PLC0415  as above

    dtype = np.dtype(item.array_dtype)
    try:
        if item.type == "tensor":
            return array.flatten().to_numpy(zero_copy_only=False).astype(dtype).reshape(len(array), *(item.shape or ()))  # type: ignore[no-any-return]
        if item.type == "string":
            column = np.empty(len(array), object)
            column[:] = ["" if value is None else value for value in array.cast(pa.string()).to_pylist()]
            return column
        numbers = array.cast(pa.from_numpy_dtype(dtype), safe=False)
        return numbers.to_numpy(zero_copy_only=False).astype(dtype)  # type: ignore[no-any-return]
    except (pa.ArrowException, ValueError) as e:
        raise RetrainingError(f"the input {item.name!r} of the rows is {array.type}, which is no {item.type}: {e}") from e
