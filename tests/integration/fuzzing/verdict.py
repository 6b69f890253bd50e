"""What no answer may be, whatever was asked."""

from __future__ import annotations

import json

from integration.fuzzing.corpus import HttpRequest
from integration.fuzzing.grpc_cases import Call
from integration.fuzzing.http1 import Answer
from integration.fuzzing.http2 import INTERNAL_ERROR, Ended

OVERLOADED = (503, 504)
DEADLINE_EXCEEDED, UNAVAILABLE = 4, 14
SOUND = (0, 3, 5, 7, 8, 9, 12)
"""OK, and the statuses that say what is wrong with the call."""


def of_rest(request: HttpRequest, answer: Answer) -> str | None:
    """What is wrong with an answer over REST; None where nothing is."""
    if answer.status >= 500 and not (request.has_deadline and answer.status in OVERLOADED):
        return f"status {answer.status}: {answer.body[:300]!r}"
    if answer.status >= 400 and (answer.status >= 500 or _is_ours(request)):
        return _no_error(answer)
    return None


def _is_ours(request: HttpRequest) -> bool:
    """Whether we answer: some of the typed endpoints' requests, and unknown paths, are BentoML's."""
    return request.method == "POST" and request.path.startswith(("/v1/models/", "/v2/models/", "/invocations", "/score"))


def _no_error(answer: Answer) -> str | None:
    if answer.headers.get("content-type") == "application/json":
        try:
            body = json.loads(answer.body)
        except ValueError:
            body = None
        if isinstance(body, dict) and isinstance(body.get("error"), str) and body["error"]:
            return None
    return f"status {answer.status} without an error in JSON: {answer.headers} {answer.body[:300]!r}"


def of_grpc(call: Call, ended: Ended) -> str | None:
    """What is wrong with how a call ended; None where nothing is."""
    if ended.reset == INTERNAL_ERROR:
        return f"reset with INTERNAL_ERROR: {ended}"
    status = ended.headers.get("grpc-status")
    if status is not None:
        allowed = (*SOUND, DEADLINE_EXCEEDED, UNAVAILABLE) if call.has_deadline else SOUND
        return None if status.isdigit() and int(status) in allowed else f"grpc-status {status}: {ended.headers.get('grpc-message')}"
    if call.is_grpc:
        return f"no grpc-status: {ended}"
    if int(ended.headers.get(":status", "400")) >= 500:
        return f"status {ended.headers}: {ended.body[:300]!r}"
    return None
