"""What ``model.yaml`` says of rollouts: the plan, how it is judged, what keeps a user on one version, what quality is.

The words are those of Argo Rollouts, and so are the defaults of an analysis: ``interval``, ``initialDelay``, ``count``,
``failureLimit``, ``inconclusiveLimit``, ``consecutiveErrorLimit``, ``dryRun``. A plan of its own file has the same fields.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Duration = int | float | str
"""Seconds, or text like ``90s``, ``10m``, ``1h30m``."""

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(duration: Duration) -> float:
    """A duration in seconds.

    Raises:
        ValueError: It is none; the message says what would be one.
    """
    if isinstance(duration, str):
        parts = _DURATION.findall(duration)
        if not parts or "".join(number + unit for number, unit in parts) != duration:
            raise ValueError(f"{duration!r} is no duration; write 90s, 10m, 1h30m, or a number of seconds")
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not 0 <= duration < float("inf"):
        raise ValueError(f"{duration!r} is no duration; it must be 0 or more seconds")
    return float(duration)


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, rename="camel"):
    """What all of these have in common."""


class PauseSpec(_Spec, frozen=True):
    """A pause: for so long, or, without a duration, until somebody approves (`ekiben rollout promote`)."""

    duration: Duration | None = None


class ShadowSpec(_Spec, frozen=True):
    """The challenger gets the champion's rows too, and its answers go nowhere.

    Attributes:
        rate: Share of the rows, above 0 to 1.
    """

    rate: float = 1.0


class StringMatch(_Spec, frozen=True):
    """One of: equal, begins with, or a regular expression that matches the whole."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HeaderMatch(_Spec, frozen=True):
    """A request's header, or gRPC call's metadata."""

    header_name: str
    header_value: StringMatch


class HeaderRouteSpec(_Spec, frozen=True):
    """Requests that match all of these go to the challenger, whatever its weight; without a match, the route is taken away."""

    name: str
    match: tuple[HeaderMatch, ...] = ()


class StepSpec(_Spec, frozen=True):
    """One step; exactly one of its fields is set.

    Attributes:
        set_weight: Percent of the traffic that the challenger answers from now on, in hundredths of a percent.
        pause: Time to watch; the way to the next step.
        shadow: The challenger answers nobody and is compared.
        set_header_route: Requests with certain headers go to the challenger.
    """

    set_weight: float | None = None
    pause: PauseSpec | None = None
    shadow: ShadowSpec | None = None
    set_header_route: HeaderRouteSpec | None = None


class PrometheusSpec(_Spec, frozen=True):
    """A query to a Prometheus server, which must give one number.

    Attributes:
        query: PromQL; ``{{model}}``, ``{{champion}}`` and ``{{challenger}}`` stand for the names.
        address: The server; empty takes ``EKIBEN_PROMETHEUS_URL``.
    """

    query: str
    address: str = ""


class MetricSpec(_Spec, frozen=True):
    """One thing that is measured.

    ``name`` is one of the built-in ones, or any name with ``prometheus``. A built-in one without its limit has the limit of the
    table in docs/70-rollouts.md; ``interval`` to ``consecutiveErrorLimit`` are the analysis's where they are left out.

    Attributes:
        max: The most that is right: a share for ``errorRate``, a share beyond the champion's for ``invalidRate``, a PSI for
            ``drift``, an error for a ``quality`` that is one (``mae``).
        max_ratio: ``latencyP95``: the most times the champion's.
        min: The least that is right: ``agreement``, and a ``quality`` that grows with being right (``f1``).
        metric: ``quality``: which; empty takes the model's own.
        success_condition, failure_condition: With ``prometheus``: ``result < 0.05``.
        dry_run: Measured and shown, and decides nothing; left out, as the built-in metric does: ``agreement`` and ``drift`` are so.
    """

    name: str
    max: float | None = None
    max_ratio: float | None = None
    min: float | None = None
    metric: str = ""
    prometheus: PrometheusSpec | None = None
    success_condition: str = ""
    failure_condition: str = ""
    interval: Duration | None = None
    initial_delay: Duration | None = None
    count: int | None = None
    failure_limit: int | None = None
    inconclusive_limit: int | None = None
    consecutive_error_limit: int | None = None
    dry_run: bool | None = None


class AnalysisSpec(_Spec, frozen=True):
    """How a rollout is judged.

    Attributes:
        interval: Between two measurements of a metric.
        initial_delay: From the begin of a stage to its first measurement.
        count: Measurements of a stage after which a metric has had its say; 0 goes on as long as the stage.
        failure_limit: Failed measurements of a metric in a stage that are let pass.
        inconclusive_limit: Inconclusive ones; one more pauses the rollout. Left out, as many as an hour holds: a stage begins with
            too few requests, which is Inconclusive, so that Argo's 0 would pause every stage at once.
        consecutive_error_limit: Errors in a row; one more fails it.
        min_requests: With fewer, of the challenger and of the champion, a measurement is Inconclusive.
        metrics: What is measured; empty takes all that is built in.
    """

    interval: Duration = 10
    initial_delay: Duration = 0
    count: int = 0
    failure_limit: int = 0
    inconclusive_limit: int | None = None
    consecutive_error_limit: int = 4
    min_requests: int = 50
    metrics: tuple[MetricSpec, ...] = ()


class HookSpec(_Spec, frozen=True):
    """A webhook that hears of every transition.

    Attributes:
        url: Where it listens.
        secret_file: File with the secret that signs; empty takes ``EKIBEN_WEBHOOK_SECRET_FILE``.
    """

    url: str
    secret_file: str = ""


class PlanSpec(_Spec, frozen=True):
    """A plan.

    Attributes:
        steps: One after the other; when all are done the challenger is promoted.
        analysis: How it is judged; left out, as the default plan is.
        scale_down_delay_seconds: How long the former champion stays loaded after a promotion, for a rollback at once.
        hooks: Webhooks, beside ``EKIBEN_WEBHOOK_URL``.
    """

    steps: tuple[StepSpec, ...]
    analysis: AnalysisSpec | None = None
    scale_down_delay_seconds: Duration = 3600
    hooks: tuple[HookSpec, ...] = ()


class RoutingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What keeps a user on one version, where ``X-Routing-Key`` does not say it; the first that a request has.

    Attributes:
        header: A header (metadata, over gRPC).
        query: A parameter of the query.
        input: An input of the model, of the first row.
    """

    header: str = ""
    query: str = ""
    input: str = ""


class QualitySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What good answers are, once ground truth is known.

    Attributes:
        metric: Of a classifier ``accuracy``, ``f1``, ``precision``, ``recall``, ``brier``, ``log_loss``; of a regressor ``mae``, ``rmse``.
        threshold: The least that will do, or, of an error, the most.
    """

    metric: Literal["accuracy", "f1", "precision", "recall", "brier", "log_loss", "mae", "rmse"]
    threshold: float | None = None
