"""The Open Inference Protocol's request and answer, whatever carries them: named tensors in, chosen tensors out.

`ekiben.serving.rest.v2` and `ekiben.serving.grpc.convert` only bring tensors in and out of their wire formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ekiben.errors import InvalidRequest
from ekiben.model.signature import Batch
from ekiben.serving.batch_run import Answer
from ekiben.serving.datatypes import output_metadata
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.tensors import object_array

Array = npt.NDArray[Any]

_LONGEST_US = 1e15
"""Some thirty years: JSON's integers may be larger than a float can be."""


class Wanted(NamedTuple):
    """An output that was asked for.

    Attributes:
        name: Its name.
        classes: How many of its highest values to answer as ``value:index:label`` instead of the tensor; 0 for the tensor.
        is_binary: Whether it goes as bytes, over REST.
    """

    name: str
    classes: int = 0
    is_binary: bool = False


class OipModel:
    """One version, as the protocol sees it.

    Inputs come one tensor a column (``[rows]`` or ``[rows, 1]``; ``[rows, *shape]`` for tensors), or all numeric columns as
    one matrix. A model without a batch dimension takes and gives its tensors whole.

    Attributes:
        all_outputs: What is answered where nothing is chosen.
    """

    def __init__(self, served: LoadedVersion) -> None:
        self.model = served.model
        self.version = served.version
        self._signature = served.predictor.signature
        self._is_batched = served.spec.batching.enabled
        self._labels = served.spec.labels
        described = output_metadata(served.predictor)
        self.all_outputs = tuple(Wanted(o["name"]) for o in described)
        self._datatypes = {o["name"]: o["datatype"] for o in described}

    def payload(self, tensors: Mapping[str, Array]) -> Batch:
        """The rows that named tensors hold.

        Raises:
            InvalidRequest: They do not fit the signature.
        """
        if not tensors:
            raise InvalidRequest('"inputs" is empty; give one tensor an input')
        if not self._is_batched:
            tensors = {name: array[None] for name, array in tensors.items()}
        return self._signature.from_columns(tensors)

    def raw_input(self, n_bytes: int) -> tuple[str, list[int], str]:
        """Name, shape and numpy dtype of the only input, for a body that is nothing but its bytes.

        Raises:
            InvalidRequest: There are several inputs, or the shape does not follow from the size.
        """
        if len(self._signature.inputs) != 1:
            names = ", ".join(self._signature.names)
            raise InvalidRequest(f"a body of bare bytes needs a model with one input; {self.model} has {names}")
        (item,) = self._signature.inputs
        shape = [*([-1] if self._is_batched else []), *(item.shape or ())]
        dtype = item.dtype or {"bool": "bool", "int": "int64", "float": "float32"}.get(item.type, "string")
        if dtype == "string":
            return item.name, [1] * len(shape), "object"
        known = int(np.prod([d for d in shape if d != -1], dtype=np.int64)) * np.dtype(dtype).itemsize
        open_dimensions = shape.count(-1)
        if open_dimensions > 1 and self._is_batched:
            shape[0], open_dimensions = 1, open_dimensions - 1
        if open_dimensions > 1 or known == 0 or n_bytes % known or (open_dimensions == 0 and n_bytes != known):
            raise InvalidRequest(f"the body has {n_bytes} bytes, which do not say how large input {item.name!r} is: {shape} of {dtype}")
        return item.name, [n_bytes // known if d == -1 else d for d in shape], dtype

    def check_wanted(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """The outputs asked for; all where none is.

        Raises:
            InvalidRequest: One does not exist, or its classes are not a number of classes.
        """
        for output in wanted:
            datatype = self._datatypes.get(output.name)
            if datatype is None:
                raise InvalidRequest(f"output {output.name!r} does not exist; the outputs are {', '.join(self._datatypes)}")
            if output.classes < 0:
                raise InvalidRequest(f"output {output.name!r}: classification is {output.classes}; it must be 1 or more")
            if output.classes and datatype in ("BYTES", "BOOL"):
                raise InvalidRequest(f"output {output.name!r} holds no numbers, so it has no highest values; leave classification out")
        return wanted or self.all_outputs

    def chosen(self, answer: Answer, wanted: Sequence[Wanted]) -> list[tuple[str, Array]]:
        """The outputs asked for, in the order asked for."""
        chosen = []
        for output in wanted:
            array = answer.tensor(output.name)
            if output.classes:
                array = self._classified(output, array)
            chosen.append((output.name, array if self._is_batched else np.asarray(array[0])))
        return chosen

    def _classified(self, output: Wanted, array: Array) -> Array:
        """``[n, classes]`` strings ``value:index[:label]``, the highest values first."""
        values = array.reshape(len(array), -1)
        order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, : output.classes]
        labels = self._labels if output.name == "probabilities" else ()
        texts = [
            f"{value:f}:{index}:{labels[index]}" if labels else f"{value:f}:{index}"
            for row, indices in zip(values.tolist(), order.tolist(), strict=True)
            for index in indices
            for value in (row[index],)
        ]
        return object_array(texts).reshape(order.shape)


def check_sequence(sequence_id: object) -> None:
    """Refuses a request that belongs to a sequence: no model here keeps state between requests.

    Raises:
        InvalidRequest: It has a sequence id.
    """
    if sequence_id:
        raise InvalidRequest("sequence_id is set; models here keep no state between requests, leave it out")


def timeout_ms(microseconds: float) -> float | None:
    """The protocol's ``timeout`` parameter in milliseconds; 0 is none.

    Raises:
        InvalidRequest: It is negative.
    """
    if microseconds < 0:
        raise InvalidRequest(f"timeout is {microseconds}; it must be a number of microseconds")
    return min(microseconds, _LONGEST_US) / 1000 or None
