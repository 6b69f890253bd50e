"""Tensors as the Open Inference Protocol sends them in bytes: little-endian, row-major, without padding.

An element of BYTES is its length in four bytes and then itself. BF16, the upper half of a float32, has no numpy type: it is
read as float32, and never written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest
from ekiben.serving.datatypes import NUMPY_OF

Array = npt.NDArray[Any]
Buffer = bytes | memoryview

MAX_DIMENSIONS: Final = 16
MAX_DIMENSION: Final = 2**31 - 1
_SHOWN_CHARS: Final = 200
_BF16: Final = "BF16"
_LENGTH: Final = Struct("<I")
_DTYPES: Final = {name: np.dtype(dtype) for name, dtype in NUMPY_OF.items()}


def count_of(name: str, shape: Sequence[int]) -> int:
    """The number of elements in a tensor of a shape.

    Raises:
        InvalidRequest: It is no shape.
    """
    if len(shape) > MAX_DIMENSIONS or (shape and (min(shape) < 0 or max(shape) > MAX_DIMENSION)):
        raise InvalidRequest(
            f"input {name!r} has the shape {str(list(shape))[:_SHOWN_CHARS]}; "
            f"dimensions are 0 to {MAX_DIMENSION}, {MAX_DIMENSIONS} of them at most"
        )
    return math.prod(shape)


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """The numpy dtype of a datatype that has one.

    Raises:
        InvalidRequest: There is no such datatype.
    """
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise InvalidRequest(f"input {name!r} has the datatype {datatype[:_SHOWN_CHARS]!r}; there are {', '.join(NUMPY_OF)}")
    return dtype


def from_raw(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Array:
    """A tensor from its bytes; a view of them, not a copy, where they are aligned.

    Raises:
        InvalidRequest: Datatype, shape and number of bytes do not fit each other.
    """
    count = count_of(name, shape)
    if datatype == _BF16:
        halves = _numbers(name, shape, count, np.dtype(np.uint16), data)
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    dtype = dtype_of(name, datatype)
    if dtype.kind == "O":
        return _strings(name, shape, count, data)
    array = _numbers(name, shape, count, dtype, data)
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise InvalidRequest(f"input {name!r} has bytes other than 0 and 1, which are the values of BOOL")
    return array


def _numbers(name: str, shape: Sequence[int], count: int, dtype: np.dtype[Any], data: Buffer) -> Array:
    if len(data) != count * dtype.itemsize:
        wanted = count * dtype.itemsize
        raise InvalidRequest(f"input {name!r} has {len(data)} bytes; its shape {list(shape)} and datatype take {wanted}")
    array = np.frombuffer(data, dtype)
    return reshaped(name, array if array.flags.aligned else array.copy(), shape)


def reshaped(name: str, array: Array, shape: Sequence[int]) -> Array:
    """The array in a shape of as many elements.

    Raises:
        InvalidRequest: numpy has no such shape: it can be too large although it is empty, like ``[0, 2000000000, 2000000000]``.
    """
    try:
        return array.reshape(shape)
    except ValueError:
        raise InvalidRequest(f"input {name!r} has the shape {list(shape)}, which is too large") from None


def _strings(name: str, shape: Sequence[int], count: int, data: Buffer) -> Array:
    """Strings; what is not UTF-8 stays bytes, for the signature to name its row."""
    data = bytes(data)
    size, at = len(data), 0
    values: list[Any] = []
    while at < size:
        end = at + 4 if size - at < _LENGTH.size else at + 4 + _LENGTH.unpack_from(data, at)[0]
        if end > size or len(values) == count:
            break
        values.append(text_of(data[at + 4 : end]))
        at = end
    if at != size or len(values) != count:
        raise InvalidRequest(
            f"input {name!r} has {size} bytes, which are not the {count} elements of its shape {list(shape)}, "
            "each its length in 4 bytes and then itself"
        )
    return reshaped(name, object_array(values), shape)


def text_of(value: bytes) -> str | bytes:
    """Bytes as text, where they are UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def object_array(values: Sequence[Any]) -> Array:
    """A vector of Python objects, which numpy is kept from looking into."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def to_raw(array: Array) -> bytes:
    """The bytes of a tensor."""
    if array.dtype.kind not in "OUS":
        return array.tobytes()
    pack = _LENGTH.pack
    parts: list[bytes] = []
    for value in array.reshape(-1).tolist():
        encoded = value if isinstance(value, bytes) else str(value).encode()
        parts += (pack(len(encoded)), encoded)
    return b"".join(parts)
