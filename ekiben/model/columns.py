"""One input's values: how they become a column, and what they must be.

The signature uses these for every input in turn. A value that breaks a rule becomes a fault of its row, and a neutral
value stands in its place, so that no bad row changes how its neighbours are read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest, InvalidRows, RowError
from ekiben.model.spec import InputSpec

Array = npt.NDArray[Any]

_SHOWN_CHARS = 60
_SHOWN_CATEGORIES = 12
_INT64 = np.iinfo(np.int64)
_MOST_BYTES_WITH_FAULTS = 64 * 1024 * 1024


def rule_of(item: InputSpec) -> str:
    """What a value of this input must be, in words."""
    if item.type == "tensor":
        shape = ", ".join("any" if d == -1 else str(d) for d in item.shape or ())
        what = f"a tensor of {item.dtype} with shape [{shape}]"
    elif item.type == "string" and item.categories is not None:
        rest = len(item.categories) - _SHOWN_CATEGORIES
        shown = ", ".join(item.categories[:_SHOWN_CATEGORIES]) + (f" … ({rest} more)" if rest > 0 else "")
        what = "a string" if item.unknown == "allow" else f"one of {shown}"
    else:
        what = {"bool": "true or false", "int": "an integer", "float": "a finite number", "string": "a string"}[item.type]
    if item.min is not None and item.max is not None:
        what += f" between {item.min:.15g} and {item.max:.15g}"
    elif item.min is not None:
        what += f" of at least {item.min:.15g}"
    elif item.max is not None:
        what += f" of at most {item.max:.15g}"
    return f"must be {what}" + (" or null" if item.nullable else "")


def value_type(item: InputSpec) -> Any:
    """The type of one value in a row, as msgspec checks it."""
    if item.type != "tensor":
        kind: Any = {"bool": bool, "int": int | float, "float": float, "string": str}[item.type]
        return kind | None if item.nullable else kind
    dtype = str(item.dtype)
    element: Any = bool if dtype == "bool" else str if dtype == "string" else float if dtype.startswith("float") else int
    if item.nullable and element is float:
        element = float | None
    for _ in item.shape or ():
        element = list[element]
    return element


def bounds(item: InputSpec) -> tuple[float, float]:
    """The smallest and largest number of an input: those of the spec, within those of its dtype."""
    dtype = np.dtype(item.array_dtype)
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    low, high = float(info.min), float(info.max)
    return low if item.min is None else max(low, item.min), high if item.max is None else min(high, item.max)


# rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def scalars(item: InputSpec, values: list[Any], faults: list[RowError]) -> Array:
    """Makes a column ``[n]`` of the values of n rows whose structure was checked."""
    if item.type == "string":
        column = np.empty(len(values), object)
        column[:] = ["" if v is None else v for v in values] if item.nullable else values
        return column
    if item.type == "int":
        return _integers(item, values, faults)
    with np.errstate(over="ignore"):
        return np.array(values, item.array_dtype)


def _integers(item: InputSpec, values: list[Any], faults: list[RowError]) -> Array:
    if not item.nullable and (not values or np.array(values).dtype.kind == "i"):
        column = np.array(values, np.int64)
    else:
        # Some are floats (3.0), null, or too large: look at each, so that none changes another.
        column = np.zeros(len(values), item.array_dtype if item.nullable else np.int64)
        for index, value in enumerate(values):
            is_null = value is None or value != value  # noqa: PLR0124  NaN
            if is_null and item.nullable:
                column[index] = np.nan
            elif is_null or not _INT64.min <= value <= _INT64.max or value != int(value):
                faults.append(RowError(index, item.name, shown(value), rule_of(item)))
            else:
                column[index] = int(value)
    info = np.iinfo(item.dtype or "int64")
    return _within(item, column, (column < info.min) | (column > info.max), faults) if info.bits < _INT64.bits else column


def tensor(item: InputSpec, values: list[Any], faults: list[RowError]) -> Array:
    """Makes a column ``[n, *shape]`` of nested lists.

    Raises:
        InvalidRows: Some are wrong, and together with them the column would be very large.
    """
    shape = item.shape or ()
    array = _packed(item, values) if len(shape) == 1 and item.dtype == "float32" else None
    if array is None:
        array = _as_tensor(item, values)
    if array is not None and fits(array.shape[1:], shape):
        return array
    if not values:
        return np.empty((0, *(max(d, 0) for d in shape)), item.array_dtype)
    parts = _parts(item, values)
    # Where a dimension varies, the rows of one request must still agree: the first good one decides.
    found = next((part.shape for part in parts if part is not None and fits(part.shape, shape)), tuple(max(d, 0) for d in shape))
    wrong = [index for index, part in enumerate(parts) if part is None or part.shape != found][: InvalidRows.EXPLAINED]
    faults += [RowError(index, item.name, shown(values[index]), _rule_of_shape(item, parts[index])) for index in wrong]
    # NOTE: one large row among millions of tiny ones would make a column larger than any memory.
    if len(values) * prod(found) * np.dtype(item.array_dtype).itemsize > _MOST_BYTES_WITH_FAULTS:
        raise InvalidRows(faults)
    column = np.full((len(values), *found), "" if item.dtype == "string" else 0, item.array_dtype)
    for index, part in enumerate(parts):
        if part is not None and part.shape == found:
            column[index] = part
    return column


def _parts(item: InputSpec, values: list[Any]) -> list[Array | None]:
    """The rows' tensors, None where one is none; no more of them once so many are wrong that nobody asks for more."""
    parts: list[Array | None] = []
    wrong = 0
    for value in values:
        part = _as_tensor(item, value)
        parts.append(part)
        wrong += part is None or not fits(part.shape, item.shape or ())
        if wrong == InvalidRows.EXPLAINED:
            break
    return parts


