"""What every framework's runtime gives the predictor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import numpy.typing as npt


class TensorInfo(msgspec.Struct, frozen=True):
    """A tensor at the model's edge.

    Attributes:
        name: Its name in the model's graph.
        dtype: The numpy dtype's name, ``object`` for strings, ``sequence`` or ``map`` for what is no tensor.
        shape: Its dimensions with the rows' dimension in front; None for a dimension that varies.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Runtime(ABC):
    """One model held in memory by its framework, on one thread.

    Attributes:
        inputs: What the graph takes. Empty when the framework takes one matrix or a table and cannot say which.
        outputs: What the graph gives.
        device: Where it runs, for people: ``CPU``, ``CUDA`` …
        wants_frame: True when the framework wants named columns (a scikit-learn pipeline fitted on a table).
        keys: Output that is a map, or a sequence of maps → its keys in the order of the array's columns; known once it was computed.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    device: str = "CPU"
    wants_frame: bool = False
    keys: Mapping[str, Sequence[Any]] = MappingProxyType({})

    @abstractmethod
    def run(self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Computes the named outputs.

        Args:
            feeds: One array an input, in the graph's dtype and shape. For a runtime without ``inputs``: the one entry
                ``matrix`` (``[n, columns]``) or, where ``wants_frame``, one array ``[n]`` a column.
            outputs: Names of the graph's outputs to compute.
        """
