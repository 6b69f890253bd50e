"""Prometheus collectors of remembered answers; `Metrics` makes them, its table describes them."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

RESULTS: Final = ("hit", "miss", "joined")
"""Of a request: it was answered from the cache, was computed, or waited for another that computed the same."""
_LABELS = ("model", "version")


class CacheMetrics:
    """The collectors of one process.

    Args:
        registry: Where the collectors belong.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("ekiben_cache_requests", "Requests by what the cache did", [*_LABELS, "result"], registry=registry)
        self.entries = Gauge("ekiben_cache_entries", "Rows remembered", _LABELS, multiprocess_mode="livesum", registry=registry)
        self.held_bytes = Gauge("ekiben_cache_bytes", "Bytes they take", _LABELS, multiprocess_mode="livesum", registry=registry)
        self.failures = Counter("ekiben_cache_redis_failures", "Times Redis could not be asked", _LABELS, registry=registry)

    def of(self, model: str, version: str) -> VersionCacheMetrics:
        """The children for one version, looked up once."""
        return VersionCacheMetrics(self, model, version)


class VersionCacheMetrics:
    """The collectors of one version: counted in memory, written now and then.

    Attributes:
        hits, misses, joined: Requests since the last writing.
    """

    def __init__(self, metrics: CacheMetrics, model: str, version: str) -> None:
        self.hits = self.misses = self.joined = 0
        self._results = [metrics.requests.labels(model, version, result) for result in RESULTS]
        self._entries = metrics.entries.labels(model, version)
        self._held_bytes = metrics.held_bytes.labels(model, version)
        self._failures = metrics.failures.labels(model, version)

    def failed(self) -> None:
        """Redis could not be asked."""
        self._failures.inc()

    def write(self, entries: int, held_bytes: int) -> None:
        """Writes what was counted since the last time, and what is held now."""
        counts, self.hits, self.misses, self.joined = (self.hits, self.misses, self.joined), 0, 0, 0
        for child, count in zip(self._results, counts, strict=True):
            if count:
                child.inc(count)
        self._entries.set(entries)
        self._held_bytes.set(held_bytes)
