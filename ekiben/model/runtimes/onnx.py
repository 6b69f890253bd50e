"""ONNX Runtime: any graph, one thread, no spinning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model.runtimes.base import Runtime, TensorInfo

_DTYPES: Final = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip
_PREFERRED: Final = ("CUDAExecutionProvider", "ROCMExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider")
_FATAL_ONLY: Final = 4


class OnnxRuntime(Runtime):
    """An ONNX graph in an inference session.

    Providers: those asked for, else CUDA, ROCm or CoreML where the installed onnxruntime has them, and always the CPU
    behind them, to which ONNX Runtime falls back when a device or an operator is missing; ``device`` says what came of it.
    Outputs that are no tensors become some: a sequence of maps (class → probability, as scikit-learn's converters make)
    is a matrix with its columns in the order of the sorted keys; a map is its values in that order; a sequence of
    tensors of one shape is stacked.
    """

    def __init__(self, file: Path, providers: tuple[str, ...] = ()) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL_ONLY
        installed = ort.get_available_providers()
        wanted = [p for p in (*providers, *(() if providers else _PREFERRED)) if p in installed]
        chosen = [*wanted, *(["CPUExecutionProvider"] if "CPUExecutionProvider" not in wanted else [])]
        try:
            self._session = ort.InferenceSession(str(file), options, providers=chosen)
        except Exception as e:  # NOTE: onnxruntime's errors share no public base class
            raise ArtifactError(f"{file.name}: ONNX Runtime {ort.__version__} refuses the file: {e}") from e
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        odd = [info for info in self.inputs if info.dtype not in _DTYPES.values()]
        if odd:
            raise ArtifactError(
                f"{file.name}: input {odd[0].name!r} is a {odd[0].dtype}; inputs must be tensors of numbers, bools or strings"
            )
        self.outputs = tuple(_info(node) for node in self._session.get_outputs())
        self.device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self._is_plain = {info.name: info.dtype not in ("sequence", "map") for info in self.outputs}

    def run(self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Runs the session.

        Raises:
            PredictionFailed: ONNX Runtime could not compute the feeds.
        """
        try:
            values = self._session.run(outputs, feeds)
        except Exception as e:  # NOTE: as above
            raise PredictionFailed(f"ONNX Runtime failed: {str(e).splitlines()[0]}") from e
        return {
            name: value if self._is_plain[name] and isinstance(value, np.ndarray) else _as_array(value)
            for name, value in zip(outputs, values, strict=True)
        }


def _info(node: Any) -> TensorInfo:
    kind = node.type  # tensor(float), seq(map(int64,tensor(float))), map(string,tensor(float)) …
    dtype = "sequence" if kind.startswith("seq") else "map" if kind.startswith("map") else _DTYPES.get(kind[7:-1], kind[7:-1])
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in node.shape or ())
    return TensorInfo(node.name, dtype, shape)


def _as_array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, dict):
        return np.array([value[key] for key in sorted(value)])
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            keys = sorted({key for row in value for key in row})
            return np.array([[row.get(key, 0.0) for key in keys] for row in value], np.float32)
        arrays = [np.asarray(item) for item in value]
        if len({a.shape for a in arrays}) <= 1:
            return np.stack(arrays) if arrays else np.empty((0,), np.float32)
        ragged = np.empty(len(arrays), object)
        for index, array in enumerate(arrays):
            ragged[index] = array
        return ragged
    return np.asarray(value)
