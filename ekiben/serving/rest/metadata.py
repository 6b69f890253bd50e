"""Health and metadata of V1 and V2, and ``/readyz``: small answers, none of them on the hot path."""

from __future__ import annotations

import re
from typing import Any, Final

from ekiben import __version__
from ekiben.errors import NotReady, UnknownModel
from ekiben.serving.dataplane import DataPlane
from ekiben.serving.datatypes import input_metadata, output_metadata
from ekiben.serving.host import LoadedVersion
from ekiben.serving.rest.http import Response, error_response, json_response

EXTENSIONS: Final[tuple[str, ...]] = ()
_MODEL: Final = re.compile(r"^/(?P<protocol>v[12])/models/(?P<model>[^/:]+)(/versions/(?P<version>[^/:]+))?(?P<ready>/ready)?$")

_FIXED: Final = ("/v2", "/v2/health/live", "/v2/health/ready", "/readyz", "/v1/models", "/v2/models")


def owns(path: str) -> bool:
    """Whether a path belongs to the data plane."""
    return path.startswith(("/v1/", "/v2/")) or path in ("/v1", "/v2", "/readyz")


def check_route(path: str) -> None:
    """Tells paths of health and metadata from others that only look like them.

    Raises:
        UnknownModel: There is no such route, whatever the method.
    """
    path = path.rstrip("/")
    if path not in _FIXED and _MODEL.match(path) is None:
        raise UnknownModel(f"there is no route {path!r}; see the paths under / and /v2")


def answer(plane: DataPlane, path: str) -> Response:
    """Answers a GET.

    Raises:
        UnknownModel: No such route, model or version.
        NotReady: The model has no version that answers.
    """
    path = path.rstrip("/")
    check_route(path)
    if path == "/v2":
        return json_response({"name": "ekiben", "version": __version__, "extensions": EXTENSIONS})
    if path == "/v2/health/live":
        return json_response({"live": True})
    if path in ("/v2/health/ready", "/readyz"):
        return _ready(plane)
    if path in ("/v1/models", "/v2/models"):
        return json_response({"models": sorted(plane.host.models)})
    match = _MODEL.match(path)
    assert match is not None
    model, version = match["model"], match["version"]
    served = plane.host.find(model, version)
    if match["ready"]:
        if plane.draining:
            raise NotReady("the server is stopping", retry_after_s=2.0)
        return json_response({"name": model, "ready": True})
    return json_response(_v1(served) if match["protocol"] == "v1" else _v2(plane, served))


def _ready(plane: DataPlane) -> Response:
    problems = plane.not_ready()
    if not problems:
        return json_response({"ready": True})
    return error_response(NotReady("not ready: " + "; ".join(problems), retry_after_s=2.0))


def _v1(served: LoadedVersion) -> dict[str, Any]:
    return {"name": served.model, "ready": True, "model_version_status": [{"version": served.version, "state": "AVAILABLE"}]}


def _v2(plane: DataPlane, served: LoadedVersion) -> dict[str, Any]:
    is_batched = served.spec.batching.enabled
    inputs = [input_metadata(item) for item in served.spec.inputs]
    outputs = output_metadata(served.predictor)
    if not is_batched:
        for tensor in (*inputs, *outputs):
            tensor["shape"] = tensor["shape"][1:]
    return {
        "name": served.model,
        "versions": sorted(v for m, v in plane.host.snapshot.loaded if m == served.model),
        "platform": f"{served.manifest.model.framework}_ekiben",
        "inputs": inputs,
        "outputs": outputs,
    }
