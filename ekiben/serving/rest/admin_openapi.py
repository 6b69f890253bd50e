"""The admin API's OpenAPI document, made from its table."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from ekiben import __version__
from ekiben.model.rollout_spec import PlanSpec
from ekiben.serving.rest.admin_route import PART, PREFIX, AdminRoute
from ekiben.serving.rest.schema_docs import described

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong.

    Attributes:
        error: What is wrong, where, and what would be right.
        details: Of a plan, the field.
    """

    error: str
    details: list[dict[str, Any]] = []


_PROBLEMS: Final = {
    "400": "The body, the query or the plan is not what the route takes.",
    "401": "There is no key in the request, or its time is over.",
    "403": "The key is none of this server's, or does not allow the admin API.",
    "404": "There is no such model, version, rollout or API key.",
    "405": "The path takes other methods, see Allow.",
    "408": "The request did not come whole in time.",
    "409": "Somebody else changed it meanwhile, or another rollout of the model is active.",
    "413": "The body is too large.",
    "415": "The body is not JSON, or compressed in a way that is not read.",
    "422": "What was asked cannot be; the error says what would be right.",
    "503": "The control database does not answer; try again.",
}
_KEY: Final = "The server's admin.key, or an API key or a token with the scope admin."
_HEADERS: Final = {
    "401": {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The methods that the path takes.", "schema": {"type": "string"}}},
    "503": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
}


def openapi(routes: Sequence[AdminRoute]) -> dict[str, Any]:
    """The document, OpenAPI 3.1.

    Args:
        routes: The table.
    """
    kinds = list(dict.fromkeys([Problem, PlanSpec, *(kind for r in routes for kind in (*r.answers, r.body) if kind is not None)]))
    refs, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(kinds, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ekiben's admin API",
            "version": __version__,
            "description": "Rollouts, experiments, rollbacks and API keys, as the command line does them. Every request brings a key.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _KEY}},
            "schemas": described(schemas),
            "responses": {code: _problem(code, text) for code, text in _PROBLEMS.items()},
        },
    }


def _operation(route: AdminRoute, schema_of: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    answers = [schema_of[kind] for kind in route.answers]
    schema = answers[0] if len(answers) == 1 else {"anyOf": answers}
    answered = {"description": HTTPStatus(route.status).phrase, "content": {_JSON: {"schema": schema}}}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {str(route.status): answered, **{code: {"$ref": f"#/components/responses/{code}"} for code in _PROBLEMS}},
    }
    parameters = [*_path_parameters(route), *_query_parameters(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content: dict[str, Any] = {"schema": schema_of[route.body]}
        if route.example is not None:
            content["example"] = route.example
        is_required = any(f.required for f in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": is_required, "content": {_JSON: content}}
    return operation


def _path_parameters(route: AdminRoute) -> list[dict[str, Any]]:
    schema = {"type": "string", "pattern": f"^{PART}$"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in route.placeholders]


def _query_parameters(route: AdminRoute) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, schemas = msgspec.json.schema_components([route.query], ref_template=_REF)
    properties = described(schemas)[route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _problem(code: str, text: str) -> dict[str, Any]:
    headers = {"headers": _HEADERS[code]} if code in _HEADERS else {}
    return {"description": text, **headers, "content": {_JSON: {"schema": {"$ref": _REF.format(name="Problem")}}}}
