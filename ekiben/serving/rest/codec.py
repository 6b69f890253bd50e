"""What every protocol over HTTP shares: the decoded request, and what is wrong with a body that is none."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import msgspec

from ekiben.errors import InvalidRequest
from ekiben.model.signature import Payload, Rows, Signature
from ekiben.serving.batch_run import Answer
from ekiben.serving.rest.http import Headers, Response

_IN_LOOP_BYTES: Final = 512 * 1024
"""Some milliseconds of decoding, or a tenth of a second where CSV is the slowest."""


class Decoded(msgspec.Struct):
    """A decoded request.

    Attributes:
        payload: Its rows or columns.
        id: The id its body brings.
        options: What the protocol's encoder must know of it.
        timeout_ms: A limit of its own that its body brings.
    """

    payload: Payload
    id: str | None = None
    options: Any = None
    timeout_ms: float | None = None


class Codec(Protocol):
    """A protocol, for one version of a model and for those that may answer in its place."""

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Decodes a request's body, which is not compressed any more.

        Raises:
            RequestError: It is not a valid request, or not of a type that the protocol has.
        """

    def encode(self, answer: Answer, request_id: str, version: str, options: Any) -> Response:
        """Encodes an answer of a version; ``options`` are those of the decoded request."""


async def decoded_in_turn(codec: Codec, body: bytes, headers: Headers) -> Decoded:
    """What a codec makes of a body; of a large one in a thread, so that the requests of others do not wait for it.

    Raises:
        RequestError: As the codec.
    """
    if len(body) <= _IN_LOOP_BYTES:
        return codec.decode(body, headers)
    return await asyncio.to_thread(codec.decode, body, headers)


def rows_payload(signature: Signature, rows: Rows) -> Payload:
    """Rows as the batcher takes them: scalars as they are, to become arrays together with others'; tensors as arrays now.

    Tensors are large, and one of a wrong shape must not spoil the batch it would join.

    Raises:
        InvalidRows: A tensor has the wrong shape.
    """
    return signature.batch(rows) if signature.has_tensors and rows else rows


def untyped(body: bytes) -> Any:
    """The body as plain Python values.

    Raises:
        InvalidRequest: It is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidRequest(f"the body is not JSON: {e}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
