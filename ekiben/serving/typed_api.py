"""A typed BentoML endpoint for each model, so that it shows in Swagger UI and works with BentoML's clients.

The types are made from the model's spec. They describe; what decides is the signature, in the data plane.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, Protocol

import bentoml
import pydantic

from ekiben.errors import RequestError
from ekiben.model.spec import InputSpec, ModelSpec
from ekiben.serving.rest.http import STATUS


class Predicts(Protocol):
    """What the endpoints call: the worker's server."""

    async def predict(self, model: str, instances: list[Any]) -> list[dict[str, Any]]:
        """Predicts rows."""


def make_service_class(specs: list[ModelSpec]) -> type:
    """The inner class of the BentoML service: an API a model, started and stopped with the worker."""
    # NOTE: a model may be called start or stop, and never _start: names begin with a letter.
    namespace: dict[str, Any] = {"__doc__": _overview(specs), "_start": bentoml.on_startup(_start), "_stop": bentoml.on_shutdown(_stop)}
    for spec in specs:
        name = api_name(spec.name)
        while name in namespace:
            name += "_"
        namespace[name] = _api(spec, name)
    return type("Ekiben", (), namespace)


def api_name(model: str) -> str:
    """The name of a model's method on BentoML's clients; ``a-b`` beside ``a_b`` gets another underscore at its end."""
    return model.replace("-", "_")


async def _start(self: Any) -> None:
    await self.bento_service.server.start()


async def _stop(self: Any) -> None:
    await self.bento_service.server.stop()


def _overview(specs: list[ModelSpec]) -> str:
    rows = "\n".join(f"- **{s.name}** ({s.task.replace('_', ' ')}): {s.description or s.card.why_this_model}" for s in specs)
    return f"Models served here:\n\n{rows}\n\nAlso over the Open Inference Protocol: `/v1/models`, `/v2/models`."


def _api(spec: ModelSpec, name: str) -> Any:
    async def endpoint(self: Any, instances: list[Any]) -> Any:
        rows = [row.model_dump(by_alias=True) if isinstance(row, pydantic.BaseModel) else row for row in instances]
        server: Predicts = self.bento_service.server
        try:
            return await server.predict(spec.name, rows)
        except RequestError as e:
            status = next(code for kind, code in STATUS if isinstance(e, kind))
            raise _bento_error(status, str(e)) from e

    row, prediction = row_model(spec), prediction_model(spec)
    # BentoML reads the types from the function, and these are made while it runs.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("instances", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=list[row]),  # type: ignore[valid-type]
        ],
        return_annotation=list[prediction],  # type: ignore[valid-type]
    )
    endpoint.__annotations__ = {"instances": list[row], "return": list[prediction]}  # type: ignore[valid-type]
    endpoint.__name__ = endpoint.__qualname__ = name
    endpoint.__doc__ = spec.description or f"Predicts with the champion of {spec.name}."
    return bentoml.api(route=f"/{spec.name}")(endpoint)


def _bento_error(status: int, message: str) -> Exception:
    from http import HTTPStatus  # noqa: PLC0415  errors only

    return bentoml.exceptions.BentoMLException(message, error_code=HTTPStatus(status))


def row_model(spec: ModelSpec) -> type[pydantic.BaseModel]:
    """The Pydantic model of one row, field by field as the spec describes it."""
    fields: dict[str, Any] = {}
    for n, item in enumerate(spec.inputs):
        limits: dict[str, Any] = {} if item.type == "tensor" else {"ge": item.min, "le": item.max}
        if item.type == "string" and not (item.categories and item.unknown == "reject"):
            limits["max_length"] = item.max_length
        description = f"{item.description} [{item.unit}]" if item.unit else item.description
        field = pydantic.Field(
            default=None if item.nullable and item.type != "tensor" else ..., alias=item.name, description=description or None, **limits
        )
        # NOTE: Pydantic reserves some names and warns of others (json, copy, model_…); every input is known by its alias.
        fields[f"input_{n}"] = (_annotation(item), field)
    title = "".join(part.capitalize() for part in spec.name.replace("-", "_").split("_"))
    return pydantic.create_model(f"{title}Row", __config__=pydantic.ConfigDict(extra="forbid"), **fields)


def _annotation(item: InputSpec) -> Any:
    kind: Any
    if item.type == "tensor":
        kind = {"bool": bool, "string": str}.get(str(item.dtype)) or (float if str(item.dtype).startswith("float") else int)
        kind = kind | None if item.nullable else kind
        for _ in item.shape or ():
            kind = list[kind]
        return kind
    if item.categories and item.unknown == "reject":
        kind = Literal[item.categories]
    else:
        kind = {"bool": bool, "int": int, "float": float, "string": str}[item.type]
    return kind | None if item.nullable else kind


def prediction_model(spec: ModelSpec) -> type[pydantic.BaseModel]:
    """The Pydantic model of one prediction."""
    title = "".join(part.capitalize() for part in spec.name.replace("-", "_").split("_"))
    fields: dict[str, Any]
    if spec.is_classifier:
        # NOTE: told, not checked: a rounded float32 may exceed 1 by its last bit, and that is no reason to fail an answer.
        share = Annotated[float, pydantic.Field(json_schema_extra={"minimum": 0, "maximum": 1})]
        fields = {"prediction": (Literal[spec.labels], ...), "confidence": (share, ...), "probabilities": (dict[str, share], ...)}
    elif spec.task == "regression":
        fields = {"prediction": (float | list[float], ...)}
    else:
        fields = {f"output_{n}": (Any, pydantic.Field(alias=o.name, description=o.description or None)) for n, o in enumerate(spec.outputs)}
    return pydantic.create_model(
        f"{title}Prediction", __config__=pydantic.ConfigDict(populate_by_name=True, serialize_by_alias=True), **fields
    )
