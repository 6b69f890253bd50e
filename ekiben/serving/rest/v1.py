"""The V1 protocol (TensorFlow Serving's and KServe's): ``{"instances": […]}`` → ``{"predictions": […]}``.

A typed BentoML endpoint takes the same body and answers the list of predictions alone.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ekiben.errors import InvalidRequest, InvalidRows
from ekiben.model.signature import Signature
from ekiben.serving.batch_run import Answer
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.rest.codec import Decoded, rows_payload, untyped
from ekiben.serving.rest.forms import is_form, json_of_form
from ekiben.serving.rest.http import Headers, Response, check_json, json_response

_ANY_TYPE: Final[Headers] = {}


class V1Codec:
    """V1 for one version."""

    def __init__(self, served: LoadedVersion) -> None:
        self._model = served.model
        self._signature = served.predictor.signature
        row_type: Any = self._signature.row_type
        request_type = msgspec.defstruct("PredictRequest", [("instances", list[row_type]), ("id", str | int | None, None)])
        self._decode = msgspec.json.Decoder(request_type).decode

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Decodes a request.

        Raises:
            InvalidRequest: It is not a JSON object with a list of instances.
            InvalidRows: Instances break the signature.
            UnsupportedMediaType: It says it is not JSON.
        """
        check_json(headers)
        try:
            request: Any = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise _explain(self._signature, body, e) from None
        return Decoded(rows_payload(self._signature, request.instances), None if request.id is None else str(request.id))

    def encode(self, answer: Answer, request_id: str, version: str, options: Any) -> Response:  # noqa: ARG002  nothing to choose here
        """Encodes the answer."""
        return json_response({"predictions": answer.rows(), "model_name": self._model, "model_version": version, "id": request_id})


class NativeCodec(V1Codec):
    """The typed BentoML endpoint ``POST /{model}``: V1's body, or a form, and the bare list of predictions back."""

    def decode(self, body: bytes, headers: Headers) -> Decoded:
        """Decodes a request; what is no form is taken for JSON, as BentoML takes it.

        Raises:
            InvalidRequest, InvalidRows: As V1, or the form cannot be read.
        """
        return super().decode(json_of_form(body, headers) if is_form(headers) else body, _ANY_TYPE)

    def encode(self, answer: Answer, request_id: str, version: str, options: Any) -> Response:  # noqa: ARG002  as V1
        """Encodes the answer; the id and the version are in the headers."""
        return json_response(answer.rows())


def _explain(signature: Signature, body: bytes, error: Exception) -> InvalidRequest | InvalidRows:
    """Says exactly why a body is no V1 request; slow."""
    request = untyped(body)
    if not isinstance(request, dict) or "instances" not in request:
        return InvalidRequest('the body must be a JSON object with the field "instances": {"instances": [row, …]}')
    instances = request["instances"]
    if not isinstance(instances, list):
        return InvalidRequest('"instances" must be a list of rows, each an object or a list of values')
    try:
        faults = signature.explain(instances)
    except RecursionError:  # showing a value takes a little more than reading it
        return InvalidRequest("the body is nested too deeply")
    return InvalidRows(faults) if faults else InvalidRequest(f"the body is not a valid V1 request: {error}")
