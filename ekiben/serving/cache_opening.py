"""Which cache a version has, by its spec."""

from __future__ import annotations

import logging
import time

from ekiben.guards.cache import MemoryRows, RowStore
from ekiben.guards.cache_codec import RowCodec
from ekiben.guards.cache_key import RowKeys, scope_of
from ekiben.guards.redis_cache import RedisBytes, SharedRows
from ekiben.model.artifact import Manifest
from ekiben.model.rollout_spec import seconds
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.cache_metrics import VersionCacheMetrics
from ekiben.registry import Version

logger = logging.getLogger("ekiben.cache")


def open_store(spec: ModelSpec, metrics: VersionCacheMetrics, redis_url: str) -> RowStore:
    """Where a version's answers are remembered.

    Where they are to be shared and there is no Redis, each worker remembers its own: what is answered is the same.
    """
    ttl_s = seconds(spec.cache.ttl)
    if spec.cache.shared:
        store = _redis(spec.name, redis_url)
        if store is not None:
            codec = RowCodec(spec.labels if spec.is_classifier else ())
            return SharedRows(store, codec, model=spec.name, ttl_s=ttl_s, failed=metrics.failed)
    return MemoryRows(ttl_s=ttl_s, max_bytes=int(spec.cache.max_mb * 1e6), clock=time.monotonic)


def _redis(model: str, url: str) -> RedisBytes | None:
    try:
        if url:
            return RedisBytes(url)
        problem = "EKIBEN_REDIS_URL is not set"
    except (ImportError, ValueError) as e:
        problem = str(e)
    logger.warning("%s: answers are remembered by each worker for itself, and not shared: %s", model, problem)
    return None


def keys_of(stored: Version, manifest: Manifest) -> RowKeys:
    """What makes the keys of a version's rows."""
    return RowKeys(scope_of(stored.model, stored.version, manifest), per_principal=manifest.spec.cache.per_principal)
