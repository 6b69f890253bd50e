"""The Open Inference Protocol, V2, with tensors in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest
from ekiben.serving.batch_run import Answer
from ekiben.serving.datatypes import NUMPY_OF, datatype_of, output_metadata
from ekiben.serving.host import LoadedVersion
from ekiben.serving.rest.codec import Decoded, untyped

_encode = msgspec.json.Encoder().encode
_MAX_DIMENSIONS = 16
_MAX_DIMENSION = 2**31 - 1
_SHOWN_CHARS = 200


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw


class _Output(msgspec.Struct):
    name: str


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Request).decode


class V2Codec:
    """V2 for one version.

    Inputs come one tensor a column (``[rows]`` or ``[rows, 1]``; ``[rows, *shape]`` for tensors), or all numeric columns as
    one matrix. A model without a batch dimension takes and gives its tensors whole.
    """

    def __init__(self, served: LoadedVersion) -> None:
        self._served = served
        self._is_batched = served.spec.batching.enabled
        self._outputs = [o["name"] for o in output_metadata(served.predictor)]

    def decode(self, body: bytes) -> Decoded:
        """Decodes a request.

        Raises:
            InvalidRequest: It is not a V2 request, or its tensors do not fit the signature.
        """
        try:
            request = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            untyped(body)
            raise InvalidRequest(f"the body is not a V2 inference request: {e}") from None
        columns: dict[str, npt.NDArray[Any]] = {}
        for item in request.inputs:
            if item.name in columns:
                raise InvalidRequest(f"input {item.name!r} is given twice")
            columns[item.name] = _array(item) if self._is_batched else _array(item)[None]
        if not columns:
            raise InvalidRequest('"inputs" is empty; give one tensor an input')
        payload = self._served.predictor.signature.from_columns(columns)
        return Decoded(payload, request.id, self._wanted(request))

    def _wanted(self, request: _Request) -> list[str]:
        if not request.outputs:
            return self._outputs
        wanted = [o.name for o in request.outputs]
        unknown = [name for name in wanted if name not in self._outputs]
        if unknown:
            raise InvalidRequest(f"output {unknown[0]!r} does not exist; the outputs are {', '.join(self._outputs)}")
        return wanted

    def encode(self, answer: Answer, request_id: str, options: Any) -> bytes:
        """Encodes the outputs asked for, in the order asked for."""
        tensors = answer.tensors()
        outputs = []
        for name in options:
            array = tensors[name] if self._is_batched else tensors[name][0]
            array = np.asarray(array)
            outputs.append({"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": array.reshape(-1).tolist()})
        served = self._served
        return _encode({"model_name": served.model, "model_version": served.version, "id": request_id, "outputs": outputs})


def _array(item: _Input) -> npt.NDArray[Any]:
    """One tensor, its data flat or nested.

    Raises:
        InvalidRequest: Datatype, shape and data do not fit each other.
    """
    dtype = NUMPY_OF.get(item.datatype)
    if dtype is None:
        raise InvalidRequest(f"input {item.name!r} has the datatype {item.datatype!r}; there are {', '.join(NUMPY_OF)}")
    shape = item.shape
    if len(shape) > _MAX_DIMENSIONS or any(not 0 <= d <= _MAX_DIMENSION for d in shape):
        raise InvalidRequest(
            f"input {item.name!r} has the shape {str(shape)[:_SHOWN_CHARS]}; "
            f"dimensions are 0 to {_MAX_DIMENSION}, {_MAX_DIMENSIONS} of them at most"
        )
    values = _values(item, dtype)
    if len(values) != math.prod(shape):
        raise InvalidRequest(f"input {item.name!r} has {len(values)} values, which do not fill the shape {shape}")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype).reshape(shape)
    except (OverflowError, ValueError):
        # A shape can be too large for numpy although it is empty: [0, 2000000000, 2000000000, 2000000000].
        raise InvalidRequest(f"input {item.name!r} has values or a shape out of range for {item.datatype}") from None


def _values(item: _Input, dtype: str) -> list[Any]:
    raw = bytes(item.data)
    depth = 1
    try:
        return _decoder(dtype, depth, nullable=False)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        reason = str(e)
    # Nested data, or nulls (JSON has no NaN): rare, so found by trying.
    nested = len(raw) - len(raw.lstrip(b"[ \t\r\n"))
    depth = min(raw[:nested].count(b"["), _MAX_DIMENSIONS)
    try:
        values = _decoder(dtype, max(depth, 1), nullable=dtype.startswith("float"))(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        reason = reason if depth <= 1 else str(e)
        raise InvalidRequest(f"input {item.name!r}: data is not a list of {item.datatype} values: {reason}") from None
    for _ in range(depth - 1):
        values = [value for row in values for value in row]
    return values


@cache
def _decoder(dtype: str, depth: int, *, nullable: bool) -> Callable[[bytes], list[Any]]:
    kind: Any = {"b": bool, "f": float, "i": int, "u": int, "O": str}[np.dtype(dtype).kind]
    kind = kind | None if nullable else kind
    for _ in range(depth):
        kind = list[kind]
    decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(kind).decode
    return decode
