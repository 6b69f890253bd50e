import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from ekiben.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvalidRows,
    MethodNotAllowed,
    NotAcceptable,
    NotReady,
    PayloadTooLarge,
    PredictionFailed,
    QueueFull,
    RequestError,
    RowError,
    UnsupportedMediaType,
)
from ekiben.model.rollout_spec import QualitySpec
from ekiben.monitoring.arm_metrics import status_of
from ekiben.monitoring.metrics import BatchedHistogram, Metrics
from ekiben.monitoring.workers import forget_dead_workers

NO_TIME = (0.0, 0.0)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def version(registry):
    return Metrics(registry, wall=lambda: 1234.5).of("tiny", "1")


@pytest.fixture
def arm(registry, version):
    return version._metrics.arm("tiny", "1", "champion", ("no", "maybe", "yes"))


def samples(registry):
    return {(s.name, *sorted(s.labels.items())): s.value for family in registry.collect() for s in family.samples}


def value(registry, name, **labels):
    return registry.get_sample_value(name, {"model": "tiny", "version": "1", **labels})


def of_arm(registry, name, arm="champion", **labels):
    return value(registry, name, arm=arm, **labels)


def predicted(registry):
    return [of_arm(registry, "ekiben_prediction_distribution", **{"class": label}) for label in ("no", "maybe", "yes")]


@given(st.lists(st.floats(0, 20), max_size=50))
def test_many_observations_at_once_are_the_same_as_one_by_one(amounts):
    buckets = (0.1, 0.5, 1.0, 5.0, 10.0)
    many, each = CollectorRegistry(), CollectorRegistry()
    BatchedHistogram("h", "h", ["l"], buckets=buckets, registry=many).labels("x").observe_many(amounts)
    single = Histogram("h", "h", ["l"], buckets=buckets, registry=each).labels("x")
    for amount in amounts:
        single.observe(amount)
    found, expected = samples(many), samples(each)
    for key in expected.keys() | found.keys():
        if key[0] != "h_created":
            assert found[key] == pytest.approx(expected[key])


def test_amounts_on_a_bound_belong_to_its_bucket(registry):
    histogram = BatchedHistogram("h", "h", buckets=(1.0, 2.0), registry=registry)
    histogram.observe_many([1.0, 2.0, 2.1])
    assert [registry.get_sample_value("h_bucket", {"le": le}) for le in ("1.0", "2.0", "+Inf")] == [1, 2, 3]


def test_a_batch(registry, version):
    version.batch(5, [0.0, 0.001], NO_TIME)
    version.batch(1, [0.1], NO_TIME)
    assert value(registry, "ekiben_predicted_rows_total") == 0  # gathered, and not yet written
    for _ in range(2):  # what was written is not written again
        version.write(0)
        assert value(registry, "ekiben_predicted_rows_total") == 6
        assert value(registry, "ekiben_queue_seconds_count") == 3
        assert value(registry, "ekiben_queue_seconds_sum") == pytest.approx(0.101)
        assert value(registry, "ekiben_batch_size_count") == 2
        assert value(registry, "ekiben_batch_size_sum") == 6
        assert [value(registry, "ekiben_batch_size_bucket", le=le) for le in ("1.0", "2.0", "4.0", "8.0")] == [1, 1, 1, 2]
    version.batch(2, [0.5], NO_TIME)
    version.write(0)
    assert value(registry, "ekiben_predicted_rows_total") == 8
    assert value(registry, "ekiben_queue_seconds_count") == 4
    assert value(registry, "ekiben_batch_size_count") == 3


def test_a_batch_that_nobody_waits_for(registry, version):
    version.batch(3, [], NO_TIME)
    version.write(0)
    assert value(registry, "ekiben_predicted_rows_total") == 3
    assert value(registry, "ekiben_queue_seconds_count") == 0


def test_the_requests_of_an_arm(registry, version, arm):
    other = version._metrics.arm("tiny", "1", "challenger", ("no", "maybe", "yes"))
    arm.answered([0.001, 0.002])
    arm.answered([0.2])
    arm.classes(np.array([2, 2, 0, 2, 1]))
    arm.classes(np.array([1]))
    other.answered([0.4])
    assert of_arm(registry, "ekiben_predictions_total", status="ok") == 0  # gathered, and not yet written
    for _ in range(2):  # what was written is not written again
        arm.write()
        assert of_arm(registry, "ekiben_predictions_total", status="ok") == 3
        assert of_arm(registry, "ekiben_prediction_latency_seconds_count") == 3
        assert of_arm(registry, "ekiben_prediction_latency_seconds_sum") == pytest.approx(0.203)
        assert predicted(registry) == [1, 2, 3]
        assert of_arm(registry, "ekiben_predictions_total", "challenger", status="ok") == 0
    other.write()
    assert of_arm(registry, "ekiben_predictions_total", "challenger", status="ok") == 1
    assert of_arm(registry, "ekiben_prediction_distribution", "challenger", **{"class": "no"}) == 0
    arm.answered([0.2])
    arm.classes(np.array([1]))
    arm.write()
    assert of_arm(registry, "ekiben_prediction_latency_seconds_count") == 4
    assert predicted(registry) == [1, 3, 3]


