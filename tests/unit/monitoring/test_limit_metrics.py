from prometheus_client import CollectorRegistry, generate_latest

from ekiben.monitoring.limit_metrics import LimitMetrics


def test_refusals_are_counted_by_rule_and_the_counters_are_up_or_not():
    registry = CollectorRegistry()
    metrics = LimitMetrics(registry)
    assert "ekiben_limit_backend_up 1.0" in generate_latest(registry).decode(), "nothing is wrong before anything is counted"
    metrics.limited("m", "key:rows:1s")
    metrics.limited("m", "key:rows:1s")
    metrics.backend_up(True)
    text = generate_latest(registry).decode()
    assert 'ekiben_limited_total{model="m",rule="key:rows:1s"} 2.0' in text
    assert "ekiben_limit_backend_up 1.0" in text
    metrics.backend_up(False)
    assert "ekiben_limit_backend_up 0.0" in generate_latest(registry).decode()
