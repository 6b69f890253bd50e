"""The Open Inference Protocol's datatypes and numpy's."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ekiben.model.predictor import Predictor
from ekiben.model.spec import InputSpec

NUMPY_OF: Final[dict[str, str]] = {
    "BOOL": "bool",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "BYTES": "object",
}  # fmt: skip
DATATYPE_OF: Final[dict[str, str]] = {numpy: oip for oip, numpy in NUMPY_OF.items()}
_OF_DTYPE: Final = {np.dtype(numpy): oip for oip, numpy in NUMPY_OF.items()}


def datatype_of(array: npt.NDArray[Any]) -> str:
    """The protocol's name of an array's type; strings of any kind are BYTES."""
    return _OF_DTYPE.get(array.dtype, "BYTES")


def input_metadata(item: InputSpec) -> dict[str, Any]:
    """An input as ``GET /v2/models/{name}`` describes it; -1 is the rows' dimension."""
    return {"name": item.name, "datatype": DATATYPE_OF[np.dtype(item.array_dtype).name], "shape": [-1, *(item.shape or ())]}


def output_metadata(predictor: Predictor) -> list[dict[str, Any]]:
    """The outputs as ``GET /v2/models/{name}`` describes them."""
    spec = predictor.spec
    if spec.is_classifier:
        return [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(spec.labels)]},
        ]
    if spec.task == "regression":
        given = predictor.prediction
        shape = [-1 if d is None else d for d in given.shape[1:]]
        return [{"name": "prediction", "datatype": DATATYPE_OF.get(given.dtype, "FP32"), "shape": [-1, *([] if shape == [1] else shape)]}]
    return [
        {"name": o.name, "datatype": DATATYPE_OF["object" if o.dtype == "string" else o.dtype], "shape": [-1, *o.shape]}
        for o in spec.outputs
    ]