@pytest.mark.parametrize(("rows", "why"), [([0, 3], "zip"), ([3], "zip"), ([0, -1], "negative")])
def test_a_class_that_the_spec_does_not_have_is_no_silent_loss(registry, arm, rows, why):
    arm.answered([0.1])
    arm.classes(np.array(rows))
    with pytest.raises(ValueError, match=why):
        arm.write()
    # What came with it is written, and what comes after it too.
    assert of_arm(registry, "ekiben_predictions_total", status="ok") == 1
    before = predicted(registry)
    arm.answered([0.1])
    arm.classes(np.array([1, 2]))
    arm.write()
    assert of_arm(registry, "ekiben_predictions_total", status="ok") == 2
    assert np.subtract(predicted(registry), before).tolist() == [0, 1, 1]


def test_answers_over_the_budget_are_counted_exactly(registry, version):
    arm = version._metrics.arm("tiny", "1", "champion", (), budget_s=0.02)
    assert of_arm(registry, "ekiben_over_latency_budget_total") == 0
    arm.answered([0.019, 0.02, 0.0201])  # all in one bucket of the histogram
    arm.write()
    arm.answered([0.5])
    arm.write()
    assert of_arm(registry, "ekiben_over_latency_budget_total") == 2


def test_without_a_budget_nothing_is_over_it(registry, arm):
    arm.answered([1e9])
    arm.write()
    assert of_arm(registry, "ekiben_over_latency_budget_total") == 0


def test_the_limits_of_a_version(registry, version):
    version.limits(0.05, QualitySpec(metric="f1", threshold=0.4))
    assert value(registry, "ekiben_latency_budget_seconds") == 0.05
    assert value(registry, "ekiben_quality_threshold", metric="f1") == 0.4


@pytest.mark.parametrize("quality", [None, QualitySpec(metric="f1")])
def test_without_a_threshold_none_is_shown(registry, version, quality):
    version.limits(0.05, quality)
    assert not any(name == "ekiben_quality_threshold" for name, *_ in samples(registry))


def test_ground_truth_is_counted_and_its_time_kept(registry):
    metrics = Metrics(registry, wall=lambda: 1234.5)
    metrics.kept_ground_truth("tiny", 0)  # nothing was told
    assert registry.get_sample_value("ekiben_ground_truth_timestamp_seconds", {"model": "tiny"}) is None
    metrics.kept_ground_truth("tiny", 3)
    metrics.kept_ground_truth("tiny", 2)
    assert registry.get_sample_value("ekiben_ground_truth_total", {"model": "tiny"}) == 5
    assert registry.get_sample_value("ekiben_ground_truth_timestamp_seconds", {"model": "tiny"}) == 1234.5


def test_a_version_shows_zeros_from_the_start(registry, version, arm):
    for status in ("ok", "invalid", "refused", "expired", "failed"):
        assert of_arm(registry, "ekiben_predictions_total", status=status) == 0
    assert of_arm(registry, "ekiben_prediction_distribution", **{"class": "yes"}) == 0
    version.loaded(1.5)
    assert value(registry, "ekiben_model_load_seconds") == 1.5


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), "invalid"),
        (InvalidRows([RowError(0, "a", 1, "rule")]), "invalid"),
        (UnsupportedMediaType("x"), "invalid"),
        (PayloadTooLarge("x"), "invalid"),
        (MethodNotAllowed("x", "POST"), "invalid"),
        (NotAcceptable("x"), "invalid"),
        (NotReady("x"), "refused"),
        (QueueFull("x"), "refused"),
        (DeadlineExceeded("x"), "expired"),
        (PredictionFailed("x"), "failed"),
        (RequestError("x"), "failed"),
    ],
)
def test_each_error_has_its_status(registry, arm, error, status):
    assert status_of(error) == status
    arm.failed([error, error], 0.25)
    arm.failed([], -1.0)
    assert of_arm(registry, "ekiben_failed_seconds_total") == 0.25
    assert of_arm(registry, "ekiben_predictions_total", status=status) == 2
    assert of_arm(registry, "ekiben_prediction_errors_total", error=type(error).__name__) == 2


