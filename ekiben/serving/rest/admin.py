"""The admin API: paths under ``/admin/v1/``, for those who have the key.

A request's way, top to bottom, is `Admin.answer`: the key, the route, what it takes, the handler in a thread, the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ekiben.errors import (
    ArtifactError,
    EkibenError,
    Forbidden,
    MethodNotAllowed,
    RegistryError,
    RequestError,
    RolloutChanged,
    RolloutRefused,
    SpecError,
    StateError,
    UnknownModel,
    UnknownRollout,
    VersionNotFound,
)
from ekiben.guards.admin_key import AdminKey
from ekiben.serving.rest.admin_openapi import openapi
from ekiben.serving.rest.admin_rollouts import OperationsFor, rollout_routes
from ekiben.serving.rest.admin_route import PREFIX, AdminRoute, Asked
from ekiben.serving.rest.http import (
    Disconnected,
    Headers,
    Receive,
    Response,
    Scope,
    check_json,
    compressed,
    decoded_body,
    error_response,
    json_response,
    read_body,
    skip_body,
)

logger = logging.getLogger("ekiben.admin")

STATUS: Final[tuple[tuple[type[EkibenError], int], ...]] = (
    (SpecError, 400),  # a plan; it says which field
    (UnknownRollout, 404),
    (VersionNotFound, 404),
    (RolloutChanged, 409),
    (RolloutRefused, 422),
    (RegistryError, 422),
    (ArtifactError, 422),
    (StateError, 503),
)
_RETRY_AFTER: Final = (b"retry-after", b"1")
_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="ekiben admin"')


class Admin:
    """The admin API.

    Args:
        operations_for: Who asks → what answers about rollouts, for them.
        key: What a request must bring.
        more: Rows for the table, of other parts.
        max_body_bytes: Largest body.

    Attributes:
        routes: The table.
    """

    def __init__(
        self, operations_for: OperationsFor, key: AdminKey, *, more: Sequence[AdminRoute] = (), max_body_bytes: int = 16 * 1024 * 1024
    ) -> None:
        self._key = key
        self._max_body_bytes = max_body_bytes
        document = AdminRoute(
            method="GET",
            path="/openapi.json",
            name="getOpenApi",
            summary="This document.",
            handler=lambda _: openapi(self.routes),
            answer=dict,
        )
        self.routes: tuple[AdminRoute, ...] = (*rollout_routes(operations_for), *more, document)

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path belongs to the admin API."""
        return path.startswith(f"{PREFIX}/") or path == PREFIX

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request, whatever is wrong with it.

        Raises:
            Disconnected: The client went away while its body was read; there is nobody to answer.
        """
        headers: Headers = dict(scope["headers"])
        try:
            response = self._barred(headers)
            if response is None:
                return await compressed(await self._answer(scope, receive, headers), headers)
        except Disconnected:
            raise
        except EkibenError as e:
            response = refusal(e)
        except Exception as e:
            logger.exception("the admin API failed at %s %s", scope["method"], scope["path"])
            response = error_response(RequestError(f"the server failed: {type(e).__name__}; its log says more"))
        await skip_body(scope, receive, headers)
        return response

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Response:
        route, path = self._find(scope)
        query = route.read_query(scope.get("query_string", b""))
        body = None
        if scope["method"] not in ("GET", "HEAD"):
            limit = self._max_body_bytes
            text = await decoded_body(await read_body(receive, headers, limit), headers, limit)
            if text.strip():
                check_json(headers)
            body = route.read_body(text)
        value = await asyncio.to_thread(route.handler, Asked(who=_who(scope), path=path, query=query, body=body))
        return json_response(value, route.status)

    def _barred(self, headers: Headers) -> Response | None:
        """What a request without the key is told; None lets it in."""
        match self._key.check(headers.get(b"authorization")):
            case "right":
                return None
            case "missing":
                response = json_response(
                    {"error": f"send Authorization: Bearer KEY; the key is in {self._key.file.name} on the server"}, 401
                )
                response.headers = [_CHALLENGE]
                return response
            case "wrong":
                return error_response(Forbidden("the key is not that of this server's admin API"))
            case "off":
                return error_response(Forbidden(f"the admin API is off: {self._key.problem}"))

    def _find(self, scope: Scope) -> tuple[AdminRoute, dict[str, str]]:
        """The row of a request, and the parts of its path.

        Raises:
            UnknownModel: There is no such path.
            MethodNotAllowed: The path takes other methods.
        """
        path, method = scope["path"], scope["method"]
        matches = [(route, match) for route in self.routes if (match := route.regex.match(path)) is not None]
        if not matches:
            raise UnknownModel(f"there is no route {path[:200]!r}; {PREFIX}/openapi.json lists them")
        for route, match in matches:
            if method in route.methods:
                return route, match.groupdict()
        allow = ", ".join(dict.fromkeys(m for route, _ in matches for m in route.methods))
        raise MethodNotAllowed(f"{path} takes {allow}, not {method}", allow)


def refusal(error: EkibenError) -> Response:
    """``{"error": "...", "details": [...]}`` with the status of the error."""
    if isinstance(error, RequestError):
        return error_response(error)
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    body: dict[str, object] = {"error": str(error)}
    if isinstance(error, SpecError):
        body["details"] = [{"field": error.field, "problem": str(error)}]
    response = json_response(body, status)
    if isinstance(error, StateError):
        response.headers = [_RETRY_AFTER]
    return response


def _who(scope: Scope) -> str:
    """Who asks, as events name them: which key, and from where."""
    client = scope.get("client")
    return f"admin-key@{client[0]}" if client else "admin-key"
