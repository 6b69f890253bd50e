"""LitServe with its dynamic batching: ``{"features": […]}`` is answered ``{"y": […]}``.

Runs in an environment of its own, so it imports nothing of the project. Reads ``BENCH_MODEL``, ``BENCH_WORKERS`` and ``BENCH_PORT``.
"""

import os
from typing import Any

import litserve  # type: ignore[import-not-found, unused-ignore]  # in the environment of its own
import numpy as np
import onnxruntime as ort


class Bench(litserve.LitAPI):  # type: ignore[misc, unused-ignore]  # as above
    """One model, batched by LitServe."""

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe's signature
        """Opens the session, in the worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """One row."""
        return np.asarray(request["features"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Runs the model on a batch ``[n, features]``; gives ``[n, classes]``."""
        answers: np.ndarray = self._session.run(["y"], {"x": np.asarray(x, np.float32)})[0]
        return answers

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """One answer."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(Bench(max_batch_size=128, batch_timeout=0.002), accelerator="cpu", workers_per_device=workers)
    port = int(os.environ["BENCH_PORT"])
    server.run(host="127.0.0.1", port=port, num_api_servers=workers, log_level="warning", generate_client_file=False, access_log=False)
