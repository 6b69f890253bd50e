"""A gRPC client without a network: calls the ASGI app and reads what it sends back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
from tritonclient.grpc import service_pb2 as pb
from unit.serving.inprocess import Serving

from ekiben.serving.grpc.app import GrpcApp
from ekiben.serving.grpc.status import Code

SERVICE = "/inference.GRPCInferenceService/"
INFER = SERVICE + "ModelInfer"
STREAM = SERVICE + "ModelStreamInfer"
TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def framed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4) + message


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


class Wire:
    """Both ends of one call.

    Attributes:
        sent: What the app has sent.
        taken: Number of the client's events that the app has read.
    """

    def __init__(self, events: Sequence[dict[str, Any]] = ()) -> None:
        self.sent: list[dict[str, Any]] = []
        self.taken = 0
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for event in events:
            self.give(event)

    def give(self, event: dict[str, Any]) -> None:
        """Has the client send something."""
        self._events.put_nowait(event)

    async def receive(self) -> dict[str, Any]:
        event = await self._events.get()
        self.taken += 1
        return event

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


class Reply:
    """What came back, taken apart; it is asserted that its form is a gRPC reply's.

    Attributes:
        headers: Those of the beginning.
        messages: Each with the flag in front of it, as bytes.
        code: The status.
        message: What the status says.
        trailers: Those of the end.
    """

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        start, *rest = sent
        assert start["type"] == "http.response.start"
        assert start["status"] == 200
        self.headers = dict(start["headers"])
        assert self.headers[b"content-type"] == b"application/grpc"
        assert b"gzip" in self.headers[b"grpc-accept-encoding"]
        if start.get("trailers"):
            *bodies, last = rest
            assert last["type"] == "http.response.trailers"
            self.trailers = dict(last["headers"])
        else:
            bodies, self.trailers = rest, self.headers
        assert [b.get("more_body", False) for b in bodies] == [True] * (len(bodies) - 1) + [False]
        self.messages = _messages(b"".join(b["body"] for b in bodies))
        self.code = Code(int(self.trailers[b"grpc-status"]))
        self.message = unquote(self.trailers.get(b"grpc-message", b"").decode("ascii"))

    @property
    def plain(self) -> list[bytes]:
        """The messages, none of which is compressed."""
        assert all(flag == 0 for flag, _ in self.messages)
        return [message for _, message in self.messages]

    @property
    def only(self) -> bytes:
        """The only message of a call that went well."""
        assert self.code is Code.OK, self.message
        (message,) = self.plain
        return message


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        length = int.from_bytes(data[1:5])
        assert len(data) >= 5 + length
        found.append((data[0], data[5 : 5 + length]))
        data = data[5 + length :]
    return found


async def called(app: GrpcApp, path: str, wire: Wire, headers: dict[bytes, bytes] | None = None) -> Wire:
    await app(path, {b"content-type": b"application/grpc", b"te": b"trailers", **(headers or {})}, wire.receive, wire.send)
    return wire


class Client:
    """Calls the gRPC app of a server in the test process."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def raw(self, path: str, events: Sequence[dict[str, Any]], **headers: bytes) -> Reply:
        """Sends ASGI events as they are; ``grpc_timeout=b"1S"`` is the header ``grpc-timeout``."""
        return Reply(self.sent(path, events, **headers))

    def sent(self, path: str, events: Sequence[dict[str, Any]], **headers: bytes) -> list[dict[str, Any]]:
        """As `raw`, and what the app sent as it is."""

        async def call() -> list[dict[str, Any]]:
            given = {name.replace("_", "-").encode(): value for name, value in headers.items()}
            return (await called(self._serving.server.grpc.app, path, Wire(events), given)).sent

        return self._serving.thread.run(call())

    def unary(self, path: str, message: Any, **headers: bytes) -> Reply:
        """One message in its own event."""
        return self.raw(path, [part(framed(message.SerializeToString()))], **headers)

    def ask(self, method: str, message: Any, response: Any, **headers: bytes) -> Any:
        """Calls a method of the inference service; its answer."""
        return response.FromString(self.unary(SERVICE + method, message, **headers).only)

    def infer(self, request: Any, **headers: bytes) -> Any:
        return pb.ModelInferResponse.FromString(self.unary(INFER, request, **headers).only)

    def refusal(self, request: Any, code: Code = Code.INVALID_ARGUMENT, **headers: bytes) -> str:
        """What the status of a failed ModelInfer says."""
        reply = self.unary(INFER, request, **headers)
        assert reply.code is code, (reply.code, reply.message)
        assert not reply.messages
        return reply.message

    def stream(self, requests: Sequence[Any], **headers: bytes) -> tuple[Reply, list[Any]]:
        """ModelStreamInfer with all requests at once."""
        events = [*(part(framed(r.SerializeToString()), more=True) for r in requests), part(b"")]
        reply = self.raw(STREAM, events, **headers)
        return reply, [pb.ModelStreamInferResponse.FromString(m) for m in reply.plain]


def request(model: str, *tensors: tuple[str, str, list[int]], raws: Sequence[bytes] = (), **fields: Any) -> Any:
    """A ModelInferRequest with raw contents: tensors are names, datatypes and shapes."""
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=raws, **fields)
    for name, datatype, shape in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


def matrix(*rows: Sequence[float], model: str = "plane", **fields: Any) -> Any:
    """Rows as one raw float32 matrix."""
    array = np.array(rows, np.float32)
    return request(model, ("m", "FP32", list(array.shape)), raws=[array.tobytes()], **fields)


def typed(model: str, **columns: tuple[str, list[Any]]) -> Any:
    """Columns in typed contents: ``x=("FP32", [1.0])``."""
    message = pb.ModelInferRequest(model_name=model)
    for name, (datatype, values) in columns.items():
        item = message.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(item.contents, TYPED[datatype]).extend(values)
    return message


def floats(output: Any, response: Any, index: int = 0) -> list[float]:
    """A raw FP32 output as floats."""
    assert output.datatype == "FP32"
    return np.frombuffer(response.raw_output_contents[index], np.float32).tolist()
