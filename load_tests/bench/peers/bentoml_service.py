"""BentoML's own batchable API: ``{"x": [[…]]}`` is answered ``[[…]]``.

Reads ``BENCH_MODEL`` (an ONNX file), ``BENCH_FEATURES``, ``BENCH_CLASSES`` and ``BENCH_WORKERS``.
"""

import os
from typing import Annotated, Any

import bentoml
import numpy as np
import onnxruntime as ort
from bentoml.validators import DType, Shape

FEATURES = int(os.environ["BENCH_FEATURES"])
CLASSES = int(os.environ["BENCH_CLASSES"])
Rows = Annotated[np.ndarray, DType("float32"), Shape((-1, FEATURES))]
Answers = Annotated[np.ndarray, DType("float32"), Shape((-1, CLASSES))]


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Bench:
    """One model behind BentoML's adaptive batching, with what costs time turned off."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, batch_dim=(0, 0), max_batch_size=128, max_latency_ms=1000)  # type: ignore[untyped-decorator]  # BentoML's own
    def predict(self, x: Rows) -> Answers:
        """Runs the model on a batch ``[n, features]``; gives ``[n, classes]``."""
        answers: np.ndarray = self._session.run(["y"], {"x": np.asarray(x, np.float32)})[0]
        return answers
