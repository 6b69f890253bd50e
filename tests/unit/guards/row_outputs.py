"""Outputs of all kinds, for what keeps rows of them."""

import numpy as np

from ekiben.model.outputs import Outputs


def numbers(n: int = 3, width: int = 4) -> Outputs:
    return Outputs(n, {"y": np.arange(n * width, dtype=np.float32).reshape(n, width)})


def classes(n: int = 3) -> Outputs:
    index = np.arange(n) % 2
    return Outputs(n, {"probabilities": np.stack([1.0 - index, index], axis=1).astype(np.float32)}, ("no", "yes"), index, 0.5)


def ragged(n: int = 3) -> Outputs:
    """Texts, and arrays of another shape in each row; all of them views of one array."""
    whole = np.arange(float(n * n)).reshape(n, n)
    arrays, texts = np.empty(n, object), np.empty(n, object)
    for row in range(n):
        arrays[row] = whole[row, : row + 1]
        texts[row] = f"text {row}"
    return Outputs(n, {"arrays": arrays, "texts": texts, "nan": np.full(n, np.nan)})


def same(one: Outputs, other: Outputs) -> bool:
    def index(outputs):
        return None if outputs.class_index is None else outputs.class_index.tolist()

    return (
        (one.n, one.labels, one.threshold, index(one)) == (other.n, other.labels, other.threshold, index(other))
        and list(one.arrays) == list(other.arrays)
        and all(_same(array, other.arrays[name]) for name, array in one.arrays.items())
    )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind == "O":
        pairs = zip(one.reshape(-1), other.reshape(-1), strict=True)
        return all(_same(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
