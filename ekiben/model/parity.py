"""Same outputs? An exported model is served only if it agrees with the original on real rows.

Converters can be wrong without an error: a gradient boosting with native categorical features converts to ONNX smoothly
and then differs by 0.87 in probability. So no export is believed; it is compared.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.outputs import Outputs

Array = npt.NDArray[Any]

MIN_ROWS = 5000
"""Rows that a comparison needs, for its agreement to count."""

TOLERANCE = 1e-4
"""Largest difference of a probability; of other numbers, absolute and relative."""


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """How two models' outputs compare.

    Attributes:
        rows: Rows compared.
        max_difference: Largest absolute difference of a probability or number; infinite where one is NaN and the other is not.
        mean_difference: Mean absolute difference over all numbers.
        label_differences: Rows with another label although it was no tie: the margin between the two best probabilities,
            or to the threshold, is larger than the tolerance.
        agrees: Whether the exported model may take the original's place.
        reason: Why, in words.
    """

    rows: int
    max_difference: float
    mean_difference: float
    label_differences: int
    agrees: bool
    reason: str


def compare(original: Outputs, exported: Outputs, *, tolerance: float = TOLERANCE, min_rows: int = MIN_ROWS) -> ParityReport:
    """Compares the outputs of two models on the same rows.

    Args:
        original: Outputs of the model as it was trained.
        exported: Outputs of its export.
        tolerance: Largest difference of a probability. Other numbers a and b agree when ``|a - b| <= tolerance * (1 + |a|)``.
        min_rows: Fewer rows never agree. Lower it only when fewer rows exist in all.
    """
    problem = _incomparable(original, exported)
    if problem:
        return _report(original.n, [], label_differences=0, problem=problem)
    differences = []
    worst = ""
    for name, a in original.arrays.items():
        difference, allowed = _difference(a, exported.arrays[name], tolerance, is_probability=original.class_index is not None)
        differences.append(difference)
        beyond = np.flatnonzero((difference > allowed).any(axis=tuple(range(1, difference.ndim))))
        if beyond.size and not worst:
            row = int(beyond[0])
            worst = (
                f"{beyond.size} of {original.n} rows differ in {name} by more than {tolerance:g}, "
                f"the first is row {row} by {difference[row].max():.3g}"
            )
    labels = int(_label_differences(original, exported, tolerance).sum())
    if labels and not worst:
        worst = f"{labels} of {original.n} rows have another label, though they were no ties"
    if original.n < min_rows and not worst:
        worst = f"the outputs agree, but on {original.n} rows only; {min_rows} are needed to believe it"
    return _report(original.n, differences, label_differences=labels, problem=worst)


def _report(rows: int, differences: list[Array], *, label_differences: int, problem: str) -> ParityReport:
    values = np.concatenate([d.reshape(-1) for d in differences]) if differences else np.zeros(0)
    largest = float(values.max()) if values.size else 0.0
    return ParityReport(
        rows=rows,
        max_difference=largest,
        mean_difference=float(values.mean()) if values.size else 0.0,
        label_differences=label_differences,
        agrees=not problem,
        reason=problem or f"{rows} rows agree; the largest difference is {largest:.2g}",
    )


def _incomparable(original: Outputs, exported: Outputs) -> str:
    """Why the two cannot be compared number by number; empty when they can."""
    if original.n != exported.n:
        return f"the original gives {original.n} rows, the export {exported.n}"
    if original.labels != exported.labels:
        return f"the original's labels are {list(original.labels)}, the export's {list(exported.labels)}"
    if (original.class_index is None) != (exported.class_index is None):
        return "one of the two is a classifier and the other is not"
    if original.arrays.keys() != exported.arrays.keys():
        return f"the original gives {', '.join(original.arrays)}; the export gives {', '.join(exported.arrays)}"
    for name, a in original.arrays.items():
        b = exported.arrays[name]
        if a.shape != b.shape:
            return f"{name} has the shape {list(a.shape)} in the original and {list(b.shape)} in the export"
    return ""


def _difference(a: Array, b: Array, tolerance: float, *, is_probability: bool) -> tuple[Array, Array]:
    """The absolute difference of each element, ``[n, …]`` float64, and how large it may be.

    What is no number differs by 0 when equal, else by infinity; so does a NaN or an infinity.
    """
    if a.dtype.kind not in "biuf" or b.dtype.kind not in "biuf":
        equal = np.array([_equal(x, y) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)], bool).reshape(a.shape)
        return np.where(equal, 0.0, np.inf), np.zeros(a.shape)
    left, right = a.astype(np.float64), b.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    finite = np.isfinite(left) & np.isfinite(right)
    difference = np.full(a.shape, np.inf)
    difference[finite] = np.abs(left[finite] - right[finite])
    difference[same] = 0.0
    allowed = np.full(a.shape, tolerance)
    if not is_probability:
        allowed[finite] *= 1 + np.abs(left[finite])
    return difference, allowed


def _equal(a: Any, b: Any) -> bool:
    """Strings and such by ``==``; arrays of a ragged output by shape and content."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(a == b)


def _label_differences(original: Outputs, exported: Outputs, tolerance: float) -> Array:
    """``[n]``: True where the label differs and the original was no tie."""
    if original.class_index is None or exported.class_index is None:
        return np.zeros(original.n, bool)
    differ: Array = original.class_index != exported.class_index
    return differ & (margin(original) > tolerance)


def margin(outputs: Outputs) -> Array:
    """How clearly each row of a classifier has its label, ``[n]``; two labels within a tie are equally right.

    It is the distance of the second label's probability to the threshold, or of the best probability to the second best.
    """
    probabilities = outputs.arrays["probabilities"].astype(np.float64)
    if outputs.threshold is not None:
        return np.abs(probabilities[:, 1] - outputs.threshold)
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0]
