"""What ``model.yaml`` says of guarding a model: how much may be asked, when it counts as broken, which answers are remembered."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ekiben.model.rollout_spec import Duration


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What all of these have in common."""


class RateSpec(_Spec, frozen=True):
    """So many requests or rows in a time, for each of those that are counted apart.

    Attributes:
        per: Who has a count of their own: each principal (``key``: an API key or a token's subject; who brings none shares the
            count of their address), each client address, or the model, whoever asks.
        requests, rows: How many in `every`; one of the two. Rows count once they are decoded: a request of 100 rows takes 100.
        every: The time.
        burst: How many may come at once, for ``token_bucket``; None takes `requests` or `rows`.
        algorithm: ``token_bucket`` refills evenly; ``sliding_window`` never lets more than the number pass in any `every`, to
            the resolution of the estimate that docs/62 describes.
        unreachable: What happens while Redis, where it counts, cannot be reached.
    """

    per: Literal["key", "ip", "model"] = "key"
    requests: float | None = None
    rows: float | None = None
    every: Duration = "1s"
    burst: float | None = None
    algorithm: Literal["token_bucket", "sliding_window"] = "token_bucket"
    unreachable: Literal["allow", "refuse"] = "allow"


class LimitsSpec(_Spec, frozen=True):
    """How much may be asked.

    Attributes:
        max_rows: Rows of one request at most; None for as many as fit the largest body.
        rates: All of these must hold.
        concurrent: Requests of one principal that may be under way at once; None for any number.
    """

    max_rows: int | None = None
    rates: tuple[RateSpec, ...] = ()
    concurrent: int | None = None


class BreakerSpec(_Spec, frozen=True):
    """When a version counts as broken, and what is answered meanwhile.

    The breaker opens when, within `window`, at least `min_requests` ended and the share of those that the model failed or whose
    deadline passed is `error_rate` or more. After `open_for`, `probes` requests are let through: if all are answered it closes,
    at the first that fails it opens again. Bad input, and requests refused because the queue is full, count for nothing.

    Attributes:
        enabled: Whether it opens at all.
        error_rate: Above 0, at most 1.
        min_requests: So few say nothing.
        window: How far back it looks.
        open_for: How long it stays open before it is tried again.
        probes: Requests that try it.
        fallback: What is answered while it is open: ``refuse`` says 503 with Retry-After, ``previous`` has the former champion
            answer, ``default`` answers each row with `default`.
        default: The output of each row, for ``fallback: default``: what the model would answer, ``prediction`` first.
    """

    enabled: bool = True
    error_rate: float = 0.5
    min_requests: int = 20
    window: Duration = "10s"
    open_for: Duration = "5s"
    probes: int = 3
    fallback: Literal["refuse", "previous", "default"] = "refuse"
    default: dict[str, Any] | None = None


class CacheSpec(_Spec, frozen=True):
    """Answers that are remembered, by version and the exact input; worth it where predicting a row takes longer than looking it up.

    Attributes:
        enabled: Whether any are.
        ttl: How long an answer is good.
        max_mb: Megabytes that each worker keeps. What is shared, Redis bounds by its own ``maxmemory``.
        shared: Whether workers and replicas share answers through Redis (``EKIBEN_REDIS_URL``).
        per_principal: Whether what one principal asked never answers another.
    """

    enabled: bool = False
    ttl: Duration = "5m"
    max_mb: float = 64.0
    shared: bool = False
    per_principal: bool = False
