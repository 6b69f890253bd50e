"""What the users of the load test ask: real flights of the months that no model was trained on, in every protocol, encoded beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from load_tests.open_inference import Malformed, binary_body, binary_outputs, grpc_request, tensor
from training.datasets import Dataset, load_flights

MODEL: Final = "flight_delay"
_FIRST_HELD_OUT_MONTH: Final = 5
_FLIGHTS: Final = 1000
_TOLERANCE: Final = 1e-3
_DATATYPES: Final = {"O": "BYTES", "i": "INT64", "f": "FP32"}


class Question(msgspec.Struct, frozen=True):
    """One flight, ready to be sent.

    Attributes:
        v1: Body of a V1 request.
        binary: Body of a V2 request with binary tensors.
        json_length: Length of that one's JSON part.
        message: A ``ModelInferRequest``.
    """

    v1: bytes
    binary: bytes
    json_length: int
    message: Any


def held_out_questions(home: Path) -> list[Question]:
    """A thousand flights from May to December, spread evenly.

    Args:
        home: Folder in which the joined table of flights is kept, as for training.

    Raises:
        DataError: The flights are not installed.
    """
    return questions(load_flights(home, first_month=_FIRST_HELD_OUT_MONTH).thin(_FLIGHTS))


def questions(flights: Dataset) -> list[Question]:
    """A question for each flight."""
    return [_question({name: column[n : n + 1] for name, column in flights.columns.items()}) for n in range(flights.n)]


def _question(columns: dict[str, Any]) -> Question:
    """One row, each column an array ``[1]``; missing weather is NaN."""
    tensors = [tensor(name, _DATATYPES[column.dtype.kind], column) for name, column in columns.items()]
    body, json_length = binary_body(tensors)
    row = {t.name: t.values[0] for t in tensors}
    return Question(msgspec.json.encode({"instances": [row]}), body, json_length, grpc_request(MODEL, tensors))


def is_prediction(values: Any) -> bool:
    """Whether these are two probabilities that add up to one, as every right answer has them."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return False
    return found.shape == (2,) and bool(np.all((found >= 0) & (found <= 1))) and abs(float(found.sum()) - 1) < _TOLERANCE


def is_v1_prediction(body: bytes) -> bool:
    """Whether a V1 answer holds one prediction."""
    try:
        (prediction,) = msgspec.json.decode(body)["predictions"]
        return is_prediction(list(prediction["probabilities"].values()))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError):
        return False


def is_binary_prediction(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a V2 answer with binary tensors holds one prediction."""
    try:
        return is_prediction(binary_outputs(body, headers).get("probabilities"))
    except Malformed:
        return False
