"""FastAPI, ONNX Runtime and orjson, the session run on the event loop: ``{"features": […]}`` is answered ``{"y": […]}``.

The fastest plain recipe there is for it: a thread pool costs more than a small model does. Runs in an environment of its
own, so it imports nothing of the project. Reads ``BENCH_MODEL`` (an ONNX file).
"""

import os

import numpy as np
import onnxruntime as ort
import orjson  # type: ignore[import-not-found, unused-ignore]  # in the environment of its own
from fastapi import FastAPI, Response  # type: ignore[import-not-found, unused-ignore]  # as above
from pydantic import BaseModel


class Row(BaseModel):
    """One row."""

    features: list[float]


def build_app() -> FastAPI:
    """The app, for ``uvicorn --factory``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    async def predict(row: Row) -> Response:
        answers = session.run(["y"], {"x": np.asarray([row.features], np.float32)})[0]
        return Response(orjson.dumps({"y": answers[0]}, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    app = FastAPI()
    app.add_api_route("/predict", predict, methods=["POST"])
    return app
