"""Requests to infer, changed in what they say: fields that fit their types and not each other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from integration.fuzzing import corpus
from integration.fuzzing.mutations import NUMBERS, TEXTS, mutated_bytes
from integration.fuzzing.protobuf import mutated_message
from tritonclient.grpc import service_pb2 as pb

REQUESTS = [corpus.grpc_request(valid, typed=typed) for valid in corpus.tensors() for typed in (False, True)]
MESSAGES = [request.SerializeToString() for request in REQUESTS]
_SHAPES = ([], [0], [-1], [2**31], [2**62, 4], [0, 2**31 - 1, 2**31 - 1], [1] * 17, [1] * 40, [2, 2], [3, 1, 1], [2**63 - 1], [-(2**63)])
_DATATYPES = ("BF16", "FP16", "FP8", "bool", "", "BYTES", "UINT64", "INT8", "FP64", "é" * 400, "FP32", "INT64", "BOOL")
_OUTPUTS = (*TEXTS, "prediction", "probabilities", "out_STRING", "out_FLOAT16", "out_FLOAT", "y", "t")
_PARAMETERS = ("timeout", "sequence_id", "priority", "triton_enable_empty_final_response", "", "é")
_WRONG = {
    FieldDescriptor.TYPE_BYTES: b"\xff\xfe",
    FieldDescriptor.TYPE_FLOAT: float("nan"),
    FieldDescriptor.TYPE_DOUBLE: 1e308,
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_INT32: -(2**31),
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_INT64: -(2**63),
    FieldDescriptor.TYPE_UINT64: 2**64 - 1,
}


def message(rng: Random) -> bytes:
    """A request to infer, changed in what it says or in how it is written."""
    data = rng.choice(MESSAGES)
    if rng.random() < 0.5:
        request = pb.ModelInferRequest.FromString(data)
        for _ in range(rng.choice((1, 1, 2))):
            item = rng.choice(request.inputs) if request.inputs else request.inputs.add()
            rng.choice(_CHANGES)(rng, request, item)
        data = request.SerializeToString()
    if rng.random() < 0.6:
        data = mutated_message(rng, data)
    return mutated_bytes(rng, data, MESSAGES) if rng.random() < 0.2 else data


def _shape(rng: Random, _: Any, item: Any) -> None:
    item.shape[:] = rng.choice(_SHAPES)


def _datatype(rng: Random, _: Any, item: Any) -> None:
    item.datatype = rng.choice(_DATATYPES)


def _name(rng: Random, request: Any, item: Any) -> None:
    item.name = rng.choice((*TEXTS, request.inputs[0].name))


def _contents(rng: Random, _: Any, item: Any) -> None:
    field = rng.choice(item.contents.DESCRIPTOR.fields)
    getattr(item.contents, field.name).extend([_WRONG[field.type]] * rng.choice((1, 2)))


def _raw(rng: Random, request: Any, _: Any) -> None:
    raws = request.raw_input_contents
    if raws and rng.random() < 0.7:
        at = rng.randrange(len(raws))
        raws[at] = mutated_bytes(rng, raws[at])
    else:
        raws.append(rng.randbytes(rng.choice((0, 4, 16))))


def _output(rng: Random, request: Any, _: Any) -> None:
    output = request.outputs.add(name=rng.choice(_OUTPUTS))
    if rng.random() < 0.5:
        _set(rng, output.parameters["classification"])


def _parameter(rng: Random, request: Any, item: Any) -> None:
    _set(rng, rng.choice((request, item)).parameters[rng.choice(_PARAMETERS)])


def _set(rng: Random, parameter: Any) -> None:
    field = rng.choice(parameter.DESCRIPTOR.fields)
    values = {
        "bool_param": (True, False),
        "int64_param": [n for n in NUMBERS if n < 2**63],
        "string_param": TEXTS,
        "double_param": (float("nan"), float("-inf"), 1e308, 2.5),
        "uint64_param": (0, 1, 2**64 - 1),
    }
    setattr(parameter, field.name, rng.choice(values[field.name]))


def _model(rng: Random, request: Any, _: Any) -> None:
    request.model_version = rng.choice(TEXTS)
    request.model_name = rng.choice((*TEXTS, "tiny"))


def _id(rng: Random, request: Any, _: Any) -> None:
    request.id = rng.choice(TEXTS)


_CHANGES: tuple[Callable[[Random, Any, Any], None], ...] = (
    _shape, _shape, _datatype, _name, _contents, _raw, _raw, _output, _output, _parameter, _model, _id,
)  # fmt: skip