def _rule_of_shape(item: InputSpec, part: Array | None) -> str:
    if part is None:
        return rule_of(item)
    same = ", the same for all rows of a request" if fits(part.shape, item.shape or ()) else ""
    return f"{rule_of(item)}{same}; its shape is {list(part.shape)}"


def _packed(item: InputSpec, values: list[Any]) -> Array | None:
    """Vectors of float32, in a third of the time numpy takes to find out what is in a list; None where they are not that."""
    (size,) = item.shape or ()
    try:
        pack = struct.Struct(f"={size}f").pack
        packed = b"".join([pack(*value) for value in values])
    except (struct.error, OverflowError, TypeError):
        return None
    return np.frombuffer(bytearray(packed), np.float32).reshape(-1, size)


def _as_tensor(item: InputSpec, value: Any) -> Array | None:
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, item.array_dtype)
    except (ValueError, OverflowError, TypeError):
        return None
    rest = (item.shape or ())[array.ndim :]
    # An empty list does not show the dimensions inside it; where they are fixed they are known.
    return array.reshape(*array.shape, *rest) if rest and not array.size and min(rest) > 0 else array


# arrays ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cast_column(item: InputSpec, array: Array, faults: list[RowError]) -> Array:
    """Casts an array to the input's dtype and shape; never silently: what a cast would change is refused.

    Raises:
        InvalidRequest: The array's shape or dtype cannot hold such values at all.
    """
    array = _shaped(item, array)
    kind, target = array.dtype.kind, np.dtype(item.array_dtype)
    if item.type == "int":
        return _cast_integers(item, array, faults) if kind in "iuf" else _refuse(item, array)
    if item.type == "bool":
        return _cast_bools(item, array, faults)
    if kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "O": "OUS"}[target.kind]:
        return _refuse(item, array)
    if target.kind == "O":
        return _cast_strings(item, array, faults)
    if target.kind in "iu":
        info = np.iinfo(target)
        return _within(item, array, (array < info.min) | (array > info.max), faults)
    return _cast_floats(array, target)


def _cast_floats(array: Array, target: np.dtype[Any]) -> Array:
    if array.dtype == target:  # as it mostly is; what follows costs more than it looks
        return array
    with np.errstate(over="ignore"):
        return array.astype(target)


def _shaped(item: InputSpec, array: Array) -> Array:
    if item.type != "tensor":
        if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004  [n, 1]
            array = array[:, 0]
        if array.ndim != 1:
            raise InvalidRequest(f"input {item.name!r} must have the shape [rows] or [rows, 1], got {list(array.shape)}")
    elif array.ndim == 0 or not fits(array.shape[1:], item.shape or ()):
        raise InvalidRequest(f"input {item.name!r} {rule_of(item)} behind the rows' dimension, got the shape {list(array.shape)}")
    return array


def _refuse(item: InputSpec, array: Array) -> Array:
    raise InvalidRequest(f"input {item.name!r} {rule_of(item)}; an array of {array.dtype} does not hold such values")


def _cast_integers(item: InputSpec, array: Array, faults: list[RowError]) -> Array:
    if array.dtype == item.array_dtype and array.dtype.kind == "i":
        return array
    info = np.iinfo(item.dtype or "int64")
    if array.dtype.kind == "f":
        # NOTE: float(info.max) of int64 rounds up to 2**63, which is out of range: hence "<", and + 1 for both dtypes.
        whole = (array == np.trunc(array)) & (array >= float(info.min)) & (array < float(info.max) + 1)
        return _within(item, array, ~(whole | np.isnan(array)) if item.nullable else ~whole, faults)
    return _within(item, array, (array < info.min) | (array > info.max), faults)


def _cast_bools(item: InputSpec, array: Array, faults: list[RowError]) -> Array:
    if array.dtype.kind == "b":
        return array.astype(item.array_dtype, copy=False)
    if not item.nullable or array.dtype.kind != "f":
        return _refuse(item, array)
    return _within(item, array, ~((array == 0) | (array == 1) | np.isnan(array)), faults)


