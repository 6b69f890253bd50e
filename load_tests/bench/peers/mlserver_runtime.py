"""MLServer's runtime for the benchmark: ONNX Runtime on the first input. Runs in MLServer's environment."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
from mlserver import MLModel  # type: ignore[import-not-found, unused-ignore]  # in the environment of its own
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found, unused-ignore]  # as above
from mlserver.types import InferenceResponse  # type: ignore[import-not-found, unused-ignore]  # as above


class Bench(MLModel):  # type: ignore[misc, unused-ignore]  # as above
    """One model behind MLServer's adaptive batching."""

    async def load(self) -> bool:
        """Opens the session, in the worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: Any) -> Any:
        """A batch ``[n, features]``; gives ``[n, classes]``."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        answers = self._session.run(["y"], {"x": rows})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", answers)])
