"""The figures of a month, of what ``ekiben monitor check`` and ``ekiben quality`` answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from load_tests.demo.record import METRICS, Drift, Quality, Rows

Json = Mapping[str, Any]


def drift_of(checks: Sequence[Json]) -> list[Drift]:
    """The drift of each version that was checked.

    Args:
        checks: As ``ekiben monitor check --json`` prints them.
    """
    return [_drift(check) for check in checks if check["kind"] == "drift"]


def verdict_of(checks: Sequence[Json], champion: str) -> tuple[str, str]:
    """What the quality check of the champion says: its outcome, and a sentence.

    Args:
        checks: As ``ekiben monitor check --json`` prints them.
        champion: The version.
    """
    for check in checks:
        if check["kind"] == "quality" and check["version"] == champion and not check.get("arm"):
            return str(check["outcome"]), str(check["summary"])
    return "unknown", "it was not checked"


def quality_of(reports: Sequence[Json]) -> list[Quality]:
    """The quality of each version and arm.

    Args:
        reports: As ``ekiben quality --json`` prints them: of each version all rows, and where it had several arms those of each.

    Returns:
        One each; the arm of a version that had one only is empty, see `with_arms`.
    """
    whole = [report for report in reports if report.get("segment") is None]
    apart = {report["version"] for report in whole if report.get("arm")}
    return [_quality(report) for report in whole if report.get("arm") or report["version"] not in apart]


def with_arms(quality: Sequence[Quality], rows: Sequence[Rows], month: int) -> None:
    """Names the arm of each version that had one only in a month.

    Args:
        quality: Of that month.
        rows: The log's rows by month, version and arm.
        month: 1 to 12.
    """
    for found in quality:
        arms = {r.arm for r in rows if r.month == month and r.version == found.version}
        if not found.arm and len(arms) == 1:
            (found.arm,) = arms


def _drift(check: Json) -> Drift:
    columns = check["report"].get("columns", ())
    drifted = [c for c in columns if c["drifted"]]
    return Drift(
        version=check["version"],
        rows=check["rows"],
        outcome=check["outcome"],
        summary=check["summary"],
        psi={c["name"]: c["psi"] for c in columns},
        drifted=[c["name"] for c in drifted if not c["ignored"]],
        ignored=[c["name"] for c in drifted if c["ignored"]],
    )


def _quality(report: Json) -> Quality:
    metrics = report["metrics"]
    return Quality(
        version=report["version"],
        arm=report.get("arm", ""),
        predictions=report["predictions"],
        labelled=report["labelled"],
        metrics={name: (found["value"], found["low"], found["high"]) for name in METRICS if (found := metrics.get(name)) is not None},
    )
