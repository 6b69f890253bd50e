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
    NotReady,
    PayloadTooLarge,
    PredictionFailed,
    QueueFull,
    RequestError,
    RowError,
    UnsupportedMediaType,
)
from ekiben.monitoring.metrics import BatchedHistogram, Metrics, status_of


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def version(registry):
    return Metrics(registry).of("tiny", "1", ("no", "maybe", "yes"))


def samples(registry):
    return {(s.name, *sorted(s.labels.items())): s.value for family in registry.collect() for s in family.samples}


def value(registry, name, **labels):
    return registry.get_sample_value(name, {"model": "tiny", "version": "1", **labels})


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
    version.batch(5, [0.001, 0.002], [0.0, 0.001], np.array([2, 2, 0, 2, 1]))
    version.batch(1, [0.2], [0.1], np.array([1]))
    assert value(registry, "ekiben_predictions_total", status="ok") == 3
    assert value(registry, "ekiben_predicted_rows_total") == 6
    assert value(registry, "ekiben_prediction_latency_seconds_count") == 3
    assert value(registry, "ekiben_prediction_latency_seconds_sum") == pytest.approx(0.203)
    assert value(registry, "ekiben_queue_seconds_sum") == pytest.approx(0.101)
    assert value(registry, "ekiben_batch_size_count") == 2
    assert [value(registry, "ekiben_prediction_distribution", **{"class": label}) for label in ("no", "maybe", "yes")] == [1, 2, 3]


def test_a_batch_without_classes_and_one_that_nobody_waits_for(registry, version):
    version.batch(2, [0.1], [0.1], None)
    version.batch(3, [], [], np.array([0, 0, 0]))
    assert value(registry, "ekiben_predictions_total", status="ok") == 1
    assert value(registry, "ekiben_predicted_rows_total") == 5
    assert value(registry, "ekiben_prediction_distribution", **{"class": "no"}) == 3


def test_a_class_that_the_spec_does_not_have_is_no_silent_loss(version):
    with pytest.raises(ValueError, match="zip"):
        version.batch(2, [], [], np.array([0, 3]))


def test_a_version_shows_zeros_from_the_start(registry, version):
    assert value(registry, "ekiben_predictions_total", status="ok") == 0
    assert value(registry, "ekiben_prediction_distribution", **{"class": "yes"}) == 0
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
        (NotReady("x"), "refused"),
        (QueueFull("x"), "refused"),
        (DeadlineExceeded("x"), "expired"),
        (PredictionFailed("x"), "failed"),
        (RequestError("x"), "failed"),
    ],
)
def test_each_error_has_its_status(registry, version, error, status):
    assert status_of(error) == status
    version.failed([error, error])
    assert value(registry, "ekiben_predictions_total", status=status) == 2
    assert value(registry, "ekiben_prediction_errors_total", error=type(error).__name__) == 2
