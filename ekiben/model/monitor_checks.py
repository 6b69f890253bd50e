"""What a model's log and monitor specs must not say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ekiben.model.monitor_spec import LogSpec, MonitorSpec
from ekiben.model.rollout_spec import seconds

Contradiction = tuple[str, str, str]
"""Field, what is wrong, what would be right."""

_ABOVE = ("drift", "score_drift", "ground_truth_age", "log_dropping", "error_rate", "latency")


def log_contradictions(log: LogSpec, types: Mapping[str, str]) -> list[Contradiction]:
    """What is wrong with a log spec; ``types`` are input → its type."""
    found = [
        (f"log.{field}", "is out of range", f"must be {right}")
        for field, ok, right in (
            ("sample", 0 < log.sample <= 1, "above 0 and at most 1; to keep nothing say enabled: false"),
            ("value_bytes", log.value_bytes >= 0, "0 or more"),
            ("retention_days", log.retention_days > 0, "more than 0"),
            ("max_mb", log.max_mb > 0, "more than 0"),
        )
        if not ok
    ]
    for field in ("redact", "hash"):
        found += _unknown(f"log.{field}", getattr(log, field), types)
    for name in log.hash:
        if types.get(name) == "tensor":
            found.append(("log.hash", f"{name!r} is a tensor", "only scalars can be hashed; redact it"))
        if name in log.redact:
            found.append(("log.hash", f"{name!r} is redacted too", "list it once"))
    return found


def monitor_contradictions(monitor: MonitorSpec, types: Mapping[str, str]) -> list[Contradiction]:
    """What is wrong with a monitor spec; ``types`` are input → its type."""
    drift, retrain = monitor.drift, monitor.retrain
    found = [
        (f"monitor.{field}", "is out of range", f"must be {right}")
        for field, ok, right in (
            ("every_predictions", monitor.every_predictions >= 1, "1 or more"),
            ("min_rows", monitor.min_rows >= 1, "1 or more"),
            ("drift.p_value", 0 < drift.p_value < 1, "between 0 and 1"),
            ("drift.effect", drift.effect > 0, "more than 0"),
            ("retrain.drift_checks", retrain.drift_checks is None or retrain.drift_checks >= 1, "1 or more, or null"),
            ("retrain.truth_rows", retrain.truth_rows is None or retrain.truth_rows >= 1, "1 or more, or null"),
            ("retrain.margin", 0 <= retrain.margin < math.inf, "0 or more: a version that is not better replaces none"),
        )
        if not ok
    ]
    found += _unknown("monitor.segments", monitor.segments, types)
    found += _unknown("monitor.drift.ignore", drift.ignore, types)
    found += [
        ("monitor.segments", f"{name!r} is a tensor", "a segment is a scalar input")
        for name in monitor.segments
        if types.get(name) == "tensor"
    ]
    for n, alert in enumerate(monitor.alerts):
        field = f"monitor.alerts[{n}]"
        if alert.checks < 1:
            found.append((f"{field}.checks", "is out of range", "must be 1 or more"))
        if not alert.to:
            found.append((f"{field}.to", "is empty", "name a channel: webhook, slack, email"))
        if alert.below is not None and alert.when in _ABOVE:
            found.append((f"{field}.below", f"{alert.when} is bad when it is high", "say above"))
    found += _durations(monitor)
    return found


def _durations(monitor: MonitorSpec) -> Iterator[Contradiction]:
    retrain = monitor.retrain
    given = {
        "every": monitor.every,
        "truth_within": monitor.truth_within,
        "drift.trailing": monitor.drift.trailing,
        "retrain.window": retrain.window,
        "retrain.max_age": retrain.max_age,
        "retrain.at_most_every": retrain.at_most_every,
    }
    for field, duration in given.items():
        try:
            if duration is not None and seconds(duration) == 0:
                yield f"monitor.{field}", "is 0", "must be longer"
        except ValueError as e:
            yield f"monitor.{field}", str(e), "for example 10m, 48h, 28d"


def _unknown(field: str, names: tuple[str, ...], types: Mapping[str, str]) -> list[Contradiction]:
    listed = ", ".join(types)
    return [(field, f"there is no input {name!r}", f"the inputs are {listed}") for name in names if name not in types]
