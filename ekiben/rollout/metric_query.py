"""A metric of one's own: a number that Prometheus gives, held against conditions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import msgspec

from ekiben.errors import MeasurementFailed
from ekiben.model.conditions import condition
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import Estimate, Finding
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.measurements import Outcome


def queried(metric: ResolvedMetric, evidence: Evidence, query: Callable[[PrometheusSpec], float | None]) -> Finding:
    """Asks, and judges as Argo Rollouts does: failureCondition first; with both conditions and neither true, Inconclusive.

    An empty answer and NaN, which a rate without requests has, are Inconclusive.

    Raises:
        MeasurementFailed: Prometheus does not answer, or not with one number.
    """
    if metric.prometheus is None:
        raise MeasurementFailed(f"{metric.name} has no prometheus query; add one to the plan")
    names = {"model": evidence.model, "champion": evidence.champion_version, "challenger": evidence.challenger_version}
    text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: names.get(found[1], found[0]), metric.prometheus.query)
    result = query(msgspec.structs.replace(metric.prometheus, query=text))
    if result is None:
        return Finding(outcome="Inconclusive", message=f"Prometheus knows no series for {text}")
    if math.isnan(result):
        return Finding(outcome="Inconclusive", message=f"{text} is not a number, as a rate of nothing is")
    found = Estimate(result, result, result, 0)
    judged: tuple[tuple[str, Outcome], ...] = ((metric.failure_condition, "Failed"), (metric.success_condition, "Successful"))
    for wanted, outcome in judged:
        if wanted and condition(wanted).holds(result):
            limit = condition(wanted).limit
            return Finding(outcome=outcome, message=f"result is {result:g}, and {wanted.strip()}", challenger=found, limit=limit)
    if metric.success_condition and metric.failure_condition:
        message = f"result is {result:g}, neither {metric.success_condition.strip()} nor {metric.failure_condition.strip()}"
        return Finding(outcome="Inconclusive", message=message, challenger=found)
    only = metric.success_condition or metric.failure_condition
    outcome = "Failed" if metric.success_condition else "Successful"
    message = f"result is {result:g}, and not {only.strip()}"
    return Finding(outcome=outcome, message=message, challenger=found, limit=condition(only).limit)
