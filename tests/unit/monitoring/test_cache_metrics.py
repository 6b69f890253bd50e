from __future__ import annotations

from prometheus_client import CollectorRegistry

from ekiben.monitoring.cache_metrics import RESULTS, CacheMetrics


def test_what_is_counted_is_written_once_and_what_is_held_is_as_it_is_now():
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    one, other = metrics.of("m", "1"), metrics.of("m", "2")

    def value(name, version="1", **labels):
        return registry.get_sample_value(name, {"model": "m", "version": version, **labels})

    assert [value("ekiben_cache_requests_total", result=result) for result in RESULTS] == [0, 0, 0], "all are there from the start"
    one.hits, one.misses, one.joined = 3, 2, 1
    other.hits = 5
    for entries, held_bytes in ((7, 700), (6, 600)):
        one.write(entries, held_bytes)
        other.write(1, 100)
    one.failed()
    assert [value("ekiben_cache_requests_total", result=result) for result in RESULTS] == [3, 2, 1]
    assert value("ekiben_cache_requests_total", "2", result="hit") == 5
    assert (value("ekiben_cache_entries"), value("ekiben_cache_bytes")) == (6, 600)
    assert (value("ekiben_cache_redis_failures_total"), value("ekiben_cache_redis_failures_total", "2")) == (1, 0)
