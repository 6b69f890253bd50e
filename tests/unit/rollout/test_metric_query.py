from __future__ import annotations

import math

import pytest

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_query import queried
from ekiben.rollout.plan import ResolvedMetric

EVIDENCE = Evidence(model="flights", champion_version="v1", challenger_version="v2", task="regression")


def found(result, success="", failure="", query="up"):
    metric = ResolvedMetric(name="mine", prometheus=PrometheusSpec(query=query), success_condition=success, failure_condition=failure)
    return queried(metric, EVIDENCE, result if callable(result) else lambda _: result)


@pytest.mark.parametrize(
    ("result", "success", "failure", "outcome"),
    [
        (0.01, "result < 0.05", "", "Successful"),
        (0.05, "result < 0.05", "", "Failed"),
        (0.05, "", "result >= 0.05", "Failed"),
        (0.01, "", "result[0] >= 0.05", "Successful"),
        (0.01, "result < 0.05", "result > 0.1", "Successful"),
        (0.07, "result < 0.05", "result > 0.1", "Inconclusive"),
        (0.2, "result < 0.05", "result > 0.1", "Failed"),
        (0.2, "result < 1", "result > 0.1", "Failed"),
        (math.inf, "result < 0.05", "", "Failed"),
        (math.nan, "result < 0.05", "", "Inconclusive"),
        (math.nan, "", "result > 0.05", "Inconclusive"),
        (None, "result < 0.05", "", "Inconclusive"),
    ],
)
def test_conditions_decide_as_in_argo_rollouts(result, success, failure, outcome):
    assert found(result, success, failure).outcome == outcome


def test_the_names_are_put_in_for_their_templates():
    asked = []
    found(lambda spec: asked.append(spec.query) or 1.0, "result < 5", query='e{m="{{model}}",v=~"{{ champion }}|{{challenger}}",x="{{y}}"}')

    assert asked == ['e{m="flights",v=~"v1|v2",x="{{y}}"}']


def test_a_finding_tells_the_number_and_the_condition():
    assert found(0.2, "result < 0.05").message == "result is 0.2, and not result < 0.05"
    assert found(0.2, "result < 0.05").limit == 0.05
    assert found(0.2, "", "result > 0.1").message == "result is 0.2, and result > 0.1"
    assert found(0.07, "result < 0.05", "result > 0.1").message == "result is 0.07, neither result < 0.05 nor result > 0.1"
    assert found(None, "result < 5").message == "Prometheus knows no series for up"
    assert found(math.nan, "result < 5").message == "up is not a number, as a rate of nothing is"


def test_what_has_no_query_cannot_be_measured():
    with pytest.raises(MeasurementFailed, match="mine has no prometheus query"):
        queried(ResolvedMetric(name="mine"), EVIDENCE, lambda _: 1.0)
