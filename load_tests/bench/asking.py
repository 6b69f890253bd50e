"""One request to a server, to see whether it answers and what: over HTTP/1.1, or over gRPC."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Final

import msgspec

_ASK_S: Final = 5.0
_SHOWN_BYTES: Final = 200


class NoGoodAnswer(Exception):
    """There was no answer, or one that says that something is wrong."""


class Reply(msgspec.Struct, frozen=True):
    """A good answer."""

    body: bytes
    headers: dict[str, str] = {}


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Posts a body.

    Raises:
        NoGoodAnswer: The answer's status says so, or there is none; the message says which.
    """
    return _open(urllib.request.Request(url, body, dict(headers)))


def get(url: str) -> Reply:
    """Gets a page.

    Raises:
        NoGoodAnswer: As for `post`.
    """
    return _open(urllib.request.Request(url))


def _open(request: urllib.request.Request) -> Reply:
    try:
        with urllib.request.urlopen(request, timeout=_ASK_S) as response:
            return Reply(response.read(), dict(response.headers.items()))
    except urllib.error.HTTPError as e:
        raise NoGoodAnswer(f"{e.code}: {e.read(_SHOWN_BYTES).decode(errors='replace')}") from e
    except (OSError, HTTPException) as e:
        raise NoGoodAnswer(str(e)) from e


def call(url: str, message: bytes) -> Reply:
    """Calls a gRPC method.

    Args:
        url: ``http://host:port/package.Service/Method``.
        message: The encoded request.

    Raises:
        NoGoodAnswer: The status is not OK, or there is no answer; the message says which.
    """
    import grpc  # noqa: PLC0415  REST needs no gRPC

    target, _, method = url.removeprefix("http://").partition("/")
    with grpc.insecure_channel(target) as channel:
        try:
            answer: bytes = channel.unary_unary(f"/{method}")(message, timeout=_ASK_S)
        except grpc.RpcError as e:
            raise NoGoodAnswer(f"{e.code().name}: {e.details()[:_SHOWN_BYTES]}") from e
    return Reply(answer)
