"""The paths that hosting platforms call: for scoring, which name no model, and for health.

| platform | scoring | health |
|---|---|---|
| SageMaker | ``POST /invocations`` | ``GET /ping`` |
| MLflow, Databricks | ``POST /invocations`` | ``GET /ping``, ``/health``; ``/version`` |
| Azure ML | ``POST /score`` | as its deployment says; ``/v2/health/live`` and ``/v2/health/ready`` do |
| Vertex AI | ``POST $AIP_PREDICT_ROUTE`` | ``GET $AIP_HEALTH_ROUTE`` |
| KServe | V1 and V2, which are no platform's alone | ``/v2/health/live``, ``/v2/health/ready``, ``/v1/models/{model}`` |
| Cloud Run | any | any |

One model answers them: ``EKIBEN_PLATFORM_MODEL``, else the only one there is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ekiben.errors import RequestError, UnknownModel
from ekiben.serving.rest.codec import Codec
from ekiben.serving.rest.http import Message, Receive, Scope, Send, error_response, fits_header, respond
from ekiben.serving.rest.platform_codec import PlatformCodec
from ekiben.serving.snapshot import Snapshot
from ekiben.settings import Settings

Route = Callable[[Scope, Receive, Send], Awaitable[None]]
LetIn = Callable[[Scope], Awaitable[object]]
MakeRoute = Callable[[str, str | None, Codec | None], Route]

SCORING: Final = ("/invocations", "/score")
_READY: Final = "/readyz"
_HEALTH: Final = {"/ping": _READY, "/health": _READY}
_OWN: Final = ("/v1/models/", "/v2/models/", "/v2/health/")

_REQUEST_ID: Final = b"x-request-id"
_VARIANT: Final = b"x-amzn-sagemaker-target-variant"
_IDS: Final = (b"x-amzn-sagemaker-inference-id", b"x-ms-request-id", b"x-ms-client-request-id")
_ECHOED: Final = frozenset({*_IDS, b"x-amzn-sagemaker-custom-attributes"})
_VENDORS: Final = (b"x-amzn-", b"x-ms-")
_MAX_ECHOED_BYTES: Final = 1024


class PlatformRoutes:
    """Knows the platforms' paths.

    Args:
        settings: The settings in force; which model answers, and what Vertex AI wants its paths to be.
    """

    def __init__(self, settings: Settings) -> None:
        self._model = settings.platform_model
        route = settings.predict_route
        # A path of V1 or V2 keeps its meaning: Vertex AI's raw predictions may well be V2's.
        self._paths = SCORING if not route or route in SCORING or route.startswith(_OWN) else (*SCORING, route)
        self._health = dict(_HEALTH)
        if settings.health_route and not settings.health_route.startswith(_OWN):
            self._health[settings.health_route] = _READY

    def health(self, path: str) -> str | None:
        """The path of the server's own that a platform's health path means, or None where it is no such path."""
        return self._health.get(path)

    def routes(self, snapshot: Snapshot, make: MakeRoute, let_in: LetIn) -> dict[str, Route]:
        """The scoring paths.

        Args:
            snapshot: The versions loaded now.
            make: Makes the route of a model, a version or None, and a codec or None where that is not loaded.
            let_in: Lets in a request that names no model; which models there are is told to nobody else.
        """
        if not self._model and len(snapshot.models) != 1:
            return {path: _Unnamed(path, snapshot.models, let_in) for path in self._paths}
        model = self._model or snapshot.models[0]
        champion = snapshot.default.get(model)
        default = make(model, None, None if champion is None else PlatformCodec(champion))
        variants = {v.encode(): make(model, v, PlatformCodec(served)) for (m, v), served in snapshot.loaded.items() if m == model}
        for (m, alias), version in snapshot.aliases.items():
            if m == model and version.encode() in variants:
                variants.setdefault(alias.encode(), variants[version.encode()])
        return dict.fromkeys(self._paths, PlatformRoute(default, variants))


class PlatformRoute:
    """A scoring path: reads the headers that are the platforms' own, and hands over.

    Args:
        default: What answers.
        variants: Version or alias → what answers where ``X-Amzn-SageMaker-Target-Variant`` names it. The platform sends the
            names of its own production variants in that header, too; one that names no version is answered by default.
    """

    def __init__(self, default: Route, variants: dict[bytes, Route]) -> None:
        self._default = default
        self._variants = variants

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        found = {name: value for name, value in scope["headers"] if name.startswith(_VENDORS)}
        if not found:
            await self._default(scope, receive, send)
            return
        ids = [found[name] for name in _IDS if name in found and fits_header(found[name].decode("latin-1"))]
        if ids and all(name != _REQUEST_ID for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (_REQUEST_ID, ids[0])]}
        echoed = [(name, value) for name, value in found.items() if name in _ECHOED and _is_echoable(value)]
        route = self._variants.get(found.get(_VARIANT, b""), self._default)
        await route(scope, receive, _echoing(send, echoed) if echoed else send)


class _Unnamed:
    """A scoring path of a server with several models, none of which it means."""

    def __init__(self, path: str, models: Sequence[str], let_in: LetIn) -> None:
        self._let_in = let_in
        known = f"this server has {', '.join(models)}" if models else "this server has none"
        self._error = UnknownModel(f"{path} names no model, and {known}; set EKIBEN_PLATFORM_MODEL to the one that it means")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  there is nothing to read
        """ASGI 3."""
        error: RequestError = self._error
        try:
            await self._let_in(scope)
        except RequestError as e:
            error = e
        await respond(scope, send, error_response(error))


def _echoing(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return echo


def _is_echoable(value: bytes) -> bool:
    text = value.decode("latin-1")
    return 0 < len(value) <= _MAX_ECHOED_BYTES and text.isascii() and text.isprintable()
