import pytest
from prometheus_client import CollectorRegistry, Counter

from ekiben.monitoring.totals import Totals


@pytest.fixture
def totals():
    registry = CollectorRegistry()
    ours = Counter("ekiben_things", "things", ["model", "version", "kind", "size"], registry=registry)
    for model, version, kind, size, number in [
        ("m", "1", "a", "s", 1), ("m", "1", "b", "s", 2), ("m", "1", "b", "l", 4), ("m", "2", "a", "s", 8), ("n", "1", "a", "s", 16),
    ]:  # fmt: skip
        ours.labels(model, version, kind, size).inc(number)
    Counter("other_things", "things", ["model", "version"], registry=registry).labels("m", "1").inc(99)
    Counter("ekiben_bare", "no labels", registry=registry).inc(3)
    return Totals(registry.collect())


def test_a_sum_is_of_one_version_and_the_labels_asked_for(totals):
    assert totals.sum("ekiben_things_total", "m", "1") == 7
    assert totals.sum("ekiben_things_total", "m", "1", kind="b") == 6
    assert totals.sum("ekiben_things_total", "m", "1", kind="b", size="l") == 4
    assert totals.sum("ekiben_things_total", "m", "3") == 0
    assert totals.sum("other_things_total", "m", "1") == 0
    assert totals.sum("ekiben_bare_total", "", "") == 3


def test_sums_apart_for_each_value_of_a_label(totals):
    assert totals.by("ekiben_things_total", "kind", "m", "1") == {"a": 1, "b": 6}
    assert totals.by("ekiben_things_total", "kind", "m", "1", size="l") == {"b": 4}
    assert totals.by("ekiben_things_total", "kind", "m", "3") == {}
