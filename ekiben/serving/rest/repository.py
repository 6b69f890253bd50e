"""The model repository extension over HTTP: ``POST /v2/repository/index`` and ``/v2/repository/models/{m}/load|unload``."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from ekiben.errors import InvalidRequest, UnknownModel
from ekiben.serving.repository import Repository
from ekiben.serving.rest.codec import untyped
from ekiben.serving.rest.http import Response, json_response

_PREFIX: Final = "/v2/repository/"
_ROUTE: Final = re.compile(rf"^{_PREFIX}(index|models/(?P<model>[^/]+)/(?P<action>load|unload))\Z")


class _Index(msgspec.Struct):
    ready: bool = False


class _Change(msgspec.Struct):
    parameters: dict[str, Any] = {}


_Body = TypeVar("_Body", _Index, _Change)


def owns(path: str) -> bool:
    """Whether a path belongs to the extension."""
    return path.startswith(_PREFIX)


def check_route(path: str) -> None:
    """Refuses paths that only look like the extension's.

    Raises:
        UnknownModel: There is no such route, whatever the method.
    """
    if _ROUTE.match(path.rstrip("/")) is None:
        raise UnknownModel(f"there is no route {path!r}; there are {_PREFIX}index and {_PREFIX}models/NAME/load and …/unload")


async def answer(repository: Repository, path: str, body: bytes) -> Response:
    """Answers a POST; its body may be empty.

    Raises:
        InvalidRequest: The body is not what the route takes.
        RequestError: As `Repository` raises.
    """
    match = _ROUTE.match(path.rstrip("/"))
    assert match is not None  # the route was checked
    if match["model"] is None:
        return json_response(await repository.index(ready_only=_decoded(body, _Index).ready))
    parameters = _decoded(body, _Change).parameters
    if match["action"] == "load":
        await repository.load(match["model"], parameters)
    else:
        await repository.unload(match["model"], parameters)
    return json_response({"name": match["model"], match["action"]: True})


def _decoded(body: bytes, kind: type[_Body]) -> _Body:
    if not body.strip():
        return kind()
    try:
        return msgspec.convert(untyped(body), kind)
    except msgspec.ValidationError as e:
        raise InvalidRequest(f"the body is not what this route takes: {e}") from None
