"""The ASGI front: paths of the data plane are answered here, all others by BentoML's own app.

The way of an inference request over HTTP, top to bottom, is `InferRoute.__call__`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from ekiben.errors import MethodNotAllowed, RequestError, UnsupportedMediaType
from ekiben.guards.gate import NO_LIMITS, Gate, Visit
from ekiben.guards.principal import PREDICT
from ekiben.model.signature import rows_of
from ekiben.serving.access_log import AccessLog
from ekiben.serving.batch_run import Clock
from ekiben.serving.dataplane import Call, DataPlane
from ekiben.serving.repository import Repository
from ekiben.serving.rest import metadata, repository
from ekiben.serving.rest.access import scope_of_page, scope_of_path
from ekiben.serving.rest.codec import Codec, Decoded, decoded_in_turn
from ekiben.serving.rest.http import (
    Disconnected,
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    compressed,
    decoded_body,
    error_response,
    fits_header,
    id_of,
    json_response,
    only_post,
    read_body,
    respond,
    skip_body,
    timeout_of,
)
from ekiben.serving.rest.pages import secured
from ekiben.serving.rest.platforms import PlatformRoutes
from ekiben.serving.rest.v1 import NativeCodec, V1Codec
from ekiben.serving.rest.v2 import V2Codec
from ekiben.serving.tracing import Tracer

logger = logging.getLogger("ekiben.rest")

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_V1: Final = re.compile(r"^/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[^/:]+))?:predict\Z")
_V2: Final = re.compile(r"^/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/infer\Z")


class Part(Protocol):
    """What answers some paths that are not inference."""

    def owns(self, path: str) -> bool:
        """Whether a path is one of them."""

    def needs(self, path: str) -> tuple[str, str] | None:
        """The scope and the model that who asks must have it for; None where the part sees to that itself."""

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request.

        Raises:
            RequestError: It cannot be answered.
            Disconnected: The client went away.
        """


