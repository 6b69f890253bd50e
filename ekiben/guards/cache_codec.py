"""A remembered row as bytes, for Redis: MessagePack of its arrays, never code.

What cannot be read back, since somebody else wrote there, or another release did, is no row.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.outputs import Outputs

Array = npt.NDArray[Any]

_NUMBERS = "biuf"


class _Array(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An array: ``numbers`` are its bytes; of an array of objects, ``values`` are texts or arrays."""

    dtype: str
    shape: tuple[int, ...]
    numbers: bytes = b""
    values: tuple[str | _Array, ...] = ()


class _Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    arrays: dict[str, _Array]
    class_index: int | None
    threshold: float | None


class RowCodec:
    """Makes bytes of rows and rows of bytes, for one version.

    Args:
        labels: The class labels of the model; empty for other tasks.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Row)

    def encoded(self, outputs: Outputs, row: int) -> bytes | None:
        """One row; None where it holds values that have no such form."""
        try:
            arrays = {name: _packed(array[row : row + 1]) for name, array in outputs.arrays.items()}
        except TypeError:
            return None
        index = None if outputs.class_index is None else int(outputs.class_index[row])
        return self._encoder.encode(_Row(arrays, index, outputs.threshold))

    def decoded(self, data: bytes) -> Outputs | None:
        """The row; None where these are not the bytes of one."""
        try:
            row = self._decoder.decode(data)
            arrays = {name: _unpacked(array) for name, array in row.arrays.items()}
        except (msgspec.MsgspecError, ValueError, TypeError):
            return None
        index = row.class_index
        has_class = index is not None
        if has_class != bool(self._labels) or (index is not None and not 0 <= index < len(self._labels)):
            return None
        if any(array.shape[:1] != (1,) for array in arrays.values()):
            return None
        return Outputs(1, arrays, self._labels, np.array([index], np.intp) if has_class else None, row.threshold)


def _packed(array: Array) -> _Array:
    """An array as it is written.

    Raises:
        TypeError: It holds objects other than texts and arrays, or numbers of another kind.
    """
    if array.dtype.kind in _NUMBERS:
        return _Array(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())
    if array.dtype.kind != "O":
        raise TypeError(array.dtype)
    values = []
    for value in array.reshape(-1):
        if not isinstance(value, str | np.ndarray):
            raise TypeError(type(value))
        values.append(_packed(value) if isinstance(value, np.ndarray) else value)
    return _Array("O", array.shape, values=tuple(values))


def _unpacked(packed: _Array) -> Array:
    """The array, which nobody can write to.

    Raises:
        ValueError, TypeError: It is none.
    """
    if packed.dtype == "O":
        array = np.empty(len(packed.values), object)
        for n, value in enumerate(packed.values):
            array[n] = value if isinstance(value, str) else _unpacked(value)
        array = array.reshape(packed.shape)
        array.flags.writeable = False
        return array
    dtype = np.dtype(packed.dtype)
    if dtype.kind not in _NUMBERS:
        raise TypeError(packed.dtype)
    return np.frombuffer(packed.numbers, dtype).reshape(packed.shape)
