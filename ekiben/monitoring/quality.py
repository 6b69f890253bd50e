"""Quality of a version's answers, as far as the truth is known: the metrics, and whether that is bad.

It is bad only where chance does not explain it: the interval of the spec's metric lies beyond the threshold, or, where the spec has
none, the metric is further below what the version had on held-out rows than both their errors reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.metric_checks import default_quality
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.answers import Classes, answers_of
from ekiben.monitoring.calibration import CalibrationBin, calibration_bins
from ekiben.monitoring.ground_truth import Coverage, Joined, coverage_of
from ekiben.monitoring.quality_metrics import Measured, calibrated, measured
from ekiben.monitoring.quality_verdict import Standard, Verdict, judged
from ekiben.monitoring.resampling import Estimate, mean_estimate
from ekiben.monitoring.segments import Segment, in_segment

_HOLDOUT_NAMES: Final = {"macro_f1": "f1", "macro_precision": "precision", "macro_recall": "recall"}
_HOLDOUT_ROWS: Final = "rows"
_SECOND_US: Final = 1_000_000


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """How good some answers are.

    Attributes:
        model, version: Whose; empty for all versions.
        arm: For which arm; empty for all.
        segment: Of which rows only; None for all.
        since, until: Answered in [since, until), seconds since the epoch.
        predictions: Rows answered.
        labelled: Those whose actual is known, and usable: one of the labels, or a number.
        coverage: The same by age, and of rows whose truth should be there.
        metrics: Name → value and interval, see `ekiben.monitoring.quality_metrics`; ``outcome`` is the mean of the outcomes that were
            reported, of users' feedback the share of thumbs up.
        reasons: Name → why there is no value.
        calibration: Of a classifier with probabilities: rows by probability.
        holdout: The version's metrics on held-out rows, under the same names.
        metric: The one that decides: the spec's, or the task's.
        threshold: The spec's; None where it has none.
        outcome: ``ok``; ``bad``; ``unknown`` where there is too little truth, or nothing to compare with.
        summary: One sentence.
    """

    model: str
    version: str
    arm: str = ""
    segment: Segment | None = None
    since: float
    until: float
    predictions: int
    labelled: int
    coverage: Coverage
    metrics: dict[str, Estimate]
    reasons: dict[str, str] = {}
    calibration: tuple[CalibrationBin, ...] = ()
    holdout: dict[str, float] = {}
    metric: str
    threshold: float | None = None
    outcome: Verdict
    summary: str


def quality_of(
    found: Joined,
    spec: ModelSpec,
    *,
    since: float,
    until: float,
    version: str = "",
    arm: str = "",
    segment: Segment | None = None,
    holdout: Mapping[str, float] | None = None,
) -> QualityReport:
    """Measures the quality of some rows; too few of them, or of one class only, are no error: the report says so.

    Args:
        found: The log joined with ground truth.
        spec: The version's spec.
        since: Rows answered from then on, seconds since the epoch.
        until: Rows answered before.
        version: Of this version only.
        arm: For this arm only.
        segment: Rows of this segment only.
        holdout: The version's metrics on held-out rows, as its manifest has them.
    """
    table = _rows(found.table, since, until, version, arm)
    if segment is not None:
        table = table.filter(pa.array(in_segment(table, segment)))
    answers, known = answers_of(table, spec)
    outcomes = table["outcome"].drop_null().to_numpy()
    if spec.task == "tensor":
        known = pc.is_valid(table["outcome"]).to_numpy()
    result = Measured() if answers is None else measured(answers)
    if len(outcomes):
        result.metrics["outcome"] = mean_estimate(outcomes)
    held_out = {_HOLDOUT_NAMES.get(name, name): float(value) for name, value in (holdout or {}).items()}
    metric = spec.quality.metric if spec.quality is not None else default_quality(spec.task) or "outcome"
    standard = Standard(
        metric,
        spec.monitor.min_rows,
        threshold=spec.quality.threshold if spec.quality is not None else None,
        held_out=held_out.get(metric),
        held_out_rows=held_out.get(_HOLDOUT_ROWS) or math.inf,
    )
    coverage = coverage_of(table["time"], known, found.now, found.truth_within_s)
    outcome, why = judged(standard, result.metrics.get(metric), coverage.labelled, result.reasons.get(metric, ""))
    return QualityReport(
        model=spec.name,
        version=version,
        arm=arm,
        segment=segment,
        since=since,
        until=until,
        predictions=table.num_rows,
        labelled=coverage.labelled,
        coverage=coverage,
        metrics=result.metrics,
        reasons=result.reasons,
        calibration=_calibration(answers),
        holdout=held_out,
        metric=metric,
        threshold=standard.threshold,
        outcome=outcome,
        summary=f"{why}; {_of_coverage(coverage)}",
    )


def _rows(table: pa.Table, since: float, until: float, version: str, arm: str) -> pa.Table:
    times = pc.cast(table["time"], pa.int64()).to_numpy()
    mask: npt.NDArray[np.bool_] = (times >= since * _SECOND_US) & (times < until * _SECOND_US)
    for column, wanted in (("version", version), ("arm", arm)):
        if wanted:
            mask &= pc.fill_null(pc.equal(table[column], wanted), fill_value=False).to_numpy()
    return table if mask.all() else table.filter(pa.array(mask))


def _calibration(answers: object) -> tuple[CalibrationBin, ...]:
    if not isinstance(answers, Classes) or answers.probabilities is None:
        return ()
    return calibration_bins(*calibrated(answers, answers.probabilities))


def _of_coverage(coverage: Coverage) -> str:
    text = f"truth of {coverage.labelled:,} of {coverage.rows:,} rows"
    if coverage.rows:
        text += f" ({_percent(coverage.labelled, coverage.rows)})"
    if coverage.due == 0:
        return f"{text}, none of them due yet" if coverage.rows else text
    return f"{text}, of {_percent(coverage.due_labelled, coverage.due)} of the {coverage.due:,} that are due"


def _percent(k: int, n: int) -> str:
    return f"{100 * k / n:.3g} %"
