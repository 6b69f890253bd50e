from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.analysis import Evidence, due, judge, measure
from ekiben.rollout.plan import ResolvedMetric, analysis_of, default_plan
from ekiben.state.histogram import Histogram
from ekiben.state.measurements import Measurement
from ekiben.state.windows import Window

ERRORS = ResolvedMetric(name="errorRate", max=0.05)
LATENCY = ResolvedMetric(name="latencyP95", max_ratio=2.0)
DRY = ResolvedMetric(name="drift", dry_run=True)


def of(*outcomes, metric="errorRate", dry_run=False):
    return [
        Measurement(rollout="m-1", step=0, metric=metric, time=10.0 * n, outcome=outcome, message=f"look {n}", dry_run=dry_run)
        for n, outcome in enumerate(outcomes)
    ]


def window(n=2000, failed=0, seed=0):
    took = Histogram.of(np.random.default_rng([seed, n]).lognormal(-4, 0.5, n - failed))
    return Window(
        ok=n - failed,
        errors={"X": failed} if failed else {},
        latency=took,
        compute=took,
        classes={"a": n // 2, "b": n - n // 2},
        compared=n,
        agreed=n,
    )


def evidence(**fields):
    return Evidence(
        model="m", champion_version="v1", challenger_version="v2", task="multiclass_classification", labels=("a", "b", "c"), **fields
    )


def measured(metric, given, query=lambda _: 0.0):
    return measure(metric, given, rollout="m-1", step=2, now=7.0, query=query)


def test_a_measurement_holds_what_was_found_with_its_place():
    found = measured(ERRORS, evidence(challenger=window(failed=160), champion=window(38_000, failed=760)))

    assert (found.rollout, found.step, found.metric, found.time, found.outcome) == ("m-1", 2, "errorRate", 7.0, "Failed")
    assert (found.value, found.n, found.champion_value, found.champion_n, found.limit) == (0.08, 2000, 0.02, 38_000, 0.05)
    assert found.low < found.value < found.high
    assert found.champion_low < found.champion_value < found.champion_high < found.low
    assert not found.dry_run


def test_an_interval_without_an_end_has_none_there():
    found = measured(msgspec.structs.replace(LATENCY, min_requests=1), evidence(challenger=window(20), champion=window(20, seed=1)))

    assert found.value is not None
    assert found.high is None
    assert found.champion_high is None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Measurement) == found


def test_every_metric_of_the_default_plan_is_measured_in_the_shadow_but_quality_without_truth():
    given = evidence(challenger=window(), champion=window(2001, seed=1), is_shadow=True)
    found = {m.name: measured(m, given) for m in analysis_of(default_plan())}

    assert {name: m and m.outcome for name, m in found.items()} == {
        "errorRate": "Successful",
        "invalidRate": "Successful",
        "latencyP95": "Successful",
        "quality": None,
        "agreement": "Successful",
        "drift": "Successful",
        "monitor": None,
    }
    assert [name for name, m in found.items() if m and m.dry_run] == ["agreement", "drift"]


def test_a_metric_of_ones_own_is_asked_for_and_an_error_is_a_measurement():
    own = ResolvedMetric(name="mine", prometheus=PrometheusSpec(query="{{challenger}}"), success_condition="result == 3")

    def fails(spec):
        raise MeasurementFailed(f"{spec.query} is away")

    assert measured(own, evidence(), lambda _: 3.0).outcome == "Successful"
    assert measured(own, evidence(), lambda _: 3.0).value == 3.0
    found = measured(own, evidence(), fails)
    assert (found.outcome, found.message, found.value) == ("Error", "v2 is away", None)


@pytest.mark.parametrize(
    ("metric", "so_far", "now", "is_due"),
    [
        (ResolvedMetric(name="errorRate", initial_delay_s=30), [], 1029.0, False),
        (ResolvedMetric(name="errorRate", initial_delay_s=30), [], 1030.0, True),
        (ERRORS, [], 1000.0, True),
        (ERRORS, [1000.0], 1009.5, False),
        (ERRORS, [1000.0], 1010.0, True),
        (ERRORS, [1000.0, 1010.0], 1015.0, False),
        (ResolvedMetric(name="errorRate", count=2), [1000.0, 1010.0], 1100.0, False),
        (ResolvedMetric(name="errorRate", count=3), [1000.0, 1010.0], 1100.0, True),
    ],
)
def test_a_metric_is_due_after_its_delay_and_then_each_interval_until_its_count(metric, so_far, now, is_due):
    found = [msgspec.structs.replace(m, time=t) for m, t in zip(of(*["Successful"] * len(so_far)), so_far, strict=True)]
    others = [msgspec.structs.replace(m, time=now) for m in of("Successful", metric="drift")]

    assert due(metric, [*found, *others], 1000.0, now) is is_due


