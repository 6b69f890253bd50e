"""Statistics of versions in the terms of Triton's statistics extension, over all workers of this server.

They are the numbers of ``/metrics``, read from the same collectors. Where our terms and Triton's differ:

* ``inference_count`` is of rows and ``execution_count`` of batches, as there.
* ``queue`` and ``compute_…`` are counted once a request, each with the time of its whole batch, as there.
* ``compute_input`` is gathering and checking rows, ``compute_infer`` the predictor with its features and outputs.
  ``compute_output`` takes no time of its own: a request's share of the outputs is a view of them.
* ``batch_stats`` gathers sizes in powers of two: an entry of ``batch_size`` 8 is of batches of 5 to 8 rows. Batches above
  1024 rows are in the totals alone.
* Other workers' numbers, but for errors, may lag half a second behind.
* ``cache_hit`` counts what was answered without being computed, which the ``compute_…`` leave out; how long the cache was looked
  through is not measured.
* A model's memory cannot be told from its worker's: an empty list.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ekiben.monitoring.totals import Totals
from ekiben.serving.host import Host

_NS = 1e9
_MS = 1e3


async def statistics(host: Host, model: str | None, version: str | None) -> list[dict[str, Any]]:
    """The statistics of loaded versions, by model and version.

    Args:
        host: The loaded versions.
        model: One model; None for all.
        version: One version of it; None for all.

    Returns:
        For each version a dict of the fields of Triton's ``ModelStatistics``: counts, nanoseconds, and ``last_inference`` in
        milliseconds since the epoch.

    Raises:
        UnknownModel, NotReady: The model or version is not loaded.
    """
    chosen = sorted((m, v) for m, v in host.snapshot.loaded if model in (None, m) and version in (None, v))
    if not chosen and model is not None:
        host.find(model, version)
    host.write_metrics()
    totals = await asyncio.to_thread(lambda: Totals(host.metrics.collect()))
    return [_statistics(totals, *names) for names in chosen]


def _statistics(totals: Totals, model: str, version: str) -> dict[str, Any]:
    names = (model, version)
    by_status = totals.by("ekiben_predictions_total", "status", *names)
    answered = by_status.pop("ok", 0.0)
    executions = totals.sum("ekiben_batch_size_count", *names)
    compute = totals.by("ekiben_request_compute_seconds_total", "phase", *names)
    cache = totals.by("ekiben_cache_requests_total", "result", *names)
    reused = cache.get("hit", 0.0) + cache.get("joined", 0.0)
    computed = max(answered - reused, 0.0)
    return {
        "name": model,
        "version": version,
        "last_inference": int(totals.sum("ekiben_last_inference_timestamp_seconds", *names) * _MS),
        "inference_count": int(totals.sum("ekiben_predicted_rows_total", *names)),
        "execution_count": int(executions),
        "inference_stats": {
            "success": _duration(answered, totals.sum("ekiben_prediction_latency_seconds_sum", *names)),
            "fail": _duration(sum(by_status.values()), totals.sum("ekiben_failed_seconds_total", *names)),
            "queue": _duration(totals.sum("ekiben_queue_seconds_count", *names), totals.sum("ekiben_queue_seconds_sum", *names)),
            "compute_input": _duration(computed, compute.get("input", 0.0)),
            "compute_infer": _duration(computed, compute.get("infer", 0.0)),
            "compute_output": _duration(computed, 0.0),
            "cache_hit": _duration(reused, 0),
            "cache_miss": _duration(cache.get("miss", 0.0), 0),
        },
        "batch_stats": _batch_stats(totals, *names),
        "memory_usage": [],
    }


def _batch_stats(totals: Totals, model: str, version: str) -> list[dict[str, Any]]:
    up_to = totals.by("ekiben_batch_size_bucket", "le", model, version)
    stats = []
    before = 0.0
    for bound in sorted(up_to, key=float)[:-1]:  # the last is +Inf
        count, before = up_to[bound] - before, up_to[bound]
        if count:
            size = int(float(bound))
            spent = totals.by("ekiben_compute_seconds_total", "phase", model, version, batch_size=str(size))
            stats.append(
                {
                    "batch_size": size,
                    "compute_input": _duration(count, spent.get("input", 0.0)),
                    "compute_infer": _duration(count, spent.get("infer", 0.0)),
                    "compute_output": _duration(count, 0.0),
                }
            )
    return stats


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * _NS)}
