"""Mutated gRPC calls: messages, their prefixes, and metadata, on every method."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from integration.fuzzing.grpc_messages import message as message_of
from integration.fuzzing.http2 import Header
from integration.fuzzing.mutations import TEXTS, mutated_bytes
from integration.fuzzing.protobuf import mutated_message
from tritonclient.grpc import service_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
STREAM = f"/{SERVICE}/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
_MODEL = {"name": "tiny", "version": "1"}
SMALL = {
    f"/{SERVICE}/{name}": getattr(pb, f"{name}Request")(**fields).SerializeToString()
    for name, fields in {
        "ServerLive": {}, "ServerReady": {}, "ServerMetadata": {}, "ModelReady": _MODEL, "ModelMetadata": _MODEL, "ModelConfig": _MODEL,
        "ModelStatistics": _MODEL, "RepositoryIndex": {"ready": True}, "RepositoryModelLoad": {"model_name": "tiny"},
        "RepositoryModelUnload": {"model_name": "tiny"}, "SystemSharedMemoryStatus": {"name": "x"}, "TraceSetting": {}, "LogSettings": {},
        "CudaSharedMemoryRegister": {"name": "x"},
    }.items()
}  # fmt: skip
SMALL["/grpc.health.v1.Health/Check"] = health_pb2.HealthCheckRequest(service="tiny").SerializeToString()
SMALL[WATCH] = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
for _version in ("v1", "v1alpha"):
    SMALL[f"/grpc.reflection.{_version}.ServerReflection/ServerReflectionInfo"] = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol=SERVICE
    ).SerializeToString()


class Call(NamedTuple):
    """A call.

    Attributes:
        headers: All of its fields.
        chunks: What is in its DATA frames.
        has_deadline: Whether it may well be answered with DEADLINE_EXCEEDED or UNAVAILABLE.
        is_grpc: Whether it says that it is a gRPC call.
        ends: Whether the client ends its stream.
    """

    headers: list[Header]
    chunks: list[bytes]
    has_deadline: bool = False
    is_grpc: bool = True
    ends: bool = True


def prefixed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A message behind its prefix."""
    return bytes((flag,)) + ((len(message) if length is None else length) % 2**32).to_bytes(4) + message


def fields(path: str, *more: Header) -> list[Header]:
    """The fields of a sound call."""
    begin: list[Header] = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return [*begin, ("content-type", "application/grpc"), ("te", "trailers"), *more]


def call(rng: Random) -> Call:
    """A mutated call."""
    choice = rng.random()
    if choice < 0.6:
        path, message = rng.choice((INFER, INFER, INFER, STREAM)), message_of(rng)
    else:
        path = rng.choice([path for path in SMALL if path != WATCH])
        message = mutated_message(rng, SMALL[path]) if rng.random() < 0.9 else message_of(rng)
    more: list[Header] = []
    body = prefixed(message)
    if rng.random() < 0.25:
        body, more = _framed(rng, message)
    if path == STREAM and rng.random() < 0.6:
        body += b"".join(prefixed(message_of(rng)) for _ in range(rng.randrange(5)))
    made = Call(fields(path, *more), _cut(rng, body), has_deadline=b"timeout" in message + body)
    return _metadata(rng, made) if rng.random() < 0.25 else made


def _framed(rng: Random, message: bytes) -> tuple[bytes, list[Header]]:
    """A message behind a prefix that is not quite right, or compressed."""
    choice = rng.randrange(6)
    if choice == 0:
        length = rng.choice((len(message) + 1, len(message) - 1, 0, 2**24, 2**31, 2**32 - 1, len(message) // 2))
        return prefixed(message, length=length), []
    if choice == 1:
        return prefixed(message, flag=rng.choice((1, 2, 128, 255))), []
    if choice == 2:
        return mutated_bytes(rng, prefixed(message)), []
    if choice == 3:
        return prefixed(message) * rng.choice((2, 3)), []
    encoding = rng.choice(("gzip", "deflate", "identity", "br", "", "snappy", "gzip,deflate", "GZIP"))
    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    plain = bytes(30_000_000) if rng.random() < 0.02 else message
    packed = packer.compress(plain) + packer.flush()
    if choice == 4:
        packed = mutated_bytes(rng, packed, [message])
    accepted = rng.choice(("gzip", "identity,deflate,gzip", "", ",,;"))
    return prefixed(packed, flag=1), [("grpc-encoding", encoding), ("grpc-accept-encoding", accepted)]


def _cut(rng: Random, body: bytes) -> list[bytes]:
    """The body in DATA frames: mostly one, or cut anywhere, empty frames among them."""
    if rng.random() < 0.7 and len(body) < 16000:
        return [body]
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice((1, 2, 5)))) if body else [0]
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [part[at : at + 16000] for part in parts for at in range(0, max(len(part), 1), 16000)]


_TIMEOUTS = ("1n", "0m", "1S", "99999999H", "999999999H", "S", "", "-1S", "1.5S", "1 S", "1s", "\uff15S", "0n")
_TYPES = (
    "application/grpc+proto", "application/grpc;x=y", "application/grpc+json", "application/grpc-web", "application/GRPC",
    "application/grpcx", "text/plain", "", "application/json", "application/grpc\xff",
)  # fmt: skip
_PATHS = ("/", f"/{SERVICE}/Nothing", "/x/y", "/" + "a" * 5000, "/é", f"/{SERVICE}/", "/%00", "*", "")
_WRONG: tuple[Header, ...] = (
    ("X-Upper", "1"), ("connection", "close"), ("x y", "1"), (b"\xff", b"\xfe"), ("x", "a\r\nb"), (":more", "1"), ("", ""),
    ("transfer-encoding", "chunked"), ("content-length", "1"), ("te", "gzip"), ("host", "other"), (":path", "/x"),
)  # fmt: skip
_NAMES = ("x-request-id", "traceparent", "grpc-accept-encoding", "user-agent", "grpc-tags-bin", "authorization")


def _metadata(rng: Random, made: Call) -> Call:
    """The call with a field that is wrong, missing, doubled or large."""
    fields = rng.choice(_METADATA)(rng, list(made.headers))
    return made._replace(headers=fields, is_grpc=False, has_deadline=made.has_deadline or any(name == "grpc-timeout" for name, _ in fields))


def _with(at: int, values: tuple[str, ...]) -> Callable[[Random, list[Header]], list[Header]]:
    return lambda rng, fields: [*fields[:at], (fields[at][0], rng.choice(values)), *fields[at + 1 :]]


def _without(rng: Random, fields: list[Header]) -> list[Header]:
    del fields[rng.choice((4, 5))]
    return fields


_METADATA: tuple[Callable[[Random, list[Header]], list[Header]], ...] = (
    _without,
    _with(0, ("GET", "PUT", "", "post", "CONNECT")),
    _with(2, _PATHS),
    _with(4, _TYPES),
    lambda rng, fields: [*fields, ("grpc-timeout", rng.choice(_TIMEOUTS))],
    lambda rng, fields: [*fields, rng.choice(fields), ("grpc-timeout", "5S"), ("grpc-timeout", "7S")],
    lambda rng, fields: [*fields, *[(f"x-{n}-bin", "a" * rng.choice((1, 500))) for n in range(rng.choice((1, 20, 200)))]],
    lambda rng, fields: [*fields, rng.choice(_WRONG)],
    lambda rng, fields: [*fields, (rng.choice(_NAMES), rng.choice((*TEXTS, "\xff", "a" * 8000)))],
)
