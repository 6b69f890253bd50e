"""OpenTelemetry spans of inference requests, when an exporter is configured; without one there is no tracer and no cost.

An exporter is configured the standard way, by ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``
(needs the extra ``tracing``), or in BentoML's own configuration (``tracing.exporter_type``). A W3C ``traceparent`` of the
client becomes the span's parent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger("ekiben.tracing")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVER_ERROR = 500
_RPC_SERVER_ERRORS = (2, 4, 12, 13, 14, 15)
"""Status codes of gRPC by which OpenTelemetry's conventions call a server's span failed."""


class Span:
    """A running span."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, status: int, model: str, version: str | None, request_id: str) -> None:
        """Ends the span of an HTTP request with what came of it."""
        self._span.set_attribute("http.response.status_code", status)
        self._end(model, version, request_id, has_failed=status >= _SERVER_ERROR)

    def end_rpc(self, code: int, model: str, version: str | None, request_id: str) -> None:
        """Ends the span of a gRPC call with what came of it."""
        self._span.set_attribute("rpc.system", "grpc")
        self._span.set_attribute("rpc.grpc.status_code", code)
        self._end(model, version, request_id, has_failed=code in _RPC_SERVER_ERRORS)

    def _end(self, model: str, version: str | None, request_id: str, *, has_failed: bool) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  only when tracing

        self._span.set_attribute("ekiben.model", model)
        self._span.set_attribute("ekiben.version", version or "")
        self._span.set_attribute("ekiben.request_id", request_id)
        if has_failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracer:
    """Makes spans with an OpenTelemetry tracer provider."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  only when tracing

        self._provider = provider
        self._tracer = provider.get_tracer("ekiben")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, headers: Mapping[bytes, bytes]) -> Span:
        """Starts a span, a child of the client's if it sent one."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  only when tracing

        carrier = {key: headers[key.encode()].decode("latin-1") for key in ("traceparent", "tracestate") if key.encode() in headers}
        context = self._propagator.extract(carrier) if carrier else None
        return Span(self._tracer.start_span(name, context=context, kind=SpanKind.SERVER))

    def stop(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def make_tracer(environ: Mapping[str, str], bentoml_provider: Any) -> Tracer | None:
    """The tracer of this process, or None when no exporter is configured.

    Args:
        environ: Environment with OpenTelemetry's own variables.
        bentoml_provider: BentoML's provider where its configuration names an exporter, else None.
    """
    if bentoml_provider is not None:
        return Tracer(bentoml_provider)
    if not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  only when tracing
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as e:
        logger.warning("an OTLP endpoint is set and there is no exporter for it (%s); install ekiben[tracing]", e)
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME", "ekiben")}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider)
