"""The admin API: paths under ``/admin/v1/``, for those who may do everything: the admin key, keys and tokens of the scope ``admin``.

A request's way, top to bottom, is `Admin.answer`: who asks, the route, what it takes, the handler in a thread, the answer, and
the event that tells of it.
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
    KeyRefused,
    MethodNotAllowed,
    RegistryError,
    RequestError,
    RolloutChanged,
    RolloutRefused,
    SpecError,
    StateError,
    Unauthenticated,
    UnknownKey,
    UnknownModel,
    UnknownRollout,
    VersionNotFound,
)
from ekiben.guards.audit import AdminAction, AuditTrail
from ekiben.guards.auth import Authenticator, given_of
from ekiben.guards.principal import ADMIN, Principal
from ekiben.guards.tokens import REFUSED
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
    (UnknownKey, 404),
    (RolloutChanged, 409),
    (RolloutRefused, 422),
    (KeyRefused, 422),
    (RegistryError, 422),
    (ArtifactError, 422),
    (StateError, 503),
)
_RETRY_AFTER: Final = (b"retry-after", b"1")
_NO_STORE: Final = (b"cache-control", b"no-store")
_READING: Final = ("GET", "HEAD")


class Admin:
    """The admin API.

    Args:
        operations_for: Who asks → what answers about rollouts, for them.
        authenticator: Says who asks; they need the scope ``admin``.
        audit: Keeps what was done, and who was refused. Reading leaves no trace there.
        more: Rows for the table, of other parts.
        max_body_bytes: Largest body.

    Attributes:
        routes: The table.
    """

    def __init__(
        self,
        operations_for: OperationsFor,
        authenticator: Authenticator,
        audit: AuditTrail,
        *,
        more: Sequence[AdminRoute] = (),
        max_body_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._authenticator = authenticator
        self._audit = audit
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

    @staticmethod
    def needs(path: str) -> tuple[str, str] | None:  # noqa: ARG004  it is the same for all
        """Nothing that others could see to: it says itself who may."""
        return None

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request, whatever is wrong with it.

        Raises:
            Disconnected: The client went away while its body was read; there is nobody to answer.
        """
        headers: Headers = dict(scope["headers"])
        principal = self._authenticator.anonymous
        try:
            principal = await self._identified(headers)
            self._authenticator.authorize(principal, ADMIN)
        except RequestError as e:
            response = error_response(e)
            if self._audit.takes_refused():
                await asyncio.to_thread(self._audit.refused, self._action(scope, principal, response))
            await skip_body(scope, receive, headers)
            return response
        response = await self._answered(scope, receive, headers, principal)
        if scope["method"] not in _READING:
            await asyncio.to_thread(self._audit.done, self._action(scope, principal, response))
        return response

    async def _identified(self, headers: Headers) -> Principal:
        """Who asks; never nobody.

        Raises:
            Unauthenticated: Nothing says who, or what says so has expired.
            Forbidden: What it brings is not good, or there is no admin key that it could be.
            NotReady: It cannot be checked now.
        """
        try:
            principal = await self._authenticator.identify(headers)
        except Unauthenticated as e:
            if str(e) != REFUSED:
                raise
            principal = self._authenticator.anonymous
        if not principal.is_anonymous:
            return principal
        key = self._authenticator.admin_key
        if key.check(None) == "off":
            raise Forbidden(f"the admin API is off: {key.problem}")
        if given_of(headers):
            raise Forbidden("the key is not that of this server's admin API, and no API key or token that is good")
        raise Unauthenticated(f"send Authorization: Bearer KEY; the key is in {key.file.name} on the server, or one with the scope {ADMIN}")

    async def _answered(self, scope: Scope, receive: Receive, headers: Headers, principal: Principal) -> Response:
        """Answers who was let in, whatever is wrong.

        Raises:
            Disconnected: As `answer`.
        """
        try:
            return await compressed(await self._answer(scope, receive, headers, principal), headers)
        except Disconnected:
            raise
        except EkibenError as e:
            response = refusal(e)
        except Exception as e:
            logger.exception("the admin API failed at %s %s", scope["method"], scope["path"])
            response = error_response(RequestError(f"the server failed: {type(e).__name__}; its log says more"))
        await skip_body(scope, receive, headers)
        return response

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers, principal: Principal) -> Response:
        route, path = self._find(scope)
        query = route.read_query(scope.get("query_string", b""))
        body = None
        if scope["method"] not in _READING:
            limit = self._max_body_bytes
            text = await decoded_body(await read_body(receive, headers, limit), headers, limit)
            if text.strip():
                check_json(headers)
            body = route.read_body(text)
        value = await asyncio.to_thread(route.handler, Asked(who=_who(principal, scope), path=path, query=query, body=body))
        response = json_response(value, route.status)
        response.headers = [_NO_STORE]  # an answer may be a key
        return response

    def _action(self, scope: Scope, principal: Principal, response: Response) -> AdminAction:
        try:
            route, parts = self._find(scope)
        except RequestError:
            route, parts = None, {}
        path = route.path if route is not None else ""
        return AdminAction(who=_who(principal, scope), method=scope["method"], route=path, parts=parts, status=response.status)

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


def _who(principal: Principal, scope: Scope) -> str:
    """Who asks, as events name them: which key or token, and from where."""
    client = scope.get("client")
    return f"{principal.id}@{client[0]}" if client else principal.id
