from __future__ import annotations

import pytest

from ekiben.errors import SpecError
from ekiben.model.plan_reading import plan_from_builtins
from ekiben.model.rollout_checks import quality_contradictions, routing_contradictions
from ekiben.model.rollout_spec import QualitySpec, RoutingSpec
from ekiben.model.spec import spec_from_builtins


def header(**fields):
    return {"setHeaderRoute": {"name": "beta", "match": [{"headerName": "X-Group", "headerValue": {"exact": "beta"}}]} | fields}


@pytest.mark.parametrize(
    "steps",
    [
        [{"setWeight": 0}],
        [{"setWeight": 33.33}, {"setWeight": 99.99}, {"setWeight": 100}],
        [{"setWeight": 50}, {"setWeight": 5}],
        [{"shadow": {"rate": 0.1}}, {"setWeight": 5}, {"setWeight": 0}, "shadow"],
        [header(), {"pause": {}}, {"setHeaderRoute": {"name": "beta"}}],
        [{"setHeaderRoute": {"name": "b", "match": [{"headerName": "a", "headerValue": {"regex": "a.*"}}]}}],
        [{"pause": {"duration": 0}}],
    ],
)
def test_plans_that_make_sense_are_taken(steps):
    assert len(plan_from_builtins({"steps": steps}, file="p").steps) == len(steps)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], r"steps: is empty; a plan has at least one step"),
        ([{}], r"steps\[0\]: is empty; each step is one of"),
        (["shadow", {"setWeight": 5, "pause": "5m"}], r"steps\[1\]: has setWeight and pause; each step is one of"),
        ([{"setWeight": 100.5}], r"steps\[0\]\.setWeight: 100\.5 is no weight"),
        ([{"setWeight": float("nan")}], r"steps\[0\]\.setWeight: nan is no weight"),
        ([{"setWeight": 0.005}], r"steps\[0\]\.setWeight: 0\.005 is too fine; hundredths of a percent"),
        ([{"pause": "5 minutes"}], r"steps\[0\]\.pause\.duration: '5 minutes' is no duration; write 90s"),
        ([{"pause": {"duration": -1}}], r"steps\[0\]\.pause\.duration: -1 is no duration"),
        ([{"shadow": {"rate": 0}}], r"steps\[0\]\.shadow\.rate: 0 is no share; above 0"),
        ([{"shadow": {"rate": 1.5}}], r"steps\[0\]\.shadow\.rate: 1\.5 is no share"),
        ([{"setWeight": 5}, "shadow"], r"steps\[1\]\.shadow: the challenger has 5 percent of the traffic here; shadow before it"),
        ([{"setHeaderRoute": {"name": "beta"}}], r"steps\[0\]\.setHeaderRoute\.match: is empty, and no earlier step made 'beta'"),
        ([header(name="")], r"setHeaderRoute\.name: is empty"),
        ([header(match=[{"headerName": "a b", "headerValue": {"exact": "x"}}])], r"match\[0\]\.headerName: 'a b' cannot be"),
        ([header(match=[{"headerName": "a", "headerValue": {}}])], r"match\[0\]\.headerValue: has 0 of its fields; one of exact"),
        ([header(match=[{"headerName": "a", "headerValue": {"exact": "", "prefix": ""}}])], r"headerValue: has 2 of its fields"),
        ([header(match=[{"headerName": "a", "headerValue": {"regex": "("}}])], r"headerValue\.regex: '\(' is no regular expression"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps, message):
    with pytest.raises(SpecError, match=f"p: .*{message}"):
        plan_from_builtins({"steps": steps}, file="p")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scaleDownDelaySeconds": "soon"}, r"scaleDownDelaySeconds: 'soon' is no duration"),
        ({"hooks": [{"url": "http://a/b"}, {"url": "ftp://a"}]}, r"hooks\[1\]\.url: 'ftp://a' is no address; begin it with"),
    ],
)
def test_the_rest_of_a_plan_is_checked(fields, message):
    with pytest.raises(SpecError, match=f"p: {message}"):
        plan_from_builtins({"steps": ["shadow"], **fields}, file="p")


def test_a_routing_key_is_an_input_that_has_one_value_a_row():
    inputs = {"user": "string", "image": "tensor"}

    assert routing_contradictions(RoutingSpec(header="X-User", query="user", input="user"), inputs) == []
    assert routing_contradictions(RoutingSpec(input="usr"), inputs) == [("routing.input", "there is no input 'usr'", "one of user, image")]
    assert routing_contradictions(RoutingSpec(input="image"), inputs)[0][:2] == ("routing.input", "'image' is a tensor")
    assert routing_contradictions(RoutingSpec(header="X User"), inputs)[0][0] == "routing.header"


@pytest.mark.parametrize(
    ("metric", "task", "fits"),
    [
        ("f1", "binary_classification", True),
        ("brier", "binary_classification", True),
        ("recall", "multiclass_classification", True),
        ("log_loss", "multiclass_classification", False),
        ("mae", "regression", True),
        ("f1", "regression", False),
        ("accuracy", "tensor", False),
    ],
)
def test_a_quality_must_fit_the_task(metric, task, fits):
    found = quality_contradictions(QualitySpec(metric=metric), task)

    assert (found == []) is fits
    assert all(field == "quality.metric" and f"{metric} cannot be known of a {task} model" in problem for field, problem, _ in found)


def test_a_threshold_of_a_share_is_one_and_of_an_error_is_any_number():
    assert quality_contradictions(QualitySpec(metric="mae", threshold=12.5), "regression") == []
    assert quality_contradictions(QualitySpec(metric="f1", threshold=1.5), "binary_classification")[0][2] == "a share, from 0 to 1"
    assert quality_contradictions(QualitySpec(metric="mae", threshold=-1), "regression")[0][2] == "0 or more"


def test_routing_and_quality_are_checked_in_a_model_spec():
    good = {"name": "tiny", "task": "regression", "card": {"owner": "me"}, "inputs": [{"name": "a", "type": "float"}]}

    assert spec_from_builtins({**good, "routing": {"input": "a"}, "quality": {"metric": "mae"}}, file="m").routing.input == "a"
    with pytest.raises(SpecError, match=r"m: routing\.input: there is no input 'b'; one of a"):
        spec_from_builtins({**good, "routing": {"input": "b"}}, file="m")
    with pytest.raises(SpecError, match=r"m: quality\.metric: f1 cannot be known of a regression model; one of mae, rmse"):
        spec_from_builtins({**good, "quality": {"metric": "f1"}}, file="m")
