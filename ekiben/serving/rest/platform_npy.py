"""numpy's file format NPY both ways, without pickles.

In: a matrix of all inputs, the tensor that is the only input, or a structured array with a field an input. Out: the only output
as it is; of several outputs a structured array with a field for each.

The header is read here and not by ``numpy.load``, which makes an array as large as the header says before it looks whether so
many bytes follow.
"""

from __future__ import annotations

import ast
import io
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest, NotAcceptable
from ekiben.model.signature import Batch, Signature
from ekiben.serving.batch_run import Answer
from ekiben.serving.tensors import count_of, reshaped

Array = npt.NDArray[Any]

_MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {1: 2, 2: 4, 3: 4}
_MAX_HEADER_BYTES: Final = 10_000
_NAME: Final = "array"
_SURROGATES: Final = (0xD800, 0xDFFF)


def from_npy(body: bytes, signature: Signature) -> Batch:
    """The rows of a body.

    Raises:
        InvalidRequest: It is not NPY, holds Python objects, or does not fit the signature.
    """
    array = read_npy(body)
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise InvalidRequest(f"a structured array must have the shape [rows], got {list(array.shape)}")
        return signature.from_columns({name: _sound(name, array[name]) for name in array.dtype.names})
    name = signature.names[0] if len(signature.inputs) == 1 else _matrix_name(signature)
    return signature.from_columns({name: _sound(name, array)})


def _matrix_name(signature: Signature) -> str:
    """A name that is not an input's, so that the array stands for all of them."""
    name = _NAME
    while name in signature.names:
        name += "_"
    return name


def _sound(name: str, array: Array) -> Array:
    """The array, whose bytes any client may have made up: no booleans but 0 and 1, no text that is not Unicode."""
    if array.dtype.kind == "b" and np.ascontiguousarray(array).view(np.uint8).max(initial=0) > 1:
        raise InvalidRequest(f"{name!r} has bytes other than 0 and 1, which are the values of bool")
    if array.dtype.kind == "U":
        # NOTE: looked at as numbers, because numpy raises a SystemError when it makes text of what is none.
        codes = np.ascontiguousarray(array).view(np.uint32)
        if ((codes > sys.maxunicode) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))).any():
            raise InvalidRequest(f"{name!r} holds text that is not Unicode")
    return array


def read_npy(body: bytes) -> Array:
    """The array in a body: a view of its bytes, of which there must be as many as the header says.

    Raises:
        InvalidRequest: It is not NPY, or holds Python objects.
    """
    header, data = _split(body)
    try:
        fields = ast.literal_eval(header)
        shape, is_fortran = fields["shape"], fields["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
        is_shape = isinstance(shape, tuple) and all(type(d) is int for d in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError, OverflowError):
        is_shape = False
    if not is_shape or not isinstance(is_fortran, bool):
        raise InvalidRequest("the NPY header is not an object of descr, fortran_order and shape")
    if dtype.hasobject or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise InvalidRequest(f"the NPY array has the dtype {dtype}; Python objects, elements of no size and arrays of arrays are not read")
    size = count_of(_NAME, shape) * dtype.itemsize
    if len(data) != size:
        raise InvalidRequest(f"the NPY array has {len(data)} bytes of data; shape {list(shape)} of {dtype} takes {size}")
    flat = np.frombuffer(data, dtype)
    array = np.ascontiguousarray(reshaped(_NAME, flat, shape[::-1]).T) if is_fortran else reshaped(_NAME, flat, shape)
    return array if array.flags.aligned and dtype.isnative else array.astype(dtype.newbyteorder("="))


def _split(body: bytes) -> tuple[str, memoryview]:
    """Header and data."""
    start = len(_MAGIC) + 2
    if body[: len(_MAGIC)] != _MAGIC or len(body) < start or body[len(_MAGIC)] not in _LENGTH_BYTES:
        raise InvalidRequest("the body is not an NPY file of version 1, 2 or 3; write it with numpy.save(file, array, allow_pickle=False)")
    version = body[len(_MAGIC)]
    begin = start + _LENGTH_BYTES[version]
    length = int.from_bytes(body[start:begin], "little")
    if length > _MAX_HEADER_BYTES or begin + length > len(body):
        raise InvalidRequest(f"the NPY header has {length} bytes; there may be {_MAX_HEADER_BYTES}, and the body has {len(body)}")
    try:
        header = body[begin : begin + length].decode("utf-8" if version == 3 else "latin-1").strip()  # noqa: PLR2004  NPY's version
    except UnicodeDecodeError:
        raise InvalidRequest("the NPY header is not UTF-8, which version 3 means it to be") from None
    return header, memoryview(body)[begin + length :]


def to_npy(answer: Answer) -> bytes:
    """The outputs as NPY.

    Raises:
        NotAcceptable: An output is neither numbers nor text of one shape.
    """
    tensors = {name: _plain(name, np.asarray(array)) for name, array in answer.tensors().items()}
    if len(tensors) == 1:
        (array,) = tensors.values()
    else:
        rows = len(next(iter(tensors.values())))
        array = np.empty(rows, [(name, tensor.dtype, tensor.shape[1:]) for name, tensor in tensors.items()])
        for name, tensor in tensors.items():
            array[name] = tensor
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def _plain(name: str, array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    if not all(isinstance(value, str) for value in array.reshape(-1).tolist()):
        raise NotAcceptable(f"output {name!r} is neither numbers nor text of one shape, which NPY cannot hold; accept application/json")
    return array.astype(np.str_)
