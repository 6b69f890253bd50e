"""The model in Triton's Python backend: the requests of a batch are joined, run once and split. Reads ``BENCH_MODEL``."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton  # type: ignore[import-not-found, unused-ignore]  # Triton brings it


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002  Triton's signature
        """Opens the session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request of a batch."""
        parts = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        answers = self._session.run(["y"], {"x": np.concatenate(parts) if len(parts) > 1 else parts[0]})[0]
        ends = np.cumsum([len(part) for part in parts])
        return [triton.InferenceResponse([triton.Tensor("y", np.ascontiguousarray(answer))]) for answer in np.split(answers, ends[:-1])]
