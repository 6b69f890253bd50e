"""ONNX Runtime: any graph, one thread, no spinning."""

from __future__ import annotations

import re
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
_PREAMBLE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?(/\S+:\d+ [^(]*\(.*?\) )?")


class OnnxRuntime(Runtime):
    """An ONNX graph in an inference session.

    Providers: those asked for, else CUDA, ROCm or CoreML where the installed onnxruntime has them, and always the CPU
    behind them, to which ONNX Runtime falls back when a device or an operator is missing; ``device`` says what came of it.
    Outputs that are no tensors become some: a sequence of maps (class → probability, as scikit-learn's converters make)
    is a matrix with its columns in the order of the sorted keys; a map is its values in that order; a sequence of
    tensors of one shape is stacked.
    """

    def __init__(self, file: Path, providers: tuple[str, ...] = ()) -> None:
        ort.disable_telemetry_events()  # some builds report their use
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
            raise ArtifactError(f"{file.name}: ONNX Runtime {ort.__version__} refuses the file: {_reason(e)}") from e
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        if not self.inputs:
            raise ArtifactError(f"{file.name}: the graph takes no input, so it gives the same for every request; a model takes one or more")
        odd = [info for info in self.inputs if info.dtype not in _DTYPES.values()]
        if odd:
            raise ArtifactError(
                f"{file.name}: input {odd[0].name!r} is of the type {odd[0].dtype}; inputs must be tensors of numbers, bools or strings, "
                f"of the types {', '.join(_DTYPES)}"
            )
        # A graph may list an output twice.
        self.outputs = tuple({node.name: _info(node, smallest=0) for node in self._session.get_outputs()}.values())
        self.device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self._is_plain = {info.name: info.dtype not in ("sequence", "map") for info in self.outputs}
        self._keys: dict[str, tuple[Any, ...]] = {}
        self.keys = self._keys

    def run(self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Runs the session.

        Raises:
            PredictionFailed: ONNX Runtime could not compute the feeds, or gave a map with other keys than before.
        """
        try:
            values = self._session.run(outputs, feeds)
        except Exception as e:  # NOTE: as above
            raise PredictionFailed(f"ONNX Runtime failed: {_reason(e)}") from e
        return {
            name: value if self._is_plain[name] and isinstance(value, np.ndarray) else self._array(name, value)
            for name, value in zip(outputs, values, strict=True)
        }

    def _array(self, name: str, value: Any) -> npt.NDArray[Any]:
        maps = [value] if isinstance(value, dict) else value if isinstance(value, list) and value and isinstance(value[0], dict) else []
        if maps:
            keys = self._keys.setdefault(name, tuple(sorted(maps[0])))
            if any(len(row) != len(keys) or not all(key in row for key in keys) for row in maps):
                raise PredictionFailed(f"output {name!r} is a map whose keys change from row to row; its values cannot be one tensor")
            rows = np.array([[row[key] for key in keys] for row in maps])
            return rows[0] if isinstance(value, dict) else rows.astype(np.float32, copy=False)
        return _as_array(value)


def _info(node: Any, *, smallest: int = 1) -> TensorInfo:
    kind, _, inner = node.type.rstrip(")").partition("(")  # tensor(float), seq(map(int64,tensor(float))), optional(tensor(float)) …
    dtype = _DTYPES.get(inner, inner) if kind == "tensor" else {"seq": "sequence"}.get(kind, kind)
    shape = tuple(d if isinstance(d, int) and d >= smallest else None for d in node.shape or ())
    return TensorInfo(node.name, dtype, shape)


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, in one line, without the places in its own source that it begins with."""
    text = _PREAMBLE.sub("", " ".join(str(error).split()))
    if "Unsupported model IR version" in text or "Current official support for domain" in text:
        text += " Export the model with an older opset (and IR version), or install a newer onnxruntime."
    return text


def _as_array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, list):
        arrays = [np.asarray(item) for item in value]
        if len({a.shape for a in arrays}) <= 1:
            return np.stack(arrays) if arrays else np.empty((0,), np.float32)
        ragged = np.empty(len(arrays), object)
        for index, array in enumerate(arrays):
            ragged[index] = array
        return ragged
    return np.asarray(value)
