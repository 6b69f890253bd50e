"""What ``model.yaml`` says of watching a model: what is logged, when data counts as drifted, who hears of it, when to retrain."""

from __future__ import annotations

from typing import Literal

import msgspec

from ekiben.model.rollout_spec import Duration


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What all of these have in common."""


class LogSpec(_Spec, frozen=True):
    """What of each answered row is kept in the inference log.

    Attributes:
        enabled: Whether anything is.
        sample: Share of the requests that are kept, above 0 to 1, by request id.
        redact: Inputs that are never kept.
        hash: Scalar inputs of which a keyed hash is kept instead, as text: equal values stay equal, and nobody can read them.
        value_bytes: Largest tensor that is kept, bytes a row; an image is not, unless it is small or this is larger.
        retention_days: How long rows are kept.
        max_mb: How many megabytes all of the model's rows may take; beyond that the oldest go first.
    """

    enabled: bool = True
    sample: float = 1.0
    redact: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    value_bytes: int = 4096
    retention_days: float = 90.0
    max_mb: float = 10_240.0


class DriftSpec(_Spec, frozen=True):
    """When a column counts as drifted: its adjusted p-value is below `p_value` and its effect size is at least `effect`.

    Attributes:
        p_value: Of the test, after the correction over all columns.
        effect: Population stability index from which on a difference matters.
        reference: What is compared with: the artifact's profile, the same months of former years in the log, or the days before.
        trailing: How far back the days before reach, for ``trailing``.
        ignore: Inputs that are measured and never count as drifted: those known to follow the seasons.
    """

    p_value: float = 0.01
    effect: float = 0.2
    reference: Literal["training", "season", "trailing"] = "training"
    trailing: Duration = "28d"
    ignore: tuple[str, ...] = ()


class AlertSpec(_Spec, frozen=True):
    """Somebody is told when something holds.

    Attributes:
        when: What is looked at: drift of the inputs, of scores or classes; the model's quality metric; the age of the newest
            ground truth; rows that the log could not keep; the share of failed requests; p95 latency over the budget.
        above, below: The threshold that must be crossed; None takes the default, which the documentation lists.
        checks: For how many checks in a row it must hold.
        to: Who is told: channels of the settings.
        severity: Shown in the message.
    """

    when: Literal["drift", "score_drift", "quality", "ground_truth_age", "log_dropping", "error_rate", "latency"]
    above: float | None = None
    below: float | None = None
    checks: int = 1
    to: tuple[Literal["webhook", "slack", "email"], ...] = ("webhook",)
    severity: Literal["info", "warning", "critical"] = "warning"


class RetrainSpec(_Spec, frozen=True):
    """When the model is trained anew on what was logged; off unless `enabled`.

    Attributes:
        enabled: Whether triggers start it by themselves; ``ekiben retrain`` works in any case.
        module: The training script, as ``python -m`` takes it; None takes ``training.<model>``.
        window: How far back the rows reach that it is trained on.
        drift_checks: Drift in so many checks in a row starts it; None never.
        quality: Whether a quality below the model's threshold does.
        max_age: A champion trained longer ago does; None never.
        truth_rows: So many new rows with ground truth since the last training do; None never.
        at_most_every: Between two runs that triggers started.
        margin: By how much the new version must be better, in the quality metric, for a rollout of it to start.
    """

    enabled: bool = False
    module: str | None = None
    window: Duration = "120d"
    drift_checks: int | None = 3
    quality: bool = True
    max_age: Duration | None = None
    truth_rows: int | None = None
    at_most_every: Duration = "24h"
    margin: float = 0.0


class MonitorSpec(_Spec, frozen=True):
    """How a model is watched.

    Attributes:
        every_predictions, every: A check is due after so many predictions, or so much time with any, whichever comes first.
        segments: Inputs by whose values quality is measured apart too.
        truth_within: By when ground truth is there; rows younger than that are not missing theirs yet.
        min_rows: A check of fewer rows says nothing.
        drift: When data counts as drifted.
        alerts: Who is told what.
        retrain: When the model is trained anew.
    """

    every_predictions: int = 1000
    every: Duration = "10m"
    segments: tuple[str, ...] = ()
    truth_within: Duration = "48h"
    min_rows: int = 200
    drift: DriftSpec = DriftSpec()
    alerts: tuple[AlertSpec, ...] = ()
    retrain: RetrainSpec = RetrainSpec()