def _within(item: InputSpec, array: Array, bad: Array, faults: list[RowError]) -> Array:
    """Casts to the input's dtype; elements marked bad become 0, and a fault of their row."""
    if bad.any():
        rule = rule_of(item)
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        faults += [RowError(int(n), item.name, _first(array[n], bad[n]), rule) for n in rows]
        array = np.where(bad, np.zeros((), array.dtype), array)
    return array.astype(item.array_dtype, copy=False)


def _cast_strings(item: InputSpec, array: Array, faults: list[RowError]) -> Array:
    values = array.reshape(-1).tolist()
    if array.dtype.kind != "O" or set(map(type, values)) - {str}:
        width = max(len(values) // len(array), 1) if len(array) else 1
        for index, value in enumerate(values):
            text = _text(value)
            if text is None and not (value is None and item.nullable):
                faults.append(RowError(index // width, item.name, shown(value), rule_of(item)))
            values[index] = text or ""
    flat = np.empty(len(values), object)
    flat[:] = values
    return flat.reshape(array.shape)


def _text(value: Any) -> str | None:
    try:
        value = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return None
    return value if isinstance(value, str) else None


# values ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def concatenate(arrays: Sequence[Array]) -> Array:
    """Joins arrays of one dtype along their rows.

    NOTE: numpy's own gives the interpreter away at each array of some size, and has to win it back from the event loop
    each time; this one copy holds it.
    """
    first = arrays[0]
    if first.dtype.kind == "O" or any(a.dtype != first.dtype for a in arrays):
        return np.concatenate(arrays)
    try:
        joined = bytearray().join(arrays)  # type: ignore[arg-type]  # arrays are buffers, which numpy's types do not say
    except BufferError:
        joined = bytearray().join([np.ascontiguousarray(a).data for a in arrays])
    return np.frombuffer(joined, first.dtype).reshape(sum(map(len, arrays)), *first.shape[1:])


def check_column(item: InputSpec, column: Array) -> list[RowError]:
    """Checks ranges, categories and finiteness: one fault for each row that breaks the rule."""
    if column.dtype.kind == "O":
        return _check_lengths(item, column) or _check_categories(item, column)
    if column.dtype.kind == "b" or (column.dtype.kind in "iu" and item.min is None and item.max is None):
        return []
    if item.type == "tensor" and item.min is None and item.max is None and column.dtype.kind == "f":
        # x·x is finite only where every x is: one pass. Overflow of a large square only leads to the exact check.
        flat = column.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return []
    low, high = bounds(item)
    # NOTE: in the column's own precision: 0.1 as float32 is above 0.1, and must not exceed a maximum of 0.1.
    low, high = (column.dtype.type(low), column.dtype.type(high)) if column.dtype.kind == "f" else (low, high)
    ok = (column >= low) & (column <= high)
    if ok.all():
        return []
    if item.nullable:
        ok |= np.isnan(column)
    bad_rows = np.flatnonzero(~ok.reshape(len(ok), -1).all(axis=1))
    return [RowError(int(n), item.name, _first(column[n], ~ok[n]), rule_of(item)) for n in bad_rows]


def _check_lengths(item: InputSpec, column: Array) -> list[RowError]:
    values = column.reshape(-1).tolist()
    if max(map(len, values), default=0) <= item.max_length:
        return []
    width = max(len(values) // len(column), 1)
    first_long = {n // width: value for n, value in reversed(list(enumerate(values))) if len(value) > item.max_length}
    return [
        RowError(row, item.name, shown(value), f"must have at most {item.max_length} characters; it has {len(value)}")
        for row, value in sorted(first_long.items())
    ]


def _check_categories(item: InputSpec, column: Array) -> list[RowError]:
    if item.categories is None or item.unknown == "allow":
        return []
    known = {*item.categories, ""} if item.nullable else set(item.categories)
    values = column.tolist()
    if known.issuperset(values):
        return []
    return [RowError(n, item.name, shown(v), rule_of(item)) for n, v in enumerate(values) if v not in known]


def fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is the wanted one, -1 standing for any dimension."""
    return len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True))


# values in messages ──────────────────────────────────────────────────────────────────────────────────────────────────


def number(value: Any) -> Any:
    """A numpy number as a JSON-safe one: NaN and the infinities as text."""
    plain = value.item()
    return plain if plain == plain and abs(plain) != float("inf") else str(plain)  # noqa: PLR0124  NaN


def _first(value: Array, bad: Array) -> Any:
    """The first bad element of one row."""
    return number(value[bad].reshape(-1)[0] if np.ndim(value) else value)


def shown(value: Any) -> Any:
    """A value as messages show it: JSON-safe, and shortened where it is long."""
    if isinstance(value, bool | int | float | None):
        is_plain = not isinstance(value, float) or abs(value) < float("inf")
        return value if is_plain and len(str(value)) <= _SHOWN_CHARS else str(value)[:_SHOWN_CHARS]
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def listed(names: Sequence[str]) -> str:
    """Names as messages list them, not too many."""
    return ", ".join(names[: _SHOWN_CATEGORIES * 3]) + (" …" if len(names) > _SHOWN_CATEGORIES * 3 else "")
