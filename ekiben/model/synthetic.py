"""Rows made up: from a signature, or from a few rows there are. The same every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ekiben.model.spec import InputSpec

_STRINGS = ("a", "b", "c", "d")
_SCALES = (1.0, 10.0, 0.3, 3.0)  # of numbers without bounds, row by row, for nobody knows the model's own scale
_DECIMALS = 4
_LARGE = 4096  # elements of a tensor from which on fewer decimals keep the golden rows' file small
Generator = np.random.Generator


def synthetic_rows(inputs: Sequence[InputSpec], n: int, *, free_dim: int = 3, below: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """Makes valid rows up, though nobody would send them.

    Numbers stay within ``min`` and ``max``, strings are categories where there are some. The first rows of a longer list
    are those of a shorter one.

    Args:
        inputs: The signature.
        n: Number of rows.
        free_dim: Size given to dimensions that vary, the same in all rows, so that they fit one request.
        below: Integers without ``max`` are made below this; small, for they may be indices into a table in the model.
        seed: Equal seeds, equal rows.
    """
    rows = []
    for index in range(n):
        rng = np.random.default_rng((seed, index))
        scale = _SCALES[index % len(_SCALES)]
        rows.append({item.name: _value(item, rng, free_dim, below, scale) for item in inputs})
    return rows


def recombined_rows(rows: Sequence[dict[str, Any]], n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Makes rows of the values of others: each input's value is that of some row, drawn for each input anew."""
    rng = np.random.default_rng(seed)
    names = list(rows[0])
    return [{name: rows[int(rng.integers(len(rows)))].get(name) for name in names} for _ in range(n)]


def _value(item: InputSpec, rng: Generator, free_dim: int, below: int, scale: float) -> Any:
    shape = tuple(free_dim if d == -1 else d for d in item.shape or ()) if item.type == "tensor" else ()
    kind = str(item.dtype) if item.type == "tensor" else item.type
    if kind == "bool":
        return (rng.random(shape) < 0.5).tolist() if shape else bool(rng.random() < 0.5)  # noqa: PLR2004  a coin
    if kind == "string":
        words = np.array(item.categories or _STRINGS, object)
        drawn = words[rng.integers(0, len(words), shape)]
        return drawn.tolist() if shape else drawn
    if kind.startswith(("int", "uint")):
        low, high = _integer_range(item, below)
        return rng.integers(low, high + 1, shape).tolist() if shape else int(rng.integers(low, high + 1))
    return _floats(item, rng, shape, scale)


def _integer_range(item: InputSpec, below: int) -> tuple[int, int]:
    """Lowest and highest integer to draw: from 0, or from the bound that excludes it."""
    low = int(np.ceil(item.min)) if item.min is not None else 0
    high = int(np.floor(item.max)) if item.max is not None else low + below - 1
    low = min(low, high) if item.min is None else low
    return low, max(low, min(high, low + 2**31))


def _floats(item: InputSpec, rng: Generator, shape: tuple[int, ...], scale: float) -> Any:
    decimals = _DECIMALS if np.prod(shape) < _LARGE else 1
    if item.min is None and item.max is None:
        return np.round(scale * rng.standard_normal(shape), decimals).tolist()
    low = item.min if item.min is not None else (item.max or 0.0) - 1
    high = item.max if item.max is not None else low + 1
    return np.clip(np.round(low + (high - low) * rng.random(shape), decimals), low, high).tolist()