def test_an_arm_that_falls_back_and_a_shadow(registry, version, arm):
    arm.fell_back()
    assert of_arm(registry, "ekiben_fallbacks_total") == 1
    arm.compared(5, 3)
    arm.compared(2, 2)
    arm.dropped(4)
    rows = {result: value(registry, "ekiben_shadow_rows_total", result=result) for result in ("agreed", "differed", "dropped")}
    assert rows == {"agreed": 5, "differed": 2, "dropped": 4}


def test_the_weight_of_an_arm_is_gone_with_it_where_it_had_one(registry, version, arm):
    pinned = version._metrics.arm("tiny", "1", "pinned", ())
    arm.weight(95.0)
    assert of_arm(registry, "ekiben_route_weight") == 95
    arm.no_weight()
    pinned.no_weight()
    assert of_arm(registry, "ekiben_route_weight") == 0
    assert of_arm(registry, "ekiben_route_weight", "pinned") is None


def test_what_batches_took_is_written_when_asked_by_size_and_by_request(registry, version):
    def spent(size, phase):
        return value(registry, "ekiben_compute_seconds_total", batch_size=size, phase=phase)

    version.batch(1, [0.1], (0.5, 1.0))
    version.batch(5, [0.1, 0.1, 0.1], (0.25, 2.0))
    version.batch(8, [], (0.25, 4.0))
    version.batch(5000, [0.1], (0.0, 8.0))
    assert value(registry, "ekiben_last_inference_timestamp_seconds") is None
    for _ in range(2):  # what was written is not written again
        version.write(7)
        assert value(registry, "ekiben_queue_rows") == 7
        assert value(registry, "ekiben_last_inference_timestamp_seconds") == 1234.5
        assert [spent(size, "input") for size in ("1", "8", "2", "+Inf")] == [0.5, 0.5, None, None]
        assert [spent(size, "infer") for size in ("1", "8", "2", "+Inf")] == [1.0, 6.0, None, 8.0]
        by_request = [value(registry, "ekiben_request_compute_seconds_total", phase=phase) for phase in ("input", "infer")]
        assert by_request == [0.5 + 3 * 0.25, 1.0 + 3 * 2.0 + 8.0]
    version.batch(1, [0.1], (0.5, 1.0))
    version.write(0)
    assert value(registry, "ekiben_queue_rows") == 0
    assert spent("1", "infer") == 2.0


def test_one_process_collects_its_own_registry(registry, version):
    version.loaded(1.5)
    metrics = Metrics(CollectorRegistry())
    assert {f.name for f in metrics.collect()} == {f.name for f in registry.collect()}
    metrics.of("tiny", "1").loaded(2.5)
    (family,) = [f for f in metrics.collect() if f.name == "ekiben_model_load_seconds"]
    assert [s.value for s in family.samples] == [2.5]


def test_one_of_several_processes_collects_them_all(tmp_path):
    """Each process is one of its own: prometheus_client decides once where it keeps its values."""
    script = """
import sys
from prometheus_client import CollectorRegistry
from ekiben.monitoring.metrics import Metrics
from ekiben.monitoring.totals import Totals

metrics = Metrics(CollectorRegistry())
version = metrics.of("m", "1")
rows = int(sys.argv[1])
version.batch(rows, [0.25], (0.125, 1.0))
version.write(rows)
totals = Totals(metrics.collect())
names = ("m", "1")
print(
    totals.sum("ekiben_predicted_rows_total", *names), totals.sum("ekiben_batch_size_count", *names),
    totals.sum("ekiben_request_compute_seconds_total", *names, phase="infer"), totals.sum("ekiben_queue_rows", *names),
)
"""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    answers = [
        subprocess.run([sys.executable, "-c", script, str(n)], env=env, check=True, capture_output=True, text=True).stdout.split()
        for n in (1, 2, 3)
    ]
    assert answers == [["1.0", "1.0", "1.0", "1.0"], ["3.0", "2.0", "2.0", "3.0"], ["6.0", "3.0", "3.0", "6.0"]]
    # Rows that wait in processes that are gone wait no more.
    assert len(list(tmp_path.glob("gauge_livesum_*.db"))) == 3
    forget_dead_workers(tmp_path)
    assert list(tmp_path.glob("gauge_livesum_*.db")) == []
    assert len(list(tmp_path.glob("counter_*.db"))) == 3
