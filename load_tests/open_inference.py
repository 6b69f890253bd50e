"""Open Inference Protocol V2 as a client writes and reads it: tensors in JSON, as raw bytes beside JSON, and as a gRPC message.

Written for clients under load: `Tensor` keeps both forms of its values, so that a body is a matter of joining bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

JSON_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
INFER_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
_LENGTH_BYTES: Final = 4
_NUMPY_OF: Final = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


class Malformed(Exception):
    """An answer does not follow the protocol."""


class Tensor(msgspec.Struct, frozen=True):
    """One named tensor of a request.

    Attributes:
        name: Of the model's input.
        datatype: The protocol's name, for example ``FP32``.
        shape: Its dimensions.
        values: Its elements in a flat list, missing numbers as None.
        raw: The same, little-endian; BYTES elements each behind their length in four bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]
    raw: bytes


def tensor(name: str, datatype: str, array: Array) -> Tensor:
    """Makes a tensor.

    Args:
        name: Of the model's input.
        datatype: The protocol's name; BYTES takes an array of strings.
        array: Its elements; NaN becomes null in JSON.
    """
    if datatype == "BYTES":
        texts = [str(text) for text in array.reshape(-1).tolist()]
        return Tensor(name, datatype, array.shape, texts, b"".join(_framed(text.encode()) for text in texts))
    typed = np.ascontiguousarray(array, _NUMPY_OF[datatype])
    values = [None if value != value else value for value in typed.reshape(-1).tolist()]  # noqa: PLR0124  only NaN differs from itself
    return Tensor(name, datatype, typed.shape, values, typed.tobytes())


def json_body(tensors: Sequence[Tensor], outputs: Sequence[str] = ()) -> bytes:
    """A request with its tensors in JSON.

    Args:
        tensors: The inputs.
        outputs: Names of the outputs to answer; none asks for all.
    """
    inputs = [{"name": t.name, "shape": t.shape, "datatype": t.datatype, "data": t.values} for t in tensors]
    return msgspec.json.encode({"inputs": inputs} | ({"outputs": [{"name": name} for name in outputs]} if outputs else {}))


def binary_body(tensors: Sequence[Tensor], outputs: Sequence[str] = ()) -> tuple[bytes, int]:
    """A request of the binary tensor extension, which asks for a binary answer.

    Returns:
        The body, and the length of its JSON part for `JSON_LENGTH_HEADER`.
    """
    inputs = [{"name": t.name, "shape": t.shape, "datatype": t.datatype, "parameters": {"binary_data_size": len(t.raw)}} for t in tensors]
    wanted: dict[str, Any] = {"parameters": {"binary_data_output": True}}
    if outputs:
        wanted = {"outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs]}
    head = msgspec.json.encode({"inputs": inputs, **wanted})
    return b"".join([head, *(t.raw for t in tensors)]), len(head)


def grpc_request(model: str, tensors: Sequence[Tensor], *, outputs: Sequence[str] = (), request_id: str = "") -> Any:
    """A ``ModelInferRequest`` with raw contents.

    Args:
        model: Its name.
        tensors: The inputs.
        outputs: Names of the outputs to answer; none asks for all.
        request_id: What the answer's id will be.
    """
    from tritonclient.grpc import service_pb2  # noqa: PLC0415  REST needs no gRPC

    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for t in tensors:
        request.inputs.add(name=t.name, datatype=t.datatype, shape=t.shape)
        request.raw_input_contents.append(t.raw)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def json_outputs(body: bytes) -> dict[str, list[Any]]:
    """The outputs of an answer in JSON, each a flat list.

    Raises:
        Malformed: It is no such answer.
    """
    try:
        answer = msgspec.json.decode(body)
        return {output["name"]: list(output["data"]) for output in answer["outputs"]}
    except (msgspec.DecodeError, LookupError, TypeError) as e:
        raise Malformed(f"no V2 answer ({e!r}): {body[:200]!r}") from e


def binary_outputs(body: bytes, headers: Mapping[str, str]) -> dict[str, list[Any]]:
    """The outputs of an answer of the binary tensor extension, each a flat list.

    Args:
        body: Its bytes.
        headers: Its headers; without `JSON_LENGTH_HEADER` the whole of it is JSON.

    Raises:
        Malformed: It is no such answer.
    """
    length = next((value for name, value in headers.items() if name.lower() == JSON_LENGTH_HEADER.lower()), None)
    if length is None:
        return json_outputs(body)
    found: dict[str, list[Any]] = {}
    try:
        start = int(length)
        for output in msgspec.json.decode(body[:start])["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                found[output["name"]] = list(output["data"])
                continue
            found[output["name"]] = _elements(output["datatype"], body[start : start + size])
            start += size
    except (msgspec.DecodeError, LookupError, TypeError, ValueError) as e:
        raise Malformed(f"no binary V2 answer ({e!r}): {body[:200]!r}") from e
    return found


def grpc_outputs(response: Any) -> dict[str, list[Any]]:
    """The outputs of a ``ModelInferResponse``, whichever way it holds them, each a flat list.

    Raises:
        Malformed: A datatype that there is not.
    """
    if response.raw_output_contents:
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        try:
            return {output.name: _elements(output.datatype, raw) for output, raw in pairs}
        except (LookupError, ValueError) as e:
            raise Malformed(f"no ModelInferResponse with raw contents: {e!r}") from e
    return {output.name: [value for _, values in output.contents.ListFields() for value in values] for output in response.outputs}


def _framed(element: bytes) -> bytes:
    return len(element).to_bytes(_LENGTH_BYTES, "little") + element


def _elements(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return np.frombuffer(raw, _NUMPY_OF[datatype]).tolist()  # type: ignore[no-any-return]
    elements, start = [], 0
    while start < len(raw):
        length = int.from_bytes(raw[start : start + _LENGTH_BYTES], "little")
        start += _LENGTH_BYTES
        elements.append(raw[start : start + length].decode())
        start += length
    return elements
