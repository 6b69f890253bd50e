"""What the log is compared with: the artifact's profile, or rows of the log itself, described in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ekiben.model.profile import SCORE_BINS, Distribution, bin_shares, even_edges, moments, quantile_edges
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.log_columns import Kind, LogColumn, categories, elements, is_list, is_text, log_columns, n_elements, numbers

Key = tuple[Kind, str]
"""A column's kind and name."""


def distributions(profile: Mapping[str, Any]) -> dict[Key, Distribution]:
    """The distribution of each column in a profile; see `ekiben.model.profile`.

    A classifier's outputs become two, numeric for its scores and categorical for its labels.
    """
    found: dict[Key, Distribution] = {("input", name): distribution for name, distribution in profile["inputs"].items()}
    for name, distribution in profile["outputs"].items():
        if distribution["kind"] != "classification":
            found["score", name] = distribution
            continue
        n, score = distribution["n"], distribution["score"]
        unknown = {"missing": 0.0, "mean": None, "std": None, "min": None, "max": None}
        found["score", "score"] = {"kind": "numeric", "n": n, **unknown, "edges": score["edges"], "shares": score["shares"]}
        found["class", name] = {"kind": "categorical", "n": n, "missing": 0.0, "shares": distribution["class_shares"], "other": 0.0}
    return found


def distributions_of(table: pa.Table, spec: ModelSpec) -> dict[Key, Distribution]:
    """The distribution of each column of a table of the log, described as a profile does, with all categories."""
    return {(column.kind, column.name): _described(column, is_probability=spec.is_classifier) for column in log_columns(table, spec)}


def _described(column: LogColumn, *, is_probability: bool) -> Distribution:
    if is_text(column):
        return _categorical(column)
    values = numbers(column)
    finite = values[np.isfinite(values)]
    if column.kind == "score" and is_probability:
        edges = [n / SCORE_BINS for n in range(1, SCORE_BINS)]
    else:
        edges = even_edges(finite) if is_list(column) else quantile_edges(finite)
    kind = "tensor" if is_list(column) else "numeric"
    return {"kind": kind, **moments(elements(column)), "edges": edges, "shares": bin_shares(finite, edges)}


def _categorical(column: LogColumn) -> Distribution:
    names, counts = categories(column)
    total, there = n_elements(column), int(counts.sum())
    return {
        "kind": "categorical",
        "n": total,
        "missing": 1 - there / total if total else 0.0,
        # All of them: in a small reference, which are the most frequent ones is chance.
        "shares": dict(zip(names.to_pylist(), (counts / max(there, 1)).tolist(), strict=True)),
        "other": 0.0,
    }
