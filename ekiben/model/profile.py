"""The reference profile: how the training inputs and the model's scores on them are distributed, for drift later.

A profile is a JSON-safe dict ``{"rows": n, "inputs": {name: …}, "outputs": {name: …}}``. Each distribution says its kind:

| kind | of | holds |
|---|---|---|
| ``numeric`` | a number a row | n, missing, mean, std, min, max, edges, shares |
| ``categorical`` | a string or bool a row | n, missing, shares (category → share, the 200 most frequent), other |
| ``tensor`` | an array a row | as numeric, over all elements; edges and shares are of the per-row mean |
| ``classification`` | a classifier's scores | n, class_shares, mean_probability, score (what it is, edges, shares) |

``missing`` is a share of all rows (of all elements, for a tensor); all other shares are of the values that are there.
``edges`` are k increasing numbers which cut the line into k + 1 bins, see `bin_shares`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.model.outputs import Outputs
from ekiben.model.signature import Batch
from ekiben.model.spec import ModelSpec

Array = npt.NDArray[Any]
Distribution = dict[str, Any]

TOP_CATEGORIES = 200
SCORE_BINS = 20
_QUANTILES = 10
_FEW_VALUES = 20


def profile_of(spec: ModelSpec, batch: Batch, outputs: Outputs) -> dict[str, Any]:
    """Describes inputs and outputs of the same n rows.

    Args:
        spec: The model's spec.
        batch: The rows' inputs; an input with varying dimensions may be an object array of one array a row.
        outputs: What the model gives for them.
    """
    inputs: dict[str, Distribution] = {}
    for item in spec.inputs:
        column = batch.columns[item.name]
        if item.type == "bool":
            inputs[item.name] = _bools(column)
        elif item.type == "string":
            inputs[item.name] = _categories(column, missing="" if item.nullable else None)
        elif item.type == "tensor":
            inputs[item.name] = _tensor(column)
        else:
            inputs[item.name] = _numbers(column)
    return {"rows": batch.n, "inputs": inputs, "outputs": _outputs(outputs)}


def empty_profile() -> dict[str, Any]:
    """The profile of no rows: that of a model which came without a sample of its inputs."""
    return {"rows": 0, "inputs": {}, "outputs": {}}


def bin_shares(values: Array, edges: list[float]) -> list[float]:
    """Which share of the values, ``[n]`` numbers, falls into each bin.

    Bin 0 holds values up to and including ``edges[0]``, bin i those above ``edges[i - 1]`` up to and including
    ``edges[i]``, the last bin those above the last edge. Missing values (NaN) and infinities are left out.
    """
    finite = _finite(values)
    bins = np.searchsorted(np.asarray(edges, np.float64), finite, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return (counts / max(len(finite), 1)).tolist()  # type: ignore[no-any-return]


def _finite(values: Array) -> Array:
    floats = np.asarray(values, np.float64).reshape(-1)
    return floats[np.isfinite(floats)]


def moments(values: Array) -> Distribution:
    """How many values there are, the share of missing ones, and mean, std, min and max of the others; None where there are none."""
    finite = _finite(values)
    total = int(np.size(values))
    some = finite if finite.size else np.full(1, np.nan)
    moments = {"mean": some.mean(), "std": some.std(), "min": some.min(), "max": some.max()}
    described: Distribution = {"n": total, "missing": 1 - finite.size / total if total else 0.0}
    return described | {name: float(value) if finite.size else None for name, value in moments.items()}


def _numbers(values: Array) -> Distribution:
    edges = quantile_edges(_finite(values))
    return {"kind": "numeric", **moments(values), "edges": edges, "shares": bin_shares(values, edges)}


def quantile_edges(finite: Array) -> list[float]:
    """Edges between ten bins of equal shares; of a column with few values, edges that give each value its bin.

    In the second case the outermost bins lie outside of what was seen, so that a value below or above it is noticed.
    """
    distinct = np.unique(finite)
    if distinct.size == 0:
        return []
    if distinct.size <= _FEW_VALUES:
        below = np.nextafter(distinct[0], -np.inf)
        # Halving first: the sum of two huge numbers would overflow.
        between = distinct[:-1] / 2 + distinct[1:] / 2
        return [float(e) for e in np.unique([below, *between, distinct[-1]])]
    quantiles = np.quantile(finite, np.arange(1, _QUANTILES) / _QUANTILES)
    return [float(e) for e in np.unique(quantiles)]


def _categories(values: Array, *, missing: Any) -> Distribution:
    counts = Counter(values.reshape(-1).tolist())
    total = sum(counts.values())
    absent = counts.pop(missing, 0) if missing is not None else 0
    there = max(total - absent, 1)
    # Sorted by count, then by name: the same rows give the same profile.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return {
        "kind": "categorical",
        "n": total,
        "missing": absent / total if total else 0.0,
        "shares": {str(category): count / there for category, count in ranked[:TOP_CATEGORIES]},
        "other": sum(count for _, count in ranked[TOP_CATEGORIES:]) / there,
    }


def _bools(values: Array) -> Distribution:
    names = np.full(len(values), "", object)
    # A nullable bool is carried as 0.0, 1.0 and NaN.
    names[values == 1] = "true"
    names[values == 0] = "false"
    return _categories(names, missing="")


def _tensor(values: Array) -> Distribution:
    is_ragged = values.dtype.kind == "O" and len(values) > 0 and isinstance(values[0], np.ndarray)
    elements = np.concatenate([row.reshape(-1) for row in values]) if is_ragged else values
    if elements.dtype.kind not in "biuf":
        return _categories(elements, missing=None)
    means = np.array([_mean_of_row(row) for row in values]) if is_ragged else _means_of_rows(values)
    edges = even_edges(_finite(means))
    return {"kind": "tensor", **moments(elements), "edges": edges, "shares": bin_shares(means, edges)}


def _means_of_rows(values: Array) -> Array:
    flat = values.reshape(len(values), -1).astype(np.float64)
    there = np.isfinite(flat)
    return np.where(there, flat, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)  # type: ignore[no-any-return]


def _mean_of_row(row: Array) -> float:
    finite = _finite(row)
    return float(finite.mean()) if finite.size else float("nan")


def even_edges(finite: Array) -> list[float]:
    """Edges between twenty bins of equal width from the smallest to the largest value."""
    distinct = np.unique(finite)
    if distinct.size <= 1:
        return quantile_edges(finite)
    edges = np.linspace(distinct[0], distinct[-1], SCORE_BINS + 1)[1:-1]
    return [float(e) for e in np.unique(edges)]


def _outputs(outputs: Outputs) -> dict[str, Distribution]:
    if outputs.class_index is None:
        return {name: _numbers(a) if a.ndim == 1 and a.dtype.kind in "biuf" else _tensor(a) for name, a in outputs.arrays.items()}
    labels = outputs.labels
    probabilities = outputs.arrays["probabilities"].astype(np.float64)
    counts = np.bincount(outputs.class_index, minlength=len(labels))
    is_binary = outputs.threshold is not None
    scores = probabilities[:, 1] if is_binary else probabilities[np.arange(outputs.n), outputs.class_index]
    edges = [n / SCORE_BINS for n in range(1, SCORE_BINS)]
    return {
        "prediction": {
            "kind": "classification",
            "n": outputs.n,
            "class_shares": dict(zip(labels, (counts / outputs.n).tolist(), strict=True)),
            "mean_probability": {label: _mean_or_none(column) for label, column in zip(labels, probabilities.T, strict=True)},
            "score": {
                "of": f"probability of {labels[1]}" if is_binary else "confidence",
                "edges": edges,
                "shares": bin_shares(scores, edges),
            },
        }
    }


def _mean_or_none(values: Array) -> float | None:
    finite = _finite(values)
    return float(finite.mean()) if finite.size else None
