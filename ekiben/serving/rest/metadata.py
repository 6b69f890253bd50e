"""Health and metadata of V1 and V2, and ``/readyz``: small answers, none of them on the hot path."""

from __future__ import annotations

import re
from typing import Any, Final

from ekiben import __version__
from ekiben.errors import NotReady, UnknownModel
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.description import model_metadata, server_metadata
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.model_config import model_config
from ekiben.serving.rest.http import Response, error_response, json_response
from ekiben.serving.statistics import statistics

_MODEL: Final = re.compile(
    r"^/(?P<protocol>v[12])/models/(?P<model>[^/:]+)(/versions/(?P<version>[^/:]+))?(/(?P<aspect>ready|stats|config))?\Z"
)
_ALL_STATISTICS: Final = "/v2/models/stats"

_FIXED: Final = ("/v2", "/v2/health/live", "/v2/health/ready", "/readyz", "/version", "/v1/models", "/v2/models", _ALL_STATISTICS)


def owns(path: str) -> bool:
    """Whether a path belongs to the data plane."""
    return path.startswith(("/v1/", "/v2/")) or path in ("/v1", "/v2", "/readyz", "/version")


def check_route(path: str) -> None:
    """Tells paths of health and metadata from others that only look like them.

    Raises:
        UnknownModel: There is no such route, whatever the method.
    """
    path = path.rstrip("/")
    match = _MODEL.match(path)
    is_model = match is not None and (match["protocol"] == "v2" or match["aspect"] in (None, "ready"))
    if path not in _FIXED and not is_model:
        raise UnknownModel(f"there is no route {path!r}; see the paths under / and /v2")


async def answer(plane: DataPlane, path: str) -> Response:
    """Answers a GET.

    Raises:
        UnknownModel: No such route, model or version.
        NotReady: The model has no version that answers.
    """
    path = path.rstrip("/")
    check_route(path)
    if path in ("/v2", "/version"):
        return _server(path)
    if path == "/v2/health/live":
        return json_response({"live": True})
    if path in ("/v2/health/ready", "/readyz"):
        return _ready(plane)
    if path in ("/v1/models", "/v2/models"):
        return json_response({"models": sorted(plane.host.models)})
    if path == _ALL_STATISTICS:
        return json_response({"model_stats": await statistics(plane.host, None, None)})
    match = _MODEL.match(path)
    assert match is not None
    return await _model(plane, match)


async def _model(plane: DataPlane, match: re.Match[str]) -> Response:
    """What is asked of a model or version."""
    model, version, aspect = match["model"], match["version"], match["aspect"]
    if aspect == "stats":
        return json_response({"model_stats": await statistics(plane.host, model, version)})
    served = plane.host.find(model, version)
    if aspect == "config":
        return json_response(model_config(served))
    if aspect == "ready":
        if plane.draining:
            raise NotReady("the server is stopping", retry_after_s=2.0)
        return json_response({"name": model, "ready": True})
    return json_response(_v1(served) if match["protocol"] == "v1" else model_metadata(plane.host, served))


def _server(path: str) -> Response:
    if path == "/version":  # MLflow's, which is bare text
        return Response(200, __version__.encode(), content_type=b"text/plain; charset=utf-8")
    return json_response(server_metadata())


def _ready(plane: DataPlane) -> Response:
    problems = plane.not_ready()
    if not problems:
        details = {"control_database": plane.host.link.detail, "broken": plane.host.broken()}
        told = {name: detail for name, detail in details.items() if detail}
        return json_response({"ready": True, "details": told} if told else {"ready": True})
    return error_response(NotReady("not ready: " + "; ".join(problems), retry_after_s=2.0))


def _v1(served: LoadedVersion) -> dict[str, Any]:
    return {"name": served.model, "ready": True, "model_version_status": [{"version": served.version, "state": "AVAILABLE"}]}
