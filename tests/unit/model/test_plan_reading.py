from __future__ import annotations

import msgspec
import pytest

from ekiben.errors import SpecError
from ekiben.model.plan_reading import check_plan, plan_from_builtins
from ekiben.model.rollout_spec import MetricSpec, PauseSpec, PlanSpec, ShadowSpec, StepSpec
from ekiben.model.spec import dump_spec, json_schema, spec_from_builtins

GOOD = {
    "name": "tiny",
    "task": "binary_classification",
    "labels": ["no", "yes"],
    "card": {"owner": "me"},
    "inputs": [{"name": "a", "type": "float"}, {"name": "b", "type": "string"}],
}
SHORT = ["shadow", {"pause": "5m"}, {"setWeight": 5}, {"pause": "until approved"}, {"setWeight": 100}, {"pause": 90}]


def test_short_forms_are_what_they_stand_for():
    plan = plan_from_builtins({"steps": SHORT}, file="plan.yaml")

    assert plan.steps == (
        StepSpec(shadow=ShadowSpec()),
        StepSpec(pause=PauseSpec(duration="5m")),
        StepSpec(set_weight=5),
        StepSpec(pause=PauseSpec()),
        StepSpec(set_weight=100),
        StepSpec(pause=PauseSpec(duration=90)),
    )


@pytest.mark.parametrize("step", [{"pause": {}}, {"pause": None}, {"pause": "until approved"}])
def test_a_pause_without_duration_waits_until_approved(step):
    assert plan_from_builtins({"steps": [step]}, file="p").steps == (StepSpec(pause=PauseSpec()),)


def test_a_shadow_without_fields_is_one_of_all_rows():
    assert plan_from_builtins({"steps": [{"shadow": None}]}, file="p").steps == (StepSpec(shadow=ShadowSpec(rate=1.0)),)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], r"p\.yaml: \(top\): Expected `object`"),
        (None, r"p\.yaml: \(top\): Expected `object`"),
        ({}, r"p\.yaml: \(top\): .*missing required field `steps`; there are the fields steps, analysis"),
        ({"steps": 5}, r"p\.yaml: steps: Expected `array`"),
        ({"steps": ["shadow", "canary"]}, r"p\.yaml: steps\[1\]: Expected `object`, got `str`; a step is shadow, or one of setWeight"),
        (
            {"steps": [{"weight": 5}]},
            r"steps\[0\]: .*unknown field `weight`; there are the fields setWeight, pause, shadow, setHeaderRoute",
        ),
        ({"steps": ["shadow", {"setWeight": "5%"}]}, r"steps\[1\]\.setWeight: Expected `float \| null`, got `str`"),
        ({"steps": [{"pause": {"for": 5}}]}, r"steps\[0\]\.pause: .*unknown field `for`; there are the fields duration"),
        ({"steps": [{"pause": True}]}, r"steps\[0\]\.pause"),
        ({"steps": ["shadow"], "analysis": {"metrics": [{"nam": 1}]}}, r"analysis\.metrics\[0\]: .*; there are the fields name, max"),
        ({"steps": ["shadow", {"setWeight": 101}]}, r"p\.yaml: steps\[1\]\.setWeight: 101 is no weight; percent of the traffic, 0 to 100"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_field_and_what_would_be_right(raw, message):
    with pytest.raises(SpecError, match=message):
        plan_from_builtins(raw, file="p.yaml")


def test_a_plan_that_is_there_is_checked_alike():
    with pytest.raises(SpecError, match=r"plan: steps: is empty"):
        check_plan(PlanSpec(steps=()), file="plan")
    check_plan(PlanSpec(steps=(StepSpec(set_weight=1),)), file="plan")


def test_a_plan_in_a_model_spec_has_the_same_forms_and_checks():
    spec = spec_from_builtins({**GOOD, "rollout": {"steps": SHORT}}, file="tiny/model.yaml")

    assert spec.rollout == plan_from_builtins({"steps": SHORT}, file="p")
    assert "steps" in dump_spec(spec)
    with pytest.raises(SpecError, match=r"tiny/model\.yaml: rollout\.steps\[0\]\.setWeight: -1 is no weight"):
        spec_from_builtins({**GOOD, "rollout": {"steps": [{"setWeight": -1}]}}, file="tiny/model.yaml")
    with pytest.raises(SpecError, match=r"rollout\.steps\[0\]: .*unknown field `x`; there are the fields setWeight"):
        spec_from_builtins({**GOOD, "rollout": {"steps": [{"x": 1}]}}, file="tiny/model.yaml")
    with pytest.raises(SpecError, match=r"rollout: .*unknown field `stepz`; there are the fields steps"):
        spec_from_builtins({**GOOD, "rollout": {"stepz": []}}, file="tiny/model.yaml")
    with pytest.raises(SpecError, match=r"rollout: Expected `object \| null`"):
        spec_from_builtins({**GOOD, "rollout": 5}, file="tiny/model.yaml")


def test_a_quality_in_a_plan_must_fit_the_model():
    def plan(**metric):
        return {
            **GOOD,
            "quality": {"metric": "brier"},
            "rollout": {"steps": ["shadow"], "analysis": {"metrics": [{"name": "quality", **metric}]}},
        }

    spec_from_builtins(plan(max=0.2), file="m")
    spec_from_builtins(plan(metric="f1", min=0.5), file="m")
    with pytest.raises(SpecError, match=r"m: rollout\.analysis\.metrics\[0\]\.min: brier has no min; min of what grows"):
        spec_from_builtins(plan(min=0.5), file="m")
    with pytest.raises(SpecError, match=r"metrics\[0\]\.metric: mae cannot be known of a binary_classification model; one of accuracy"):
        spec_from_builtins(plan(metric="mae"), file="m")


def test_the_schema_for_editors_allows_the_short_forms():
    defs = json_schema()["$defs"]

    assert {"const": "shadow"} in defs["PlanSpec"]["properties"]["steps"]["items"]["anyOf"]
    assert {"type": ["string", "number"]} in defs["StepSpec"]["properties"]["pause"]["anyOf"]
    assert {"$ref": "#/$defs/StepSpec"} in defs["PlanSpec"]["properties"]["steps"]["items"]["anyOf"]
    assert msgspec.json.encode(json_schema())


def test_what_is_dumped_of_a_metric_is_read_again():
    plan = PlanSpec(steps=(StepSpec(set_weight=1),), analysis=None)
    metric = MetricSpec(name="agreement", min=0.9, dry_run=False)
    raw = {**msgspec.to_builtins(plan), "analysis": {"metrics": [msgspec.to_builtins(metric)]}}

    read = plan_from_builtins(raw, file="p").analysis
    assert read is not None
    assert read.metrics == (metric,)
