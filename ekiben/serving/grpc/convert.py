"""ModelInfer's messages: tensors out of a request, an answer into a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as pb

from ekiben.errors import InvalidRequest
from ekiben.model.signature import Batch
from ekiben.serving.batch_run import Answer
from ekiben.serving.datatypes import datatype_of
from ekiben.serving.oip import OipModel, Wanted, check_sequence, timeout_ms
from ekiben.serving.tensors import count_of, dtype_of, from_raw, object_array, reshaped, text_of, to_raw

_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip
"""Where typed contents of a datatype are; FP16 and BF16 have no such place."""


class InferRequest(NamedTuple):
    """A decoded ModelInferRequest.

    Attributes:
        payload: Its rows.
        wanted: The outputs asked for.
        is_typed: Whether its tensors came in typed contents, which is how the answer's go too.
        timeout_ms: A limit of its own that it brings.
    """

    payload: Batch
    wanted: Sequence[Wanted]
    is_typed: bool
    timeout_ms: float | None


def decode(oip: OipModel, request: Any) -> InferRequest:
    """Decodes a ModelInferRequest.

    Raises:
        InvalidRequest: Its tensors do not fit each other, or the signature.
    """
    inputs, raws = request.inputs, request.raw_input_contents
    is_typed = not raws
    if raws and len(raws) != len(inputs):
        raise InvalidRequest(f"raw_input_contents has {len(raws)} tensors for {len(inputs)} inputs; give one an input, in their order")
    tensors: dict[str, npt.NDArray[Any]] = {}
    for n, item in enumerate(inputs):
        name = item.name
        if name in tensors:
            raise InvalidRequest(f"input {name!r} is given twice")
        if is_typed:
            tensors[name] = _from_contents(item)
        elif item.HasField("contents") and item.contents.ListFields():  # some clients send it empty
            raise InvalidRequest(f"input {name!r} has contents, beside raw_input_contents; give one of them")
        else:
            tensors[name] = from_raw(name, item.datatype, item.shape[:], raws[n])
    limit = _limit_of(request) if request.parameters else None
    outputs = request.outputs
    wanted = oip.check_wanted([_wanted(o) for o in outputs]) if outputs else oip.all_outputs
    return InferRequest(oip.payload(tensors), wanted, is_typed and bool(inputs), limit)


def _limit_of(request: Any) -> float | None:
    parameters = request.parameters
    if "sequence_id" in parameters:
        given = parameters["sequence_id"]
        check_sequence(given.int64_param or given.string_param or given.uint64_param)
    return timeout_ms(parameters["timeout"].int64_param) if "timeout" in parameters else None


def _wanted(output: Any) -> Wanted:
    parameters = output.parameters
    return Wanted(output.name, parameters["classification"].int64_param if "classification" in parameters else 0)


def _from_contents(item: Any) -> npt.NDArray[Any]:
    """A tensor out of typed contents.

    Raises:
        InvalidRequest: Datatype, shape and contents do not fit each other.
    """
    name, datatype, shape = item.name, item.datatype, tuple(item.shape)
    field = _FIELDS.get(datatype)
    if field is None:
        dtype_of(name, "FP16" if datatype == "BF16" else datatype)
        raise InvalidRequest(f"input {name!r}: {datatype} has no typed contents; send raw_input_contents")
    misplaced = [found.name for found, _ in item.contents.ListFields() if found.name != field]
    if misplaced:
        raise InvalidRequest(f"input {name!r} has {misplaced[0]}; those of {datatype} are {field}")
    values = getattr(item.contents, field)
    if len(values) != count_of(name, shape):
        raise InvalidRequest(f"input {name!r} has {len(values)} values in {field}, which do not fill its shape {list(shape)}")
    dtype = dtype_of(name, datatype)
    if dtype.kind == "O":
        return reshaped(name, object_array([text_of(v) for v in values]), shape)
    try:
        return reshaped(name, np.array(values, dtype), shape)
    except OverflowError:
        raise InvalidRequest(f"input {name!r} has values out of range for {datatype}") from None


def encode(oip: OipModel, answer: Answer, request_id: str, version: str, request: InferRequest) -> Any:
    """Makes the ModelInferResponse of a version's answer."""
    response = pb.ModelInferResponse(model_name=oip.model, model_version=version, id=request_id)
    chosen = oip.chosen(answer, request.wanted)
    is_typed = request.is_typed and all(datatype_of(array) in _FIELDS for _, array in chosen)
    for name, array in chosen:
        output = response.outputs.add()
        output.name = name
        output.datatype = datatype = datatype_of(array)
        output.shape.extend(array.shape)
        if not is_typed:
            response.raw_output_contents.append(to_raw(array))
            continue
        values = array.reshape(-1).tolist()
        if datatype == "BYTES":
            values = [v if isinstance(v, bytes) else str(v).encode() for v in values]
        getattr(output.contents, _FIELDS[datatype]).extend(values)
    return response
