import logging

import pytest
from prometheus_client import CollectorRegistry

from ekiben.guards.breaker import CLOSED, HALF_OPEN, OPEN, Change
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.breaker_news import BreakerNews


def change(before, after, answered=2, failed=8):
    return Change(before, after, answered, failed, 10.0, 5.0)


@pytest.fixture
def collectors():
    return CollectorRegistry()


@pytest.fixture
def news(collectors, caplog):
    caplog.set_level(logging.WARNING, "ekiben.breaker")
    metrics = Metrics(collectors, wall=lambda: 77.0)
    return BreakerNews("m", "1", metrics.guards.of("m", "1", lambda: 0.0), metrics.wall)


def test_opening_is_an_event_with_its_numbers(news, collectors, caplog):
    news(change(CLOSED, OPEN))
    (event,) = news.take("host:1:1")
    assert (event.kind, event.model, event.who, event.time) == ("breaker-opened", "m", "host:1:1", 77.0)
    assert event.message == "m:1 counts as broken in one worker: 8 of 10 requests failed within 10 s"
    assert event.details == {"version": "1", "answered": 2, "failed": 8, "window_s": 10.0, "open_for_s": 5.0}
    assert news.take("host:1:1") == []
    assert collectors.get_sample_value("ekiben_breaker_state", {"model": "m", "version": "1"}) == 2
    assert caplog.records[0].levelname == "ERROR"


def test_a_version_that_stays_broken_is_no_event_every_few_seconds(news, collectors, caplog):
    for _ in range(3):
        news(change(OPEN, HALF_OPEN))
        news(change(HALF_OPEN, OPEN, 0, 1))
    assert news.take("w") == []
    assert "broken still: 1 of 1 requests that tried it failed" in caplog.text
    labels = {"model": "m", "version": "1", "state": "half-open"}
    assert collectors.get_sample_value("ekiben_breaker_transitions_total", labels) == 3


def test_closing_is_one(news):
    news(change(HALF_OPEN, CLOSED, 3, 0))
    (event,) = news.take("w")
    assert (event.kind, event.message) == ("breaker-closed", "m:1 answers again in one worker, after 3 requests that tried it")
