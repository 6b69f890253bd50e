"""The Open Inference Protocol, V2, over HTTP: tensors in JSON, or as bytes behind it (the binary tensor data extension)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest
from ekiben.serving.batch_run import Answer
from ekiben.serving.datatypes import DATATYPE_OF, datatype_of
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.oip import OipModel, Wanted, check_sequence, timeout_ms
from ekiben.serving.rest.codec import Decoded, untyped
from ekiben.serving.rest.http import Headers, Response, check_json, json_response
from ekiben.serving.tensors import MAX_DIMENSIONS, count_of, dtype_of, from_raw, reshaped, to_raw

_encode = msgspec.json.Encoder().encode
_LENGTH_HEADER = b"inference-header-content-length"
_MAX_LENGTH_DIGITS = 18


class _InputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: _InputParameters | None = None


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None
    classification: int = 0


class _Output(msgspec.Struct):
    name: str
    parameters: _OutputParameters | None = None


class _Parameters(msgspec.Struct):
    binary_data_output: bool = False
    sequence_id: int | str = 0
    timeout: int | float = 0


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None


_decode = msgspec.json.Decoder(_Request).decode


class V2Codec:
    """V2 for one version."""

    def __init__(self, served: LoadedVersion) -> None:
        self._oip = OipModel(served)
        self._all_binary = tuple(output._replace(is_binary=True) for output in self._oip.all_outputs)

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Decodes a request.

        Raises:
            InvalidRequest: It is not a V2 request, or its tensors do not fit the signature.
            UnsupportedMediaType: It says it is not JSON, and where its JSON ends it does not say.
        """
        length = headers.get(_LENGTH_HEADER)
        if length is None:
            check_json(headers)
            return self._decode(body, memoryview(b""))
        if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS or int(length) > len(body):
            raise InvalidRequest(
                f"Inference-Header-Content-Length is {length[:40].decode('latin-1')!r}; it must be the number of bytes of JSON "
                f"that the body of {len(body)} bytes begins with"
            )
        size = int(length)
        return self._decode(body[:size], memoryview(body)[size:]) if size else self._decode_bare(body)

    def _decode(self, text: bytes, rest: memoryview) -> Decoded:
        try:
            request = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            untyped(text)
            raise InvalidRequest(f"the body is not a V2 inference request: {e}") from None
        tensors: dict[str, npt.NDArray[Any]] = {}
        for item in request.inputs:
            if item.name in tensors:
                raise InvalidRequest(f"input {item.name!r} is given twice")
            size = item.parameters.binary_data_size if item.parameters is not None else None
            if size is None:
                tensors[item.name] = _from_json(item)
                continue
            if item.data is not msgspec.UNSET:
                raise InvalidRequest(f'input {item.name!r} has both "data" and "binary_data_size"; give one of them')
            if not 0 <= size <= len(rest):
                raise InvalidRequest(f"input {item.name!r} has binary_data_size {size}, and {len(rest)} bytes are left of the body")
            tensors[item.name] = from_raw(item.name, item.datatype, item.shape, rest[:size])
            rest = rest[size:]
        if len(rest):
            raise InvalidRequest(f"{len(rest)} bytes of the body belong to no input; is a binary_data_size too small?")
        payload = self._oip.payload(tensors)
        return Decoded(payload, request.id, self._wanted(request), _timeout_ms(request.parameters))

    def _decode_bare(self, body: bytes) -> Decoded:
        """A body that is the bytes of the only input and nothing else; its answer's outputs go as bytes too."""
        name, shape, dtype = self._oip.raw_input(len(body))
        array = np.array([body], object).reshape(shape) if dtype == "object" else from_raw(name, DATATYPE_OF[dtype], shape, body)
        return Decoded(self._oip.payload({name: array}), None, self._all_binary)

    def _wanted(self, request: _Request) -> Sequence[Wanted]:
        is_binary = request.parameters is not None and request.parameters.binary_data_output
        if not request.outputs:
            return self._all_binary if is_binary else self._oip.all_outputs
        wanted = []
        for output in request.outputs:
            given = output.parameters
            if given is None:
                wanted.append(Wanted(output.name, 0, is_binary))
            else:
                wanted.append(Wanted(output.name, given.classification, is_binary if given.binary_data is None else given.binary_data))
        return self._oip.check_wanted(wanted)

    def encode(self, answer: Answer, request_id: str, version: str, options: Any) -> Response:
        """Encodes the outputs asked for, in the order asked for."""
        blobs: list[bytes] = []
        outputs: list[dict[str, Any]] = []
        for wanted, (name, array) in zip(options, self._oip.chosen(answer, options), strict=True):
            output: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
            if wanted.is_binary:
                blobs.append(to_raw(array))
                output["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                output["data"] = array.reshape(-1).tolist()
            outputs.append(output)
        oip = self._oip
        reply = {"model_name": oip.model, "model_version": version, "id": request_id, "outputs": outputs}
        if not blobs:
            return json_response(reply)
        head = _encode(reply)
        length = (b"inference-header-content-length", b"%d" % len(head))
        return Response(200, b"".join([head, *blobs]), [length], b"application/octet-stream")


def _timeout_ms(parameters: _Parameters | None) -> float | None:
    if parameters is None:
        return None
    check_sequence(parameters.sequence_id)
    return timeout_ms(parameters.timeout)


def _from_json(item: _Input) -> npt.NDArray[Any]:
    """One tensor, its data flat or nested.

    Raises:
        InvalidRequest: Datatype, shape and data do not fit each other.
    """
    dtype = dtype_of(item.name, item.datatype)
    count = count_of(item.name, item.shape)
    if item.data is msgspec.UNSET:
        raise InvalidRequest(f'input {item.name!r} has no "data" (and no "binary_data_size" in its parameters)')
    values = _values(item, bytes(item.data), dtype.str)
    if len(values) != count:
        raise InvalidRequest(f"input {item.name!r} has {len(values)} values, which do not fill the shape {item.shape}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
    except (OverflowError, ValueError):
        raise InvalidRequest(f"input {item.name!r} has values out of range for {item.datatype}") from None
    return reshaped(item.name, array, item.shape)


def _values(item: _Input, raw: bytes, dtype: str) -> list[Any]:
    depth = 1
    try:
        return _decoder(dtype, depth, nullable=False)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        reason = str(e)
    # Nested data, or nulls (JSON has no NaN): rare, so found by trying.
    nested = len(raw) - len(raw.lstrip(b"[ \t\r\n"))
    depth = min(raw[:nested].count(b"["), MAX_DIMENSIONS)
    try:
        values = _decoder(dtype, max(depth, 1), nullable="f" in dtype)(raw)
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
