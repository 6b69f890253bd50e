"""Whether a quality is bad: only where chance does not explain it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ekiben.model.metric_checks import is_worse
from ekiben.monitoring.resampling import Estimate

Verdict = Literal["ok", "bad", "unknown"]


@dataclass(frozen=True)
class Standard:
    """What a quality is held against.

    Attributes:
        metric: The one that decides.
        min_rows: With fewer rows nothing is said.
        threshold: The least that will do, or, of an error, the most; None where there is none.
        held_out: The metric on held-out rows, which is taken where there is no threshold; None where it is not known.
        held_out_rows: How many those were; infinity where it is not known.
    """

    metric: str
    min_rows: int
    threshold: float | None = None
    held_out: float | None = None
    held_out_rows: float = math.inf


def judged(standard: Standard, estimate: Estimate | None, labelled: int, reason: str = "") -> tuple[Verdict, str]:
    """What is to be thought of a value, and a half sentence that says why.

    Args:
        standard: What it is held against.
        estimate: The metric; None where it could not be measured.
        labelled: How many rows it rests on.
        reason: Why it could not be measured.
    """
    metric = standard.metric
    if labelled < standard.min_rows:
        return "unknown", f"{metric} is unknown: the truth of {labelled:,} rows is known, and it takes {standard.min_rows:,}"
    if estimate is None:
        return "unknown", f"{metric} is unknown: {reason or 'it is none of the metrics of such a model'}"
    value = f"{metric} is {estimate.value:.4g}"
    if estimate.low is not None and estimate.high is not None:
        value += f" ({estimate.low:.4g} to {estimate.high:.4g})"
    if standard.threshold is not None:
        outcome, why = _against_threshold(metric, estimate, standard.threshold)
    elif standard.held_out is not None:
        outcome, why = _against_held_out(standard, standard.held_out, estimate, labelled)
    else:
        outcome, why = "unknown", "and there is neither a threshold nor a value on held-out rows to hold it against"
    return outcome, f"{value}, {why}"


def _against_threshold(metric: str, estimate: Estimate, threshold: float) -> tuple[Verdict, str]:
    """It is bad where all of the interval lies beyond."""
    best = _best(metric, estimate)
    side = "above" if is_worse(metric, 1.0) else "below"
    if not is_worse(metric, estimate.value - threshold):
        return "ok", f"which keeps the threshold of {threshold:.4g}"
    if best is not None and is_worse(metric, best - threshold):
        return "bad", f"{side} the threshold of {threshold:.4g}"
    return "ok", f"{side} the threshold of {threshold:.4g} by no more than chance"


def _against_held_out(standard: Standard, held_out: float, estimate: Estimate, labelled: int) -> tuple[Verdict, str]:
    """It is bad where the gap is beyond the errors of both: the held-out value's is taken to be this one's, scaled by the rows."""
    gap, best = estimate.value - held_out, _best(standard.metric, estimate)
    if not is_worse(standard.metric, gap):
        return "ok", f"no worse than {held_out:.4g} on held-out rows"
    reach = math.inf if best is None else abs(best - estimate.value) * math.sqrt(1 + labelled / standard.held_out_rows)
    if abs(gap) > reach:
        return "bad", f"worse than {held_out:.4g} on held-out rows by more than chance"
    return "ok", f"worse than {held_out:.4g} on held-out rows by no more than chance"


def _best(metric: str, estimate: Estimate) -> float | None:
    """The best value that the interval allows."""
    return estimate.low if is_worse(metric, 1.0) else estimate.high
