from prometheus_client import CollectorRegistry

from ekiben.monitoring.metrics import Metrics

LABELS = {"model": "m", "version": "1"}


def test_what_is_shown_of_a_version_and_what_is_left_when_it_goes():
    collectors = CollectorRegistry()
    guards = Metrics(collectors).guards.of("m", "1", lambda: 1000.0)
    assert collectors.get_sample_value("ekiben_breaker_state", LABELS) == 0
    guards.breaker(2, "open")
    guards.latency(100, 2)
    assert collectors.get_sample_value("ekiben_breaker_state", LABELS) == 2
    assert collectors.get_sample_value("ekiben_breaker_transitions_total", {**LABELS, "state": "open"}) == 1
    assert collectors.get_sample_value("ekiben_latency_budget_burn", LABELS) == 2
    guards.unloaded()
    assert collectors.get_sample_value("ekiben_breaker_state", LABELS) == 0
    assert collectors.get_sample_value("ekiben_latency_budget_burn", LABELS) == 0


def test_a_request_that_is_cancelled_belongs_to_its_arm():
    collectors = CollectorRegistry()
    Metrics(collectors).arm("m", "1", "champion", ()).cancelled()
    assert collectors.get_sample_value("ekiben_cancelled_total", {**LABELS, "arm": "champion"}) == 1
