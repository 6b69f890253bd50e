"""``monitor``: what the monitor's checks of the challenger's version found in this stage, on the inference log and all ground truth."""

from __future__ import annotations

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.findings import Finding
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.checks import Check


def monitor(metric: ResolvedMetric, evidence: Evidence) -> Finding | None:
    """The latest checks of the challenger, of drift and of quality; applies once there is one that says something.

    Data that drifted for the champion too is no fault of the challenger: a version that was trained on other data may show the
    same rows as drifted, and what drifted for it alone counts.
    """
    del metric  # it has no limits of its own: those of the spec's ``monitor`` and ``quality`` are the checks'
    latest = {check.kind: check for check in _of(evidence, evidence.challenger_version) if check.outcome != "unknown"}
    if not latest:
        return None
    theirs = {check.kind: check for check in _of(evidence, evidence.champion_version)}
    for kind in ("quality", "drift"):
        check = latest.get(kind)
        if check is None or check.outcome == "ok":
            continue
        shared = theirs.get(kind)
        if kind == "drift" and shared is not None and shared.outcome == "bad":
            continue
        return Finding(outcome="Failed", message=check.summary)
    return Finding(outcome="Successful", message="; ".join(check.summary for check in latest.values()))


def _of(evidence: Evidence, version: str) -> list[Check]:
    """The checks of a version as a whole, by time."""
    return [check for check in evidence.checks if check.version == version and not check.arm]
