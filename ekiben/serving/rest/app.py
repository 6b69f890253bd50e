"""The ASGI front: paths of the data plane are answered here, all others by BentoML's own app.

The way of an inference request over HTTP, top to bottom, is `InferRoute.__call__`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from ekiben.errors import MethodNotAllowed, RequestError
from ekiben.serving.access_log import AccessLog
from ekiben.serving.batch_run import Clock
from ekiben.serving.dataplane import Call, DataPlane
from ekiben.serving.rest import metadata
from ekiben.serving.rest.codec import Codec, Decoded
from ekiben.serving.rest.http import (
    Disconnected,
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    check_json,
    error_response,
    fits_header,
    id_of,
    is_json,
    only_post,
    read_body,
    respond,
    timeout_of,
)
from ekiben.serving.rest.v1 import NativeCodec, V1Codec
from ekiben.serving.rest.v2 import V2Codec
from ekiben.serving.tracing import Tracer

logger = logging.getLogger("ekiben.rest")

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_V1: Final = re.compile(r"^/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[^/:]+))?:predict$")
_V2: Final = re.compile(r"^/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/infer$")


class RestApp:
    """The front.

    Args:
        plane: The data plane.
        fallback: BentoML's app, for every path that is not the data plane's.
        clock: Monotonic seconds.
        max_body_bytes: Largest body.
        access_log: Where answered requests are noted.
        tracer: Makes spans; None when no exporter is configured.
    """

    def __init__(
        self, plane: DataPlane, fallback: ASGIApp, *, clock: Clock, max_body_bytes: int, access_log: AccessLog, tracer: Tracer | None
    ) -> None:
        self.plane = plane
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.access_log = access_log
        self.tracer = tracer
        self.fallback = fallback
        self._routes: dict[str, InferRoute] = {}

    def rebuild_routes(self) -> None:
        """Makes the routes of the versions loaded now; called after each swap."""
        snapshot = self.plane.host.snapshot
        routes: dict[str, InferRoute] = {}
        for model, served in snapshot.default.items():
            routes[f"/v1/models/{model}:predict"] = InferRoute(self, model, None, V1Codec(served))
            routes[f"/v2/models/{model}/infer"] = InferRoute(self, model, None, V2Codec(served))
            routes[f"/{model}"] = InferRoute(self, model, None, NativeCodec(served))
        for (model, version), served in snapshot.loaded.items():
            routes[f"/v1/models/{model}/versions/{version}:predict"] = InferRoute(self, model, version, V1Codec(served))
            routes[f"/v2/models/{model}/versions/{version}/infer"] = InferRoute(self, model, version, V2Codec(served))
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] != "http":
            await self.fallback(scope, receive, send)
            return
        path = scope["path"]
        route = self._routes.get(path) or self._unserved(path, scope["method"])
        if route is not None:
            await route(scope, receive, send)
        elif metadata.owns(path):
            await self._answer_metadata(scope, send)
        else:
            await self.fallback(scope, receive, send)

    def _unserved(self, path: str, method: str) -> InferRoute | None:
        """The route of a model or version that cannot answer: it says why, in the way every request is answered."""
        if match := _V1.match(path) or _V2.match(path):
            return InferRoute(self, match["model"], match["version"], None)
        if method == "POST" and path[1:] in self.plane.host.models:
            return InferRoute(self, path[1:], None, None)
        return None

    async def _answer_metadata(self, scope: Scope, send: Send) -> None:
        """Health and metadata."""
        path, method = scope["path"], scope["method"]
        try:
            if method not in ("GET", "HEAD"):
                metadata.check_route(path)
                raise MethodNotAllowed(f"{path} takes GET, not {method}", "GET, HEAD")
            response = metadata.answer(self.plane, path)
        except RequestError as e:
            response = error_response(e)
        await respond(send, response, closing=self.plane.draining)


class InferRoute:
    """One inference path: a protocol, for a model and perhaps a version; without a codec where that is not loaded."""

    def __init__(self, app: RestApp, model: str, version: str | None, codec: Codec | None) -> None:
        self._app = app
        self._plane = app.plane
        self._model = model
        self._version = version
        self._codec = codec
        # A typed endpoint is BentoML's too: what is not JSON (a form, say) is for BentoML to read.
        self._is_shared = isinstance(codec, NativeCodec)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the head, admits, reads and decodes the body, infers, encodes, answers, notes."""
        app, plane = self._app, self._plane
        received = app.clock()
        headers = dict(scope["headers"])
        if self._is_shared and (scope["method"] != "POST" or not is_json(headers)):
            await app.fallback(scope, receive, send)
            return
        request_id: str | None = None
        call: Call | None = None
        span = app.tracer.start(scope["path"], headers) if app.tracer is not None else None
        try:
            request_id = id_of(headers)
            only_post(scope)
            call = plane.admit(self._model, self._version, received=received, timeout_ms=timeout_of(headers))
            codec = self._codec
            assert codec is not None  # what is not loaded was not admitted
            decoded = await self._read(call, codec, receive, headers)
            request_id = decoded.id or request_id or plane.new_id()
            answer = await plane.infer(call, decoded.payload)
            response = Response(200, codec.encode(answer, request_id, decoded.options))
        except Disconnected:
            return
        except RequestError as e:
            response = error_response(e)
        except Exception as e:
            logger.exception("request failed")
            error = RequestError(f"the server failed: {type(e).__name__}; its log says more")
            response = error_response(error if call is None else plane.failed(call, error))
        request_id = request_id or plane.new_id()
        response.headers += self._headers(request_id, call, headers)
        await respond(send, response, closing=plane.draining)
        if span is not None:
            span.end(response.status, self._model, call.served.version if call else None, request_id)
        if app.access_log.wants(response.status):
            app.access_log.write(
                path=scope["path"], status=response.status, seconds=app.clock() - received, request_id=request_id, headers=headers,
                model=self._model, version=call.served.version if call else None,
            )  # fmt: skip

    async def _read(self, call: Call, codec: Codec, receive: Receive, headers: Headers) -> Decoded:
        try:
            check_json(headers)
            return codec.decode(await read_body(receive, headers, self._app.max_body_bytes))
        except RequestError as e:
            raise self._plane.failed(call, e) from None

    @staticmethod
    def _headers(request_id: str, call: Call | None, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        made = []
        if fits_header(request_id):
            made.append((b"x-request-id", request_id.encode()))
        if call is not None:
            made.append((b"x-model-version", call.served.version.encode()))
        if (traceparent := headers.get(b"traceparent")) is not None:
            made.append((b"traceparent", traceparent))
        return made
