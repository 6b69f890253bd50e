"""Running a model to see what it does: on a sample, or on rows made up; all together, and some alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, EkibenError, InvalidRows
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.signature import Signature
from ekiben.model.synthetic import synthetic_rows

Array = npt.NDArray[Any]
Dependence = Literal["none", "slight", "strong"]

PROBE_ROWS: Final = 32
_SOME: Final = 5  # rows of a batch of another size
_ALONE: Final = 4  # rows that are also run without the others
_FREE_DIMS: Final = (3, 8, 32, 64, 224)
_INTEGERS_BELOW: Final = (10, 2, 1)
_CLOSE: Final = {"float16": 4e-3}
_SLIGHT: Final = 0.05
_MOST_ELEMENTS: Final = 2_000_000  # made up in all: they are Python's numbers, and golden rows in JSON
_ORDER: Final[tuple[Dependence, ...]] = ("none", "slight", "strong")


class Seen(msgspec.Struct, frozen=True):
    """What a model gave for some rows.

    Attributes:
        rows: The rows: the first of the sample, or made-up ones.
        runs: The outputs of several runs; together they show what varies.
        dependence: How much a row's outputs depend on the rows beside it: not at all; by what rounding to a scale that all
            rows share makes of them, as in dynamic quantization; or truly.
    """

    rows: list[Any]
    runs: list[Outputs]
    dependence: Dependence


def probe(predictor: Predictor, rows: Sequence[Any] | None) -> Seen:
    """Runs a model on the sample or, where there is none, on the first made-up rows that it can take.

    Raises:
        InvalidRows: The sample has a row that the signature refuses.
        PredictionFailed: The model fails on the sample.
        ArtifactError: The model fails on all made-up rows, or gives other outputs for the same row each time.
    """
    signature = predictor.signature
    if rows is not None:
        return _run(predictor, same_shapes(signature, rows[:PROBE_ROWS]))
    failure: EkibenError | None = None
    found: Seen | None = None
    for free_dim in _free_dims(signature):
        n = min(PROBE_ROWS, max(_ALONE, _MOST_ELEMENTS // _elements(signature, free_dim)))
        for below in _INTEGERS_BELOW:
            try:
                seen = _run(predictor, synthetic_rows(signature.inputs, n, free_dim=free_dim, below=below))
            except EkibenError as e:
                failure = failure or e
                continue
            if found is not None:  # a second size shows which dimensions of the outputs follow it
                return Seen(found.rows, found.runs + seen.runs, max(found.dependence, seen.dependence, key=_ORDER.index))
            found = seen
            break
    if found is None:
        raise ArtifactError(
            f"{predictor.spec.name}: the model fails on made-up rows; give a sample of real ones (--sample): {failure}"
        ) from failure
    return found


def _free_dims(signature: Signature) -> list[int]:
    """Sizes to try for dimensions that vary, without those that would make a row larger than memory is for."""
    if signature.fixed_shapes:
        return [_FREE_DIMS[0]]
    return [d for d in _FREE_DIMS if d == _FREE_DIMS[0] or _elements(signature, d) <= _MOST_ELEMENTS]


def _elements(signature: Signature, free_dim: int) -> int:
    return sum(math.prod(free_dim if d == -1 else d for d in item.shape or ()) for item in signature.inputs)


def same_shapes(signature: Signature, rows: Sequence[Any]) -> list[Any]:
    """The rows whose tensors have the shapes of the first row's: rows that fit one request."""
    if signature.fixed_shapes:
        return list(rows)
    keys = [signature.shapes(signature.parse_rows([row])) for row in rows]
    return [row for row, key in zip(rows, keys, strict=True) if key == keys[0]]


def _run(predictor: Predictor, rows: list[Any]) -> Seen:
    signature = predictor.signature
    batch = signature.batch(signature.parse_rows(rows))
    faults = signature.check(batch)
    if faults:
        raise InvalidRows(faults)
    alone = [predictor.run(batch.take(slice(n, n + 1))) for n in range(min(batch.n, _ALONE))]
    if _difference(alone[0], predictor.run(batch.take(slice(0, 1))), {}) != "none":
        raise ArtifactError(
            f"{predictor.spec.name}: the model gives other outputs each time it is run on the same row; "
            "give its random nodes a fixed seed, or export it in evaluation mode"
        )
    together = predictor.run(batch)
    if not predictor.spec.batching.enabled:  # each is run alone in any case
        return Seen(rows, [together, *alone], "none")
    some = predictor.run(batch.take(slice(0, _SOME)))
    largest = {name: _largest(array) for name, array in together.arrays.items() if array.dtype.kind == "f"}
    found = [_difference(run, together.take(n, n + 1), largest) for n, run in enumerate(alone)]
    found.append(_difference(some, together.take(0, some.n), largest))
    return Seen(rows, [together, some, *alone], max(found, key=_ORDER.index))


def _difference(one: Outputs, other: Outputs, largest: Mapping[str, float]) -> Dependence:
    """How two runs of the same rows differ: worst of all outputs.

    Args:
        one: A run.
        other: Another.
        largest: The largest number of an output in a whole batch; what differs little from the point of view of that is slight.
            A label beside scores that differ slightly may be another.
    """
    found: set[Dependence] = {"none"}
    is_other = False
    for name, a in one.arrays.items():
        b = other.arrays[name]
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            return "strong"
        if a.dtype.kind == "f":
            found.add(_float_difference(a, b, largest.get(name, 0.0)))
        elif not _same(a, b):
            is_other = True
    worst = max(found, key=_ORDER.index)
    return "strong" if is_other and worst == "none" else worst


def _float_difference(a: Array, b: Array, largest: float) -> Dependence:
    close = _CLOSE.get(a.dtype.name, 1e-3)
    x, y = a.astype(np.float64), b.astype(np.float64)
    if np.allclose(x, y, rtol=close, atol=max(1e-6, close / 10 * _largest(y)), equal_nan=True):
        return "none"
    return "slight" if np.allclose(x, y, rtol=0, atol=_SLIGHT * largest, equal_nan=True) else "strong"


def _largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))


def _same(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "O" and any(isinstance(item, np.ndarray) for item in a.flat):
        return all(_same(np.asarray(x), np.asarray(y)) for x, y in zip(a.flat, b.flat, strict=True))
    return bool(a.tolist() == b.tolist())
