from __future__ import annotations

import math

import msgspec
import pytest

from ekiben.model.rollout_spec import AnalysisSpec, MetricSpec, PlanSpec, seconds


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(0, 0), (1.5, 1.5), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172_800)],
)
def test_durations_are_numbers_or_texts_with_units(duration, expected):
    assert seconds(duration) == pytest.approx(expected)


@pytest.mark.parametrize("duration", ["", "10", "10 m", "m", "-5m", "10m!", "5y", "1h-5m", -1, math.nan, math.inf])
def test_what_is_no_duration_is_refused_with_what_would_be(duration):
    with pytest.raises(ValueError, match=r"is no duration; "):
        seconds(duration)


def test_the_fields_have_the_names_that_argo_rollouts_gives_them():
    assert {"interval", "initialDelay", "count", "failureLimit", "inconclusiveLimit", "consecutiveErrorLimit"} <= set(
        AnalysisSpec.__struct_encode_fields__
    )
    assert {"successCondition", "failureCondition", "dryRun", "maxRatio"} <= set(MetricSpec.__struct_encode_fields__)


def test_a_plan_is_kept_as_json_and_read_again_the_same():
    plan = msgspec.convert(
        {
            "steps": [{"shadow": {}}, {"pause": {"duration": "5m"}}, {"setWeight": 0.25}],
            "analysis": {"inconclusiveLimit": 0, "metrics": [{"name": "drift", "dryRun": False}]},
        },
        PlanSpec,
    )

    assert msgspec.json.decode(msgspec.json.encode(plan), type=PlanSpec) == plan
    assert plan.analysis is not None
    assert plan.analysis.metrics[0].dry_run is False
