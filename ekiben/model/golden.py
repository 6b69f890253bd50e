"""Whether a model gives what was recorded: its outputs element by element, within a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

GOLDEN_TOLERANCE = 1e-4
"""Absolute and relative."""

HALF_TOLERANCE = 4e-3
"""Of outputs in half precision, whose last bit is a thousandth: a batch may round otherwise than a row alone."""


def differing_rows(
    found: Sequence[dict[str, Any]],
    expected: Sequence[dict[str, Any]],
    *,
    threshold: float | None = None,
    tolerance: float = GOLDEN_TOLERANCE,
) -> list[int]:
    """Indices of the elements that differ by more than the tolerance, absolute and relative.

    Another label is no difference where the two were a tie within that tolerance: on another processor the last bit of a
    probability may decide.

    Args:
        found: Elements as `Outputs.rows` makes them.
        expected: The same, perhaps read from JSON.
        threshold: Of a binary classifier: the probability of the second label from which on it is predicted.
        tolerance: `HALF_TOLERANCE` for outputs in half precision.
    """
    if len(found) != len(expected):
        return list(range(max(len(found), len(expected))))
    pairs = enumerate(zip(found, expected, strict=True))
    return [n for n, (a, b) in pairs if not _close(a, b, tolerance) and not _is_tie(a, b, threshold, tolerance)]


def _is_tie(a: dict[str, Any], b: dict[str, Any], threshold: float | None, tolerance: float) -> bool:
    """Whether two elements of a classifier agree in all probabilities, and differ in a label that could be either."""
    if "probabilities" not in a or not _close(a["probabilities"], b.get("probabilities"), tolerance):
        return False
    probabilities = a["probabilities"]
    if not isinstance(probabilities, dict) or b["prediction"] not in probabilities:
        return False
    if threshold is not None:
        return bool(abs(list(probabilities.values())[1] - threshold) <= tolerance)
    return bool(probabilities[a["prediction"]] - probabilities[b["prediction"]] <= 2 * tolerance)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(_close(a[k], b[k], tolerance) for k in b)
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(_close(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and not isfinite(a) and b is None:
        return True  # JSON has neither NaN nor infinities: they were recorded as null
    is_number = isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool) and not isinstance(b, bool)
    return bool(a == b or (is_number and abs(a - b) <= tolerance * max(1.0, abs(b))))
