"""Tensors for the models of the pantry, and inputs of tritonclient's made of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from integration.onnx_cases import CASES
from tritonclient.utils import np_to_triton_dtype

Arrays = Mapping[str, np.ndarray]


def tiny_rows(n: int, seed: int = 0) -> np.ndarray:
    """``[n, 4]`` float32: valid values of a, b, c, d."""
    return np.random.default_rng(seed).uniform(-3, 3, (n, 4)).astype(np.float32)


def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of ``tiny`` as one tensor a column."""
    return {name: rows[:, n].copy() for n, name in enumerate("abcd")}


def feeds_of(model: str, n: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """What one of the ONNX cases takes."""
    case = next(case for case in CASES if case.name == model)
    return case.feeds(np.random.default_rng(seed), case.sizes[0] if case.unit == "whole" else n)


def inputs_of(triton: ModuleType, arrays: Arrays, **options: Any) -> list[Any]:
    """Inputs for a client of tritonclient's.

    Args:
        triton: ``tritonclient.http`` or ``tritonclient.grpc``.
        arrays: Input → array; object arrays are BYTES.
        options: For ``set_data_from_numpy``, as ``binary_data``.
    """
    made = []
    for name, array in arrays.items():
        made.append(triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        encoded = np.array([str(v).encode() for v in array.reshape(-1)], object).reshape(array.shape) if array.dtype == object else array
        made[-1].set_data_from_numpy(encoded, **options)
    return made


def text(array: np.ndarray) -> list[str]:
    """BYTES as Python strings, flat."""
    return [value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1).tolist()]


def assert_doubled(result: Any, feeds: Arrays) -> None:
    """``all_types`` gives back each tensor beside itself, in its own type and to the last bit."""
    for name, array in feeds.items():
        found = result.as_numpy(name.replace("in_", "out_"))
        expected = np.concatenate([array, array], axis=1)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert (text(found) if array.dtype == object else found.tolist()) == expected.reshape(found.shape).reshape(
            -1 if array.dtype == object else found.shape
        ).tolist()