def test_looks_that_showed_nothing_do_not_use_up_the_count():
    metric = ResolvedMetric(name="errorRate", count=1)

    assert due(metric, of("Inconclusive", "Error"), 0.0, 100.0)
    assert judge([metric], of("Inconclusive")).outcome == "Running"
    assert not due(metric, of("Inconclusive", "Successful"), 0.0, 100.0)


@pytest.mark.parametrize(
    ("metric", "outcomes", "expected"),
    [
        (ERRORS, [], "Running"),
        (ERRORS, ["Successful"], "Successful"),
        (ERRORS, ["Successful", "Inconclusive"], "Running"),
        (ERRORS, ["Inconclusive", "Successful"], "Successful"),
        (ERRORS, ["Successful", "Failed"], "Failed"),
        (ERRORS, ["Failed", "Successful"], "Failed"),
        (ResolvedMetric(name="errorRate", failure_limit=1), ["Failed"], "Running"),
        (ResolvedMetric(name="errorRate", failure_limit=1), ["Failed", "Successful"], "Successful"),
        (ResolvedMetric(name="errorRate", failure_limit=1), ["Failed", "Successful", "Failed"], "Failed"),
        (ResolvedMetric(name="errorRate", failure_limit=1, count=1), ["Failed"], "Successful"),
        (ResolvedMetric(name="errorRate", inconclusive_limit=2), ["Inconclusive"] * 2, "Running"),
        (ResolvedMetric(name="errorRate", inconclusive_limit=2), ["Inconclusive", "Successful"] * 2, "Successful"),
        (ResolvedMetric(name="errorRate", inconclusive_limit=2), [*["Inconclusive", "Successful"] * 2, "Inconclusive"], "Inconclusive"),
        (ERRORS, ["Error"] * 4, "Running"),
        (ERRORS, ["Error"] * 5, "Error"),
        (ERRORS, [*["Error"] * 4, "Successful", *["Error"] * 4], "Running"),
    ],
)
def test_limits_are_held_as_in_argo_rollouts(metric, outcomes, expected):
    assert judge([metric], of(*outcomes)).outcome == expected


def test_all_deciding_metrics_must_be_successful():
    both = [*of("Successful"), *of("Inconclusive", metric="latencyP95")]

    waiting = judge([ERRORS, LATENCY], both)
    assert (waiting.outcome, waiting.metric, waiting.message) == ("Running", "latencyP95", "latencyP95: look 0")
    assert judge([ERRORS, LATENCY], of("Successful")).message == "latencyP95 is not measured yet"
    done = judge([ERRORS, LATENCY], [*both, *of("Successful", metric="latencyP95")])
    assert done.outcome == "Successful"
    assert [m.metric for m in done.deciding] == ["errorRate", "latencyP95"]


def test_what_does_not_apply_is_not_waited_for():
    assert judge([ERRORS, LATENCY], of("Successful"), ["latencyP95"]).outcome == "Successful"
    assert judge([ERRORS], [], {"errorRate"}).outcome == "Successful"
    assert judge([ERRORS, LATENCY], [*of("Successful"), *of("Failed", metric="latencyP95")], ["latencyP95"]).outcome == "Failed"


def test_a_dry_run_decides_nothing():
    dry = of(*["Failed"] * 9, *["Error"] * 9, metric="drift", dry_run=True)

    assert judge([ERRORS, DRY], dry).outcome == "Running"
    assert judge([ERRORS, DRY], [*dry, *of("Successful")]).outcome == "Successful"
    assert judge([DRY], dry).outcome == "Successful"


def test_a_failure_outweighs_errors_and_these_what_is_inconclusive():
    lax = ResolvedMetric(name="errorRate", inconclusive_limit=0)
    broken = ResolvedMetric(name="mine", consecutive_error_limit=0)
    undecided, erring, failed = of("Inconclusive"), of("Error", metric="mine"), of("Failed", metric="latencyP95")

    assert judge([lax, broken, LATENCY], [*undecided, *erring, *failed]).outcome == "Failed"
    assert judge([lax, broken, LATENCY], [*undecided, *erring]).outcome == "Error"
    assert judge([lax, broken, LATENCY], undecided).outcome == "Inconclusive"


def test_a_verdict_tells_what_decided():
    failed = judge([ERRORS, LATENCY], [*of("Successful", "Failed"), *of("Successful", metric="latencyP95")])
    assert (failed.metric, failed.message) == ("errorRate", "errorRate Failed: look 1")
    assert [m.outcome for m in failed.deciding] == ["Failed"]

    twice = judge([ResolvedMetric(name="errorRate", failure_limit=1)], of("Failed", "Failed"))
    assert twice.message == "errorRate Failed, 2 times: look 1"
    erring = judge([ERRORS], of(*["Error"] * 5))
    assert erring.message == "errorRate could not be measured 5 times in a row: look 4"
    assert len(erring.deciding) == 5
    open_ = judge([ResolvedMetric(name="errorRate", inconclusive_limit=1)], of("Inconclusive", "Inconclusive"))
    assert open_.message == "errorRate was Inconclusive 2 times: look 1"
    assert len(open_.deciding) == 1
