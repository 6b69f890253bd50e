"""The KServe SDK with a model of its own: Open Inference Protocol over REST and gRPC, a run of the session a request (it has no batcher).

Runs in an environment of its own, so it imports nothing of the project. Reads ``BENCH_MODEL``, ``BENCH_NAME``, ``BENCH_WORKERS``,
``BENCH_PORT`` and ``BENCH_GRPC_PORT``.
"""

import os
from typing import Any

import kserve  # type: ignore[import-not-found, unused-ignore]  # in the environment of its own
import numpy as np
import onnxruntime as ort
from kserve import logging as kserve_logging


class Bench(kserve.Model):  # type: ignore[misc, unused-ignore]  # as above
    """One model."""

    def load(self) -> bool:
        """Opens the session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
        self.ready = True
        return True

    def __getstate__(self) -> dict[str, Any]:
        # Several workers are spawned with a pickled copy; sessions cannot be pickled.
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.load()

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002  KServe's signature
        """One request, V2 whichever way it came."""
        rows = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        answers = self._session.run(["y"], {"x": rows})[0]
        output = kserve.InferOutput("y", list(answers.shape), "FP32")
        output.set_data_from_numpy(answers, binary_data=False)
        return kserve.InferResponse(response_id=payload.id or "bench", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    # As it comes it logs three lines a request; the access log has no switch, so its level is set here.
    kserve_logging.KSERVE_LOG_CONFIG["loggers"]["uvicorn.access"]["level"] = "WARNING"
    kserve_logging.KSERVE_LOG_CONFIG["loggers"]["kserve"]["level"] = "WARNING"
    model = Bench(os.environ["BENCH_NAME"])
    model.load()
    kserve.ModelServer(
        event_loop="uvloop",
        http_port=int(os.environ["BENCH_PORT"]),
        grpc_port=int(os.environ["BENCH_GRPC_PORT"]),
        workers=int(os.environ["BENCH_WORKERS"]),
        enable_latency_logging=False,
    ).start([model])
