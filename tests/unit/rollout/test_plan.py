from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import SpecError
from ekiben.model.rollout_spec import (
    AnalysisSpec,
    HeaderMatch,
    HeaderRouteSpec,
    MetricSpec,
    PauseSpec,
    PlanSpec,
    ShadowSpec,
    StepSpec,
    StringMatch,
    seconds,
)
from ekiben.model.spec import spec_from_builtins
from ekiben.rollout.plan import analysis_of, check_plan, default_plan, describe_step, duration_text, plan_of, read_plan, whole_plan

SPEC = {"name": "tiny", "task": "regression", "card": {"owner": "me"}, "inputs": [{"name": "a", "type": "float"}]}


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "plan.yaml").write_text(text)
        return tmp_path / "plan.yaml"

    return write


def test_a_plan_is_read_from_a_file_with_the_default_analysis(written):
    plan = read_plan(written("steps:\n  - shadow\n  - pause: {}\n  - setWeight: 5\n"))

    assert [describe_step(s) for s in plan.steps] == ["shadow: 100 %", "pause: until approved", "setWeight: 5"]
    assert plan.analysis == default_plan().analysis


def test_a_plan_that_cannot_be_read_is_refused_with_the_file(written, tmp_path):
    with pytest.raises(SpecError, match=r"plan\.yaml: steps\[2\]\.setWeight: 500 is no weight; percent"):
        read_plan(written("steps: [shadow, {pause: 5m}, {setWeight: 500}]"))
    with pytest.raises(SpecError, match=r"plan\.yaml: \(file\): not readable as YAML"):
        read_plan(written("steps: ["))
    with pytest.raises(SpecError, match=r"gone\.yaml: \(file\): cannot be read: No such file or directory; give the path of a plan"):
        read_plan(tmp_path / "gone.yaml")


def test_with_the_model_known_its_quality_must_fit(written):
    file = written("steps: [shadow]\nanalysis: {metrics: [{name: quality, min: 0.8}]}")

    assert read_plan(file).steps == (StepSpec(shadow=ShadowSpec()),)
    with pytest.raises(SpecError, match=r"analysis\.metrics\[0\]\.min: rmse has no min"):
        read_plan(file, spec_from_builtins({**SPEC, "quality": {"metric": "rmse"}}, file="m"))
    with pytest.raises(SpecError, match=r"analysis\.metrics\[0\]\.min: mae has no min"):
        read_plan(file, spec_from_builtins(SPEC, file="m"))


def test_a_model_without_a_plan_has_the_default_one():
    spec = spec_from_builtins(SPEC, file="m")
    own = spec_from_builtins({**SPEC, "rollout": {"steps": [{"setWeight": 100}]}}, file="m")

    assert plan_of(None) == plan_of(spec) == default_plan()
    assert plan_of(own).steps == (StepSpec(set_weight=100),)
    assert plan_of(own).analysis == default_plan().analysis


def test_an_analysis_that_is_there_stays():
    plan = PlanSpec(steps=(StepSpec(set_weight=1),), analysis=AnalysisSpec(interval=30))

    assert whole_plan(plan) is plan


def test_the_default_plan_reads_as_the_documents_say_and_passes_its_own_checks():
    plan = default_plan()

    assert [describe_step(s) for s in plan.steps] == [
        "shadow: 100 %",
        "pause: 5m",
        "setWeight: 5",
        "pause: 10m",
        "setWeight: 50",
        "pause: 10m",
        "setWeight: 100",
        "pause: 10m",
    ]
    check_plan(plan, file="default", task="binary_classification")
    assert {m.name: (m.max, m.max_ratio, m.min, m.dry_run) for m in analysis_of(plan)} == {
        "errorRate": (0.05, None, None, False),
        "invalidRate": (0.05, None, None, False),
        "latencyP95": (None, 2.0, None, False),
        "quality": (None, None, None, False),
        "agreement": (None, None, 0.8, True),
        "drift": (0.25, None, None, True),
        "monitor": (None, None, None, True),
    }


def test_an_hour_of_inconclusive_measurements_is_let_pass_by_default():
    assert {m.inconclusive_limit * m.interval_s for m in analysis_of(default_plan())} == {3600}
    plan = PlanSpec(
        steps=(), analysis=AnalysisSpec(interval="7s", metrics=(MetricSpec(name="drift"), MetricSpec(name="errorRate", interval="2h")))
    )

    assert [m.inconclusive_limit for m in analysis_of(plan)] == [515, 1]


def test_an_analysis_without_metrics_has_all_that_is_built_in_as_the_default_has_them():
    bare = PlanSpec(steps=(), analysis=AnalysisSpec())

    assert analysis_of(bare) == analysis_of(default_plan()) == analysis_of(PlanSpec(steps=()))


def test_what_a_metric_says_itself_goes_before_what_the_analysis_says():
    analysis = AnalysisSpec(
        interval="30s",
        initial_delay="1m",
        count=5,
        failure_limit=2,
        inconclusive_limit=3,
        consecutive_error_limit=1,
        min_requests=7,
        metrics=(
            MetricSpec(name="errorRate"),
            MetricSpec(
                name="drift",
                interval=5,
                initial_delay=0,
                count=0,
                failure_limit=0,
                inconclusive_limit=0,
                consecutive_error_limit=0,
                dry_run=False,
            ),
        ),
    )
    general, own = analysis_of(PlanSpec(steps=(), analysis=analysis))

    def limits(m):
        return (
            m.interval_s,
            m.initial_delay_s,
            m.count,
            m.failure_limit,
            m.inconclusive_limit,
            m.consecutive_error_limit,
            m.min_requests,
            m.dry_run,
        )

    assert limits(general) == (30, 60, 5, 2, 3, 1, 7, False)
    assert limits(own) == (5, 0, 0, 0, 0, 0, 7, False)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (StepSpec(set_weight=33.33), "setWeight: 33.33"),
        (StepSpec(set_weight=100.0), "setWeight: 100"),
        (StepSpec(pause=PauseSpec(duration=90)), "pause: 1m30s"),
        (StepSpec(shadow=ShadowSpec(rate=0.125)), "shadow: 12.5 %"),
        (StepSpec(), "nothing"),
        (StepSpec(set_header_route=HeaderRouteSpec(name="beta")), "setHeaderRoute: beta (taken away)"),
        (
            StepSpec(
                set_header_route=HeaderRouteSpec(
                    name="beta",
                    match=(
                        HeaderMatch(header_name="X-Group", header_value=StringMatch(exact="beta")),
                        HeaderMatch(header_name="a", header_value=StringMatch(prefix="b")),
                        HeaderMatch(header_name="c", header_value=StringMatch(regex="d.*")),
                    ),
                )
            ),
            "setHeaderRoute: beta (x-group = 'beta' and a begins with 'b' and c matches 'd.*')",
        ),
    ],
)
def test_steps_read_as_people_write_them(step, text):
    assert describe_step(step) == text


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0, "0s"), (0.25, "250ms"), (59.9996, "1m"), (600, "10m"), (5400, "1h30m"), (90061.5, "1d1h1m1s500ms")]
)
def test_durations_read_as_a_plan_has_them(duration_s, text):
    assert duration_text(duration_s) == text


@given(st.integers(0, 10**10))
def test_a_duration_that_is_written_is_read_again_the_same(duration_ms):
    assert seconds(duration_text(duration_ms / 1000)) == pytest.approx(duration_ms / 1000)


def test_a_whole_plan_is_kept_and_read_again_the_same():
    assert msgspec.json.decode(msgspec.json.encode(default_plan()), type=PlanSpec) == default_plan()