class RestApp:
    """The front.

    Args:
        plane: The data plane.
        fallback: BentoML's app, for every path that is not the data plane's.
        gate: Lets requests in.
        platforms: The paths of hosting platforms.
        models: Answers the model repository extension.
        clock: Monotonic seconds.
        max_body_bytes: Largest body.
        access_log: Where answered requests are noted.
        tracer: Makes spans; None when no exporter is configured.
        parts: What answers further paths.
    """

    def __init__(
        self,
        plane: DataPlane,
        fallback: ASGIApp,
        *,
        gate: Gate,
        platforms: PlatformRoutes,
        models: Repository,
        clock: Clock,
        max_body_bytes: int,
        access_log: AccessLog,
        tracer: Tracer | None,
        parts: Sequence[Part] = (),
    ) -> None:
        self.plane = plane
        self.gate = gate
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.access_log = access_log
        self.tracer = tracer
        self.fallback = fallback
        self._platforms = platforms
        self._models = models
        self._parts = parts
        self._routes: dict[str, ASGIApp] = {}
        self.rebuild_routes()

    def rebuild_routes(self) -> None:
        """Makes the routes of the versions loaded now; called after each swap."""
        snapshot = self.plane.host.snapshot
        routes: dict[str, ASGIApp] = {}
        for model, served in snapshot.default.items():
            routes[f"/v1/models/{model}:predict"] = InferRoute(self, model, None, V1Codec(served))
            routes[f"/v2/models/{model}/infer"] = InferRoute(self, model, None, V2Codec(served))
            if model in self.plane.host.folder:  # what was loaded beyond the folder has no typed endpoint
                routes[f"/{model}"] = InferRoute(self, model, None, NativeCodec(served))
        for (model, version), served in snapshot.loaded.items():
            routes[f"/v1/models/{model}/versions/{version}:predict"] = InferRoute(self, model, version, V1Codec(served))
            routes[f"/v2/models/{model}/versions/{version}/infer"] = InferRoute(self, model, version, V2Codec(served))
        routes |= self._platforms.routes(snapshot, partial(InferRoute, self), self._let_in_to_predict)
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] != "http":
            await self.fallback(scope, receive, send)
            return
        path = scope["path"]
        route = self._routes.get(path)
        if route is None:
            path = self._platforms.health(path) or path
            route = self._unserved(path, scope["method"])
        try:
            if route is not None:
                await route(scope, receive, send)
            elif part := next((p for p in self._parts if p.owns(path)), None):
                await self._answer_part(part, scope, receive, send)
            elif repository.owns(path):
                await self._answer_repository(scope, receive, send)
            elif metadata.owns(path):
                await self._answer_metadata(path, scope, send)
            elif path == "/" and not wants_page(scope):
                await respond(scope, send, json_response({"status": "alive"}), closing=self.plane.draining)
            else:
                await self.hand_over(scope, receive, send)
        except RuntimeError as e:
            # NOTE: uvloop's, where uvicorn closed the connection over bytes that came behind this request and are no HTTP.
            if "handler is closed" not in str(e):
                raise

    async def hand_over(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has BentoML's app answer, pages and metrics for whoever may read them."""
        if needed := scope_of_page(scope["path"], scope["method"]):
            try:
                await self.gate.enter(needed, None, dict(scope["headers"]), scope.get("client"))
            except RequestError as e:
                await respond(scope, send, error_response(e), closing=self.plane.draining)
                return
        # NOTE: its access log decodes the Content-Type once the answer's head is sent, and cuts the answer there if it cannot.
        if dict(scope["headers"]).get(b"content-type", b"").isascii():
            await self.fallback(scope, receive, secured(send))
        else:
            await respond(scope, send, error_response(UnsupportedMediaType("Content-Type must be ASCII")), closing=self.plane.draining)

    def _unserved(self, path: str, method: str) -> InferRoute | None:
        """The route of a model or version that cannot answer: it says why, in the way every request is answered."""
        if match := _V1.match(path) or _V2.match(path):
            return InferRoute(self, match["model"], match["version"], None)
        if method == "POST" and path[1:] in self.plane.host.folder:
            return InferRoute(self, path[1:], None, None)
        return None

    async def _answer_part(self, part: Part, scope: Scope, receive: Receive, send: Send) -> None:
        """Ground truth and the admin API."""
        try:
            if needed := part.needs(scope["path"]):
                await self.gate.enter(*needed, dict(scope["headers"]), scope.get("client"))
            response = await part.answer(scope, receive)
        except Disconnected:
            return
        except RequestError as e:
            response = error_response(e)
            await skip_body(scope, receive, dict(scope["headers"]))
        await respond(scope, send, response, closing=self.plane.draining)

    async def _answer_metadata(self, path: str, scope: Scope, send: Send) -> None:
        """Health and metadata; the path is the server's own where a platform's means the same."""
        method = scope["method"]
        try:
            if method not in ("GET", "HEAD"):
                metadata.check_route(path)
                raise MethodNotAllowed(f"{path} takes GET, not {method}", "GET, HEAD")
            await self._let_in(path, scope)
            response = await metadata.answer(self.plane, path)
        except RequestError as e:
            response = error_response(e)
        await respond(scope, send, response, closing=self.plane.draining)

    async def _let_in(self, path: str, scope: Scope) -> None:
        """Lets in whoever may ask for a path of the data plane that is not inference.

        Raises:
            Unauthenticated, Forbidden: As `Gate.enter`.
        """
        if needed := scope_of_path(path, is_open=self.gate.is_open):
            await self.gate.enter(*needed, dict(scope["headers"]), scope.get("client"))

    async def _let_in_to_predict(self, scope: Scope) -> None:
        await self.gate.enter(PREDICT, None, dict(scope["headers"]), scope.get("client"))

    async def _answer_repository(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The model repository extension."""
        path, headers = scope["path"], dict(scope["headers"])
        try:
            repository.check_route(path)
            only_post(scope)
            await self._let_in(path, scope)
            limit = self.max_body_bytes
            body = await decoded_body(await read_body(receive, headers, limit), headers, limit)
            response = await repository.answer(self._models, path, body)
        except Disconnected:
            return
        except RequestError as e:
            response = error_response(e)
        await respond(scope, send, response, closing=self.plane.draining)


def wants_page(scope: Scope) -> bool:
    """Whether ``/`` is asked for by a browser, which gets Swagger UI; KServe's V1 clients ask there whether the server lives."""
    return b"text/html" in dict(scope["headers"]).get(b"accept", b"") or scope["method"] not in ("GET", "HEAD")


class InferRoute:
    """One inference path: a protocol, for a model and perhaps a version; without a codec where that is not loaded."""

    def __init__(self, app: RestApp, model: str, version: str | None, codec: Codec | None) -> None:
        self._app = app
        self._plane = app.plane
        self._model = model
        self._version = version
        self._codec = codec
        snapshot = app.plane.host.snapshot
        served = snapshot.default.get(model) if version is None else snapshot.loaded.get((model, version))
        self._limits = served.spec.limits if served is not None else NO_LIMITS
        # A typed endpoint is BentoML's too, which says what other methods get.
        self._is_shared = isinstance(codec, NativeCodec)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the head, lets in, admits, reads and decodes the body, identifies, infers, encodes, answers, notes."""
        app, plane = self._app, self._plane
        received = app.clock()
        headers = dict(scope["headers"])
        if self._is_shared and scope["method"] != "POST":
            await app.hand_over(scope, receive, send)
            return
        request_id: str | None = None
        call: Call | None = None
        visit: Visit | None = None
        span = app.tracer.start(f"POST {scope['path']}", headers) if app.tracer is not None else None
        try:
            request_id = id_of(headers)
            only_post(scope)
            asked = (PREDICT, self._model, headers, scope.get("client"), self._limits)
            visit = app.gate.enter_now(*asked) or await app.gate.enter(*asked)
            call = plane.admit(
                self._model, self._version, received=received, timeout_ms=timeout_of(headers),
                headers=headers, query=scope.get("query_string", b""),
            )  # fmt: skip
            call.principal = visit.principal.id
            codec = self._codec
            assert codec is not None  # what is not loaded was not admitted
            decoded = await self._read(call, visit, codec, receive, headers)
            request_id = decoded.id or request_id or plane.new_id()
            call.limit(decoded.timeout_ms)
            plane.identify(call, request_id, decoded.payload)
            call.receive = receive
            answer = await plane.infer(call, decoded.payload)
            response = await compressed(codec.encode(answer, request_id, call.served.version, decoded.options), headers)
        except Disconnected:
            return
        except RequestError as e:
            response = error_response(e)
            if call is None:
                await skip_body(scope, receive, headers)
        except Exception as e:
            logger.exception("request failed")
            error = RequestError(f"the server failed: {type(e).__name__}; its log says more")
            response = error_response(error if call is None else plane.failed(call, error))
        finally:
            app.gate.leave(visit)
        request_id = request_id or plane.new_id()
        response.headers += self._headers(request_id, call, visit, headers)
        await respond(scope, send, response, closing=plane.draining)
        if span is not None:
            span.end(response.status, self._model, call.served.version if call else None, request_id)
        if app.access_log.wants(response.status):
            app.access_log.write(
                path=scope["path"], status=response.status, seconds=app.clock() - received, request_id=request_id, headers=headers,
                model=self._model, version=call.served.version if call else None, arm=call.arm if call else None,
            )  # fmt: skip

    async def _read(self, call: Call, visit: Visit, codec: Codec, receive: Receive, headers: Headers) -> Decoded:
        """Reads and decodes the body, and counts its rows where they are limited."""
        try:
            limit = self._app.max_body_bytes
            decoded = await decoded_in_turn(codec, await decoded_body(await read_body(receive, headers, limit), headers, limit), headers)
            if visit.held is not None and not self._app.gate.rows_now(visit.held, rows_of(decoded.payload)):
                await self._app.gate.rows(visit.held, rows_of(decoded.payload))
        except RequestError as e:
            raise self._plane.failed(call, e) from None
        return decoded

    @staticmethod
    def _headers(request_id: str, call: Call | None, visit: Visit | None, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        made = visit.held.headers if visit is not None and visit.held is not None else []
        if fits_header(request_id):
            made.append((b"x-request-id", request_id.encode()))
        if call is not None:
            made += call.record.headers
        if (traceparent := headers.get(b"traceparent")) is not None:
            made.append((b"traceparent", traceparent))
        return made
