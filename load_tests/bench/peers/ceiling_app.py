"""The ceilings: bare ASGI and msgspec, ``{"features": […]}`` is answered ``{"y": […]}``.

``build_echo`` answers the row's first values and runs no model; ``build_onnx`` runs the session on the event loop, one row
at a time, without batching. Reads ``BENCH_MODEL`` (an ONNX file) and ``BENCH_CLASSES``.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Row(msgspec.Struct):
    """A request."""

    features: list[float]


class Answer(msgspec.Struct):
    """A response."""

    y: list[float]


def build_echo() -> App:
    """Answers as many values as the model has classes, taken from the row."""
    classes = int(os.environ["BENCH_CLASSES"])
    return _app(lambda features: features[:classes])


def build_onnx() -> App:
    """Answers what the model gives."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

    def run(features: list[float]) -> list[float]:
        answer: list[float] = session.run(["y"], {"x": np.array([features], np.float32)})[0][0].tolist()
        return answer

    return _app(run)


def _app(answer: Callable[[list[float]], list[float]]) -> App:
    decoder = msgspec.json.Decoder(Row)
    encoder = msgspec.json.Encoder()

    async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        out = encoder.encode(Answer(answer(decoder.decode(body).features)))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(out))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": out})

    return app


async def _live(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
