from __future__ import annotations

import pytest

from ekiben.errors import SpecError
from ekiben.model.metric_checks import BUILT_IN, default_quality, is_worse
from ekiben.model.plan_reading import plan_from_builtins

QUERY = {"query": "sum(errors{model='{{model}}',version=~'{{ champion }}|{{challenger}}'})"}


def read(task=None, **analysis):
    return plan_from_builtins({"steps": ["shadow"], "analysis": analysis}, file="p", task=task)


def own(**fields):
    return {"name": "mine", "prometheus": QUERY, "successCondition": "result < 5"} | fields


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "errorRate", "max": 0.01, "interval": "30s", "initialDelay": 5, "count": 3, "failureLimit": 1, "dryRun": True},
        {"name": "invalidRate", "max": 0.01},
        {"name": "latencyP95", "maxRatio": 1.2},
        {"name": "quality", "metric": "mae", "max": 15},
        {"name": "quality", "min": 0.8},
        {"name": "agreement", "min": 0.99},
        {"name": "drift", "max": 0.1},
        own(),
        own(successCondition="", failureCondition="result[0] >= 1"),
        own(prometheus=QUERY | {"address": "http://prometheus:9090"}),
    ],
)
def test_metrics_that_make_sense_are_taken(metric):
    assert read(metrics=[metric]).analysis.metrics[0].name == metric["name"]


def test_every_built_in_metric_needs_no_more_than_its_name():
    assert [m.name for m in read(metrics=[{"name": name} for name in BUILT_IN]).analysis.metrics] == list(BUILT_IN)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"name": "errorrate"}, r"name: there is no metric 'errorrate'; one of errorRate, invalidRate"),
        ({"name": ""}, r"name: there is no metric ''"),
        ({"name": "errorRate", "prometheus": QUERY}, r"name: errorRate is built in and needs no prometheus"),
        ({"name": "errorRate", "max": 0}, r"max: 0 is out of range; a number above 0, as that nothing ever fails cannot be shown"),
        ({"name": "errorRate", "max": 1}, r"max: 1 is out of range"),
        ({"name": "errorRate", "min": 0.1}, r"min: errorRate has no min; leave it out; errorRate has max"),
        ({"name": "errorRate", "successCondition": "result < 1"}, r"successCondition: errorRate has no successCondition"),
        ({"name": "latencyP95", "min": 0.1}, r"min: latencyP95 has no min; leave it out; latencyP95 has maxRatio"),
        ({"name": "latencyP95", "maxRatio": 1}, r"maxRatio: 1 is out of range; a number above 1"),
        ({"name": "agreement", "min": 1}, r"min: 1 is out of range"),
        ({"name": "drift", "max": float("nan")}, r"max: nan is out of range"),
        ({"name": "quality", "metric": "auc"}, r"metric: there is no quality 'auc'; one of accuracy, brier"),
        ({"name": "quality", "min": 0.5, "max": 0.5}, r"min: stands beside max"),
        ({"name": "quality", "metric": "mae", "min": 0.5}, r"min: mae has no min; min of what grows with being right"),
        ({"name": "quality", "metric": "f1", "max": 0.5}, r"max: f1 has no max"),
        ({"name": "quality", "metric": "f1", "min": 1.5}, r"min: 1\.5 is out of range; a share"),
        ({"name": "quality", "min": -1}, r"min: -1 is out of range; 0 or more"),
        ({"name": "errorRate", "interval": 0}, r"interval: is 0; a duration above 0"),
        ({"name": "errorRate", "initialDelay": "x"}, r"initialDelay: 'x' is no duration"),
        ({"name": "errorRate", "count": -1}, r"count: -1 is out of range; 0 or more"),
        ({"name": "errorRate", "consecutiveErrorLimit": -1}, r"consecutiveErrorLimit: -1 is out of range"),
        (own(max=1), r"max: mine has no max; leave it out"),
        (own(successCondition=""), r"successCondition: is missing, and so is failureCondition; at least one"),
        (own(successCondition="result = 5"), r"successCondition: 'result = 5' is no condition; write result"),
        (own(failureCondition="5"), r"failureCondition: '5' is no condition"),
        (own(prometheus={"query": " "}), r"prometheus\.query: is empty"),
        (own(prometheus={"query": "up{a='{{version}}'}"}), r"prometheus\.query: \{\{version\}\} stands for nothing; one of \{\{model\}\}"),
        (own(prometheus=QUERY | {"address": "prometheus:9090"}), r"prometheus\.address: 'prometheus:9090' is no address"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(metric, message):
    with pytest.raises(SpecError, match=rf"p: analysis\.metrics\[0\]\.{message}"):
        read(metrics=[metric])


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ({"interval": "0s"}, r"interval: is 0"),
        ({"failureLimit": -1}, r"failureLimit: -1 is out of range"),
        ({"inconclusiveLimit": -1}, r"inconclusiveLimit: -1 is out of range"),
        ({"minRequests": 0}, r"minRequests: 0 is too few; 1 or more"),
        ({"metrics": [{"name": "drift"}, {"name": "drift"}]}, r"metrics\[1\]\.name: 'drift' occurs twice"),
    ],
)
def test_the_analysis_is_checked_too(analysis, message):
    with pytest.raises(SpecError, match=rf"p: analysis\.{message}"):
        read(**analysis)


def test_with_the_task_known_a_quality_must_fit_it_and_its_direction():
    read("regression", metrics=[{"name": "quality", "max": 12}])
    with pytest.raises(SpecError, match=r"metrics\[0\]\.min: mae has no min"):
        read("regression", metrics=[{"name": "quality", "min": 0.5}])
    with pytest.raises(SpecError, match=r"metrics\[0\]\.metric: f1 cannot be known of a tensor model; leave it out"):
        read("tensor", metrics=[{"name": "quality", "metric": "f1"}])


def test_each_task_has_its_quality():
    assert [default_quality(t) for t in ("binary_classification", "multiclass_classification", "regression", "tensor")] == [
        "f1",
        "accuracy",
        "mae",
        None,
    ]


@pytest.mark.parametrize(("metric", "worse"), [("f1", False), ("mae", True), ("brier", True), ("accuracy", False)])
def test_of_errors_more_is_worse_and_of_others_less(metric, worse):
    assert is_worse(metric, 0.1) is worse
    assert is_worse(metric, -0.1) is not worse
    assert not is_worse(metric, 0.0)
