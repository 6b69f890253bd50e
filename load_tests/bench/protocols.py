"""The ways in which a server is asked: what the body is, where it goes, and where the values are in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from load_tests.bench.models import BenchModel
from load_tests.open_inference import (
    INFER_METHOD,
    JSON_LENGTH_HEADER,
    Malformed,
    Tensor,
    binary_body,
    binary_outputs,
    grpc_outputs,
    grpc_request,
    json_body,
    json_outputs,
    tensor,
)

REST: Final = "rest"
V2_JSON: Final = "v2-json"
V2_BINARY: Final = "v2-binary"
GRPC: Final = "grpc"
DATA: Final = "data-"
PROTOCOLS: Final = (REST, V2_JSON, V2_BINARY, GRPC, DATA + REST, DATA + V2_JSON, DATA + V2_BINARY)
"""``rest`` is a server's own JSON; ``data-`` is a protocol on Ekiben's data port instead of BentoML's."""

_REQUEST_ID: Final = "bench"
_TOLERANCE: Final = 2e-3
Rows = list[list[float]]


class Asked(msgspec.Struct, frozen=True):
    """One request: a body, and headers on top of the content type."""

    body: bytes
    headers: dict[str, str] = {}


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """One way to ask one server.

    Attributes:
        name: One of `PROTOCOLS`.
        path: Where predictions are, by model.
        ask: Rows → the request that asks for them.
        read: An answer's body and headers → the values for its first row.
        on_second_port: Whether it is spoken on the server's second port.
        takes_rows: Whether it is also asked for several rows at once.
    """

    name: str
    path: Callable[[BenchModel], str]
    ask: Callable[[BenchModel, Rows], Asked]
    read: Callable[[BenchModel, bytes, Mapping[str, str]], list[float]]
    on_second_port: bool = False
    takes_rows: bool = False

    @property
    def is_grpc(self) -> bool:
        """Whether it needs an HTTP/2 load generator."""
        return self.name == GRPC

    def requests(self, model: BenchModel, rows_each: int = 1) -> list[Asked]:
        """All rows of the model, so many a request."""
        starts = range(0, len(model.rows) - rows_each + 1, rows_each)
        return [self.ask(model, model.rows[start : start + rows_each]) for start in starts]

    def is_right(self, model: BenchModel, answer: bytes, headers: Mapping[str, str], expected: list[float]) -> bool:
        """Whether an answer holds the expected values."""
        try:
            found = self.read(model, answer, headers)
            return len(found) == len(expected) and all(abs(a - b) < _TOLERANCE for a, b in zip(found, expected, strict=True))
        except (Malformed, msgspec.DecodeError, LookupError, TypeError, ValueError):
            return False


def own_json(
    path: Callable[[BenchModel], str], wrap: Callable[[Rows], Any], unwrap: Callable[[Any], list[float]], *, takes_rows: bool = False
) -> Protocol:
    """A server's own JSON.

    Args:
        path: Where predictions are, by model.
        wrap: Rows → the body, before it is encoded.
        unwrap: The decoded answer → the values for its first row.
        takes_rows: Whether a request may hold several rows.
    """
    return Protocol(
        name=REST,
        path=path,
        ask=lambda _model, rows: Asked(msgspec.json.encode(wrap(rows))),
        read=lambda _model, answer, _headers: unwrap(msgspec.json.decode(answer)),
        takes_rows=takes_rows,
    )


def v2_json(output_of: Callable[[BenchModel], str]) -> Protocol:
    """Open Inference Protocol, tensors in JSON; ``output_of`` names the output that holds the values."""
    return Protocol(
        name=V2_JSON,
        path=_v2_path,
        ask=lambda model, rows: Asked(json_body([_matrix(rows)], [output_of(model)])),
        read=lambda model, answer, _headers: _first(model, json_outputs(answer), output_of),
    )


def v2_binary(output_of: Callable[[BenchModel], str]) -> Protocol:
    """Open Inference Protocol, binary tensors both ways."""

    def ask(model: BenchModel, rows: Rows) -> Asked:
        body, json_length = binary_body([_matrix(rows)], [output_of(model)])
        return Asked(body, {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(json_length)})

    return Protocol(
        name=V2_BINARY,
        path=_v2_path,
        ask=ask,
        read=lambda model, answer, headers: _first(model, binary_outputs(answer, headers), output_of),
    )


def grpc(output_of: Callable[[BenchModel], str]) -> Protocol:
    """Open Inference Protocol over gRPC with raw contents, on the second port."""

    def ask(model: BenchModel, rows: Rows) -> Asked:
        # With an id given, answers are of one length, which is how the load generator tells them from errors.
        request = grpc_request(model.name, [_matrix(rows)], outputs=[output_of(model)], request_id=_REQUEST_ID)
        return Asked(request.SerializeToString())

    def read(model: BenchModel, answer: bytes, _headers: Mapping[str, str]) -> list[float]:
        return _first(model, grpc_outputs(_message("ModelInferResponse", answer)), output_of)

    return Protocol(name=GRPC, path=lambda _model: INFER_METHOD, ask=ask, read=read, on_second_port=True)


def echoed_grpc() -> Protocol:
    """The same message sent back as it is: what must come is the row's first values."""

    def read(model: BenchModel, answer: bytes, _headers: Mapping[str, str]) -> list[float]:
        request = _message("ModelInferRequest", answer)
        return np.frombuffer(request.raw_input_contents[0], "<f4")[: model.classes].tolist()  # type: ignore[no-any-return]

    return msgspec.structs.replace(grpc(lambda _model: "y"), read=read)


def on_data_port(protocol: Protocol) -> Protocol:
    """The same protocol on the second port, under a name that says so."""
    return msgspec.structs.replace(protocol, name=DATA + protocol.name, on_second_port=True)


def _message(kind: str, encoded: bytes) -> Any:
    from google.protobuf.message import DecodeError  # noqa: PLC0415  REST needs no gRPC
    from tritonclient.grpc import service_pb2  # noqa: PLC0415  as above

    try:
        return getattr(service_pb2, kind).FromString(encoded)
    except DecodeError as e:
        raise Malformed(f"no {kind}: {e}") from e


def _v2_path(model: BenchModel) -> str:
    return f"/v2/models/{model.name}/infer"


def _matrix(rows: Rows) -> Tensor:
    return tensor("x", "FP32", np.asarray(rows, np.float32))


def _first(model: BenchModel, outputs: dict[str, list[Any]], output_of: Callable[[BenchModel], str]) -> list[float]:
    return outputs[output_of(model)][: model.classes]
