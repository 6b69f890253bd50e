from __future__ import annotations

import httpx
import pytest

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.prometheus import PrometheusQuery


def answering(answer, status=200, seen=None):
    def handle(request):
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(status, json=answer) if not isinstance(answer, bytes) else httpx.Response(status, content=answer)

    return PrometheusQuery("http://prometheus:9090/", transport=httpx.MockTransport(handle))


def vector(*values):
    return {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, v]} for v in values]}}


def test_the_one_number_is_what_comes_back():
    seen = []

    assert answering(vector("0.25"), seen=seen)(PrometheusSpec(query='rate(x{a="b"}[1m])')) == 0.25
    assert seen[0].url.path == "/api/v1/query"
    assert seen[0].url.params["query"] == 'rate(x{a="b"}[1m])'
    assert str(answering(vector("NaN"))(PrometheusSpec(query="x"))) == "nan"
    assert answering({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}})(PrometheusSpec(query="2")) == 2.0


def test_no_series_is_none():
    assert answering(vector())(PrometheusSpec(query="x")) is None


def test_the_address_beside_the_query_goes_before_the_general_one():
    seen = []
    answering(vector("1"), seen=seen)(PrometheusSpec(query="x", address="http://other:1/prometheus/"))

    assert str(seen[0].url).startswith("http://other:1/prometheus/api/v1/query?")


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (vector("1", "2"), 200, "x gives 2 series; aggregate them to one, for example with sum"),
        (
            {"status": "success", "data": {"resultType": "matrix", "result": []}},
            200,
            "x gives a matrix; write a query that gives one number",
        ),
        ({"status": "error", "error": "parse error"}, 400, "refuses x: parse error"),
        ({"status": "error"}, 503, "refuses x: 503"),
        (b"<html>", 200, r"http://prometheus:9090 is no Prometheus server: it answered 200 with no JSON object"),
        ([], 404, r"is no Prometheus server: it answered 404"),
        ({"status": "success"}, 200, r"is no Prometheus server: its answer has no data"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"value": "x"}]}}, 200, "'x' is no sample"),
        ({"status": "success", "data": {"resultType": "scalar", "result": None}}, 200, "None is no sample"),
        (httpx.ConnectError("refused"), 200, "Prometheus at http://prometheus:9090 cannot be asked: refused"),
        (httpx.ReadTimeout("slow"), 200, "Prometheus at http://prometheus:9090 does not answer within 2 s"),
    ],
)
def test_what_is_not_one_number_cannot_be_measured(answer, status, message):
    with pytest.raises(MeasurementFailed, match=message):
        answering(answer, status)(PrometheusSpec(query="x"))


def test_without_an_address_nothing_can_be_asked():
    with pytest.raises(MeasurementFailed, match=r"no Prometheus server is known; set EKIBEN_PROMETHEUS_URL, or address: beside the query"):
        PrometheusQuery()(PrometheusSpec(query="x"))
    with pytest.raises(MeasurementFailed, match="cannot be asked"):
        PrometheusQuery("http://[:1")(PrometheusSpec(query="x"))


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), b"no JSON", {"status": "error"}, {"status": "success"}]
)
def test_who_may_ask_is_in_no_message(answer):
    query = PrometheusQuery("https://ann:hush@prometheus:9090", transport=answering(answer)._transport)
    with pytest.raises(MeasurementFailed, match=r"https://…@prometheus:9090") as failure:
        query(PrometheusSpec(query="x"))
    assert "hush" not in str(failure.value)


def test_an_address_that_is_no_url_is_not_quoted():
    with pytest.raises(MeasurementFailed, match="its address is no URL") as failure:
        PrometheusQuery("http://ann:hush/more@prometheus")(PrometheusSpec(query="x"))
    assert "hush" not in str(failure.value)
