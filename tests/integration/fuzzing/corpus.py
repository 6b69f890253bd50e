"""Valid requests to begin with: for each model, in each protocol that carries it."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from integration.onnx_cases import CASES
from tritonclient.grpc import service_pb2 as pb

OIP = {np.dtype(k): v for k, v in {"float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "BYTES"}.items()}
ADDED = ("all_types", "scalars", "images", "texts", "odd_names")
"""The models of `onnx_cases` that are served beside ``tiny``."""

TINY_ROWS = [{"a": 1.0, "b": 2.0, "c": None, "d": 0.5}, {"a": -1.0, "b": 0.25, "c": 3.0, "d": 9.0}]
TINY_ANSWER = ["yes", "no"]
Arrays = dict[str, np.ndarray]


class Valid(NamedTuple):
    """The tensors of one model."""

    model: str
    arrays: Arrays


class HttpRequest(NamedTuple):
    """A request over HTTP.

    Attributes:
        method, path, headers, body: As they go out.
        has_deadline: Whether it brings a limit of its own, so that it may well be answered with 503 or 504.
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    has_deadline: bool = False


def tensors() -> list[Valid]:
    """One or two requests a model."""
    rng = np.random.default_rng(0)
    matrix = np.array([[np.nan if v is None else v for v in row.values()] for row in TINY_ROWS], np.float32)
    found = [
        Valid("tiny", {"x": matrix}),
        Valid("tiny", {name: matrix[:, n].astype(np.float64) for n, name in enumerate(TINY_ROWS[0])}),
    ]
    cases = {case.name: case for case in CASES}
    for name in ADDED:
        found += [Valid(name, cases[name].feeds(rng, n)) for n in (1, 3)]
    return found


def datatype_of(array: np.ndarray) -> str:
    """The protocol's name of an array's type."""
    return OIP.get(array.dtype) or array.dtype.name.upper()


def raw(array: np.ndarray) -> bytes:
    """A tensor's bytes."""
    if array.dtype.kind != "O":
        return array.tobytes()
    values = [value.encode() for value in array.reshape(-1).tolist()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def v2_json(valid: Valid) -> dict[str, Any]:
    """The request in JSON; NaN has no place in it, null has."""
    inputs = []
    for name, array in valid.arrays.items():
        data = [None if value != value else value for value in array.reshape(-1).tolist()]  # noqa: PLR0124  NaN
        inputs.append({"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": data, "parameters": {}})
    return {"id": "a-1", "inputs": inputs, "parameters": {"binary_data_output": False}}


def v2_binary(valid: Valid) -> tuple[dict[str, Any], list[bytes]]:
    """The JSON head, and the tensors behind it."""
    blobs = [raw(array) for array in valid.arrays.values()]
    inputs = [
        {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "parameters": {"binary_data_size": len(blob)}}
        for (name, array), blob in zip(valid.arrays.items(), blobs, strict=True)
    ]
    return {"id": "b-1", "inputs": inputs, "parameters": {"binary_data_output": True}}, blobs


def rows(valid: Valid) -> list[Any]:
    """The request as rows of V1."""
    if valid.model == "tiny":
        return list(TINY_ROWS)
    plain = {name: array.tolist() for name, array in valid.arrays.items()}
    if valid.model == "scalars":
        return [plain]
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def npy(array: np.ndarray) -> bytes:
    """An array as NPY."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def platform_bodies() -> list[tuple[str, bytes]]:
    """What hosting platforms send for ``tiny``: content type and body."""
    cells = "1,2,,0.5\n-1,0.25,3,9\n"
    matrix = np.array([[1, 2, 3, 0.5], [-1, 0.25, 3, 9]], np.float32)
    fields = np.array([(1, 2, 3, 0.5)], [(name, "<f4") for name in "abcd"])
    return [
        ("text/csv", cells.encode()),
        ("text/csv; header=present", f"a,b,c,d\n{cells}".encode()),
        ("application/x-npy", npy(matrix)),
        ("application/x-npy", npy(np.asfortranarray(matrix.astype(">f8")))),
        ("application/x-npy", npy(fields)),
        ("application/jsonlines", b'{"a":1,"b":2,"d":3}\n[1,2,null,4]\n'),
    ]


def platform_json() -> list[Any]:
    """The forms of JSON that hosting platforms send for ``tiny``."""
    split = {"columns": list("abcd"), "index": [0, 1], "data": [[1, 2, None, 0.5], [-1, 0.25, 3, 9]]}
    return [
        {"instances": TINY_ROWS, "parameters": {}},
        {"dataframe_split": split},
        {"dataframe_records": TINY_ROWS},
        {"inputs": {"a": [1], "b": [2], "c": [3], "d": [4]}},
        {"input_data": split, "params": {}},
        {"data": [[1, 2, 3, 4]]},
        TINY_ROWS,
    ]


def grpc_request(valid: Valid, *, typed: bool) -> Any:
    """ModelInferRequest."""
    request = pb.ModelInferRequest(model_name=valid.model, id="g-1")
    request.parameters["priority"].uint64_param = 1
    for name, array in valid.arrays.items():
        item = request.inputs.add()
        item.name, item.datatype = name, datatype_of(array)
        item.shape.extend(array.shape)
        if not typed:
            request.raw_input_contents.append(raw(array))
            continue
        field = CONTENTS[item.datatype]
        values = [v.encode() for v in array.reshape(-1)] if item.datatype == "BYTES" else array.reshape(-1).tolist()
        getattr(item.contents, field).extend(values)
    return request


CONTENTS = {
    "BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents", "FP16": "fp32_contents",
    **{f"INT{n}": "int_contents" for n in (8, 16, 32)}, "INT64": "int64_contents",
    **{f"UINT{n}": "uint_contents" for n in (8, 16, 32)}, "UINT64": "uint64_contents",
}  # fmt: skip
