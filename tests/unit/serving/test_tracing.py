import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ekiben.serving.tracing import Tracer, make_tracer

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}
V1 = "/v1/models/tiny:predict"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def traced(start, registry, tiny_artifact, provider):
    registry.register(tiny_artifact.path, tag="tiny:1")
    return start("tiny", tracer=Tracer(provider))


def test_each_inference_request_is_a_span(traced, exporter):
    traced.predict("tiny", [ROW], headers={"x-request-id": "r-1"})
    traced.get("/readyz")
    (span,) = exporter.get_finished_spans()
    assert span.name == f"POST {V1}"
    assert span.kind is SpanKind.SERVER
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "http.response.status_code": 200, "ekiben.model": "tiny", "ekiben.version": "1", "ekiben.request_id": "r-1",
    }  # fmt: skip


def test_the_clients_span_is_the_parent(traced, exporter):
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    answer = traced.predict("tiny", [ROW], headers=headers)
    (span,) = exporter.get_finished_spans()
    assert format(span.context.trace_id, "032x") == TRACE
    assert format(span.parent.span_id, "016x") == PARENT
    assert span.context.trace_state["vendor"] == "1"
    assert answer.headers["traceparent"] == TRACEPARENT


def test_a_traceparent_that_is_none_starts_a_trace_of_its_own(traced, exporter):
    assert traced.predict("tiny", [ROW], headers={"traceparent": "nonsense"}).status_code == 200
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


def test_bad_requests_are_spans_too_and_only_the_servers_faults_are_errors(traced, exporter, monkeypatch, caplog):
    traced.post(V1, content=b"{")
    traced.post("/v1/models/ghost:predict", content=b"{")
    monkeypatch.setattr(traced.server.host.find("tiny", None).batcher, "submit", lambda *_, **__: 1 / 0)
    traced.predict("tiny", [ROW])
    spans = exporter.get_finished_spans()
    assert [s.attributes["http.response.status_code"] for s in spans] == [400, 404, 500]
    assert [s.status.status_code for s in spans] == [StatusCode.UNSET, StatusCode.UNSET, StatusCode.ERROR]
    assert [s.attributes["ekiben.version"] for s in spans] == ["1", "", "1"]


def test_stopping_the_server_sends_what_is_left(traced, exporter):
    traced.predict("tiny", [ROW])
    traced.stop()
    # An exporter that was shut down keeps what it got and takes no more.
    assert len(exporter.get_finished_spans()) == 1
    assert exporter._stopped


def test_without_an_exporter_there_is_no_tracer():
    assert make_tracer({}, None) is None
    assert make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None) is None


def test_bentomls_provider_is_used_where_its_configuration_names_an_exporter(provider):
    tracer = make_tracer({}, provider)
    assert tracer is not None
    assert tracer._provider is provider


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_endpoint_of_the_standard_variables_makes_a_tracer(name):
    tracer = make_tracer({name: "http://127.0.0.1:9", "OTEL_SERVICE_NAME": "mine"}, None)
    assert tracer is not None
    assert tracer._provider.resource.attributes["service.name"] == "mine"
    tracer.stop()


def test_an_endpoint_without_an_exporter_is_said_and_serving_goes_on(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, None) is None
    assert "install ekiben[tracing]" in caplog.text
