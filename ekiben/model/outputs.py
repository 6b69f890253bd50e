"""What a model gives: the arrays of a batch, and the shape in which each row is answered.

Classifiers answer ``prediction`` (a label), ``confidence`` (its probability) and ``probabilities``; regressors answer
``prediction``; tensor models answer their outputs by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, InvalidRequest, PredictionFailed
from ekiben.model.runtimes.base import TensorInfo
from ekiben.model.spec import ModelSpec

Array = npt.NDArray[Any]
_PROBABILITY_NAMES = ("probabilities", "output_probability", "probability", "proba")


class Outputs:
    """The outputs of n rows.

    Attributes:
        n: Number of rows.
        arrays: One array an output, ``[n, …]``. A classifier has ``probabilities`` only; `tensors` adds the rest.
        labels: The class labels; empty for other tasks.
        class_index: ``[n]`` index of the predicted label; None for other tasks.
        threshold: Probability of the second label from which on it was predicted; None where the most probable label was.
    """

    __slots__ = ("_rows", "_tensors", "arrays", "class_index", "labels", "n", "threshold")

    def __init__(
        self,
        n: int,
        arrays: dict[str, Array],
        labels: tuple[str, ...] = (),
        class_index: Array | None = None,
        threshold: float | None = None,
    ) -> None:
        self.n = n
        self.arrays = arrays
        self.labels = labels
        self.class_index = class_index
        self.threshold = threshold
        self._rows: list[dict[str, Any]] | None = None
        self._tensors: dict[str, Array] | None = None

    def tensors(self) -> dict[str, Array]:
        """All outputs as named arrays, in the order of the spec; made once. `one_tensor` makes tensors of those with an array a row."""
        if self.class_index is None:
            return self.arrays
        if self._tensors is None:
            probabilities = self.arrays["probabilities"]
            self._tensors = {
                "prediction": np.array(self.labels, object)[self.class_index],
                "confidence": probabilities[np.arange(self.n), self.class_index],
                "probabilities": probabilities,
            }
        return self._tensors

    def rows(self) -> list[dict[str, Any]]:
        """One element a row, made of plain Python values; made once."""
        if self._rows is None:
            self._rows = self._make_rows()
        return self._rows

    def _make_rows(self) -> list[dict[str, Any]]:
        if self.class_index is not None:
            labels = self.labels
            return [
                {"prediction": labels[index], "confidence": row[index], "probabilities": dict(zip(labels, row, strict=True))}
                for index, row in zip(self.class_index.tolist(), self.arrays["probabilities"].tolist(), strict=True)
            ]
        names = list(self.arrays)
        lists = [_plain(array) for array in self.arrays.values()]
        return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]

    def take(self, start: int, stop: int) -> Outputs:
        """The rows from start to stop (exclusive), as views."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        index = None if self.class_index is None else self.class_index[start:stop]
        return Outputs(stop - start, arrays, self.labels, index, self.threshold)

    def bare(self) -> Outputs:
        """The same arrays for whoever keeps them: what `rows` makes of them for the answers goes with the answers."""
        return Outputs(self.n, self.arrays, self.labels, self.class_index, self.threshold)

    def pick(self, rows: Array) -> Outputs:
        """The rows of an array of indices, as copies."""
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        index = None if self.class_index is None else self.class_index[rows]
        return Outputs(len(rows), arrays, self.labels, index, self.threshold)

    @staticmethod
    def join(parts: list[Outputs]) -> Outputs:
        """The rows of several parts, one at least, in order."""
        first = parts[0]
        if len(parts) == 1:
            return first
        arrays = {name: _concatenate([p.arrays[name] for p in parts]) for name in first.arrays}
        indices = [p.class_index for p in parts if p.class_index is not None]
        return Outputs(sum(p.n for p in parts), arrays, first.labels, np.concatenate(indices) if indices else None, first.threshold)


def one_tensor(name: str, array: Array) -> Array:
    """An output of some rows as one tensor, where it holds an array a row; others as they are.

    Args:
        name: The output's name, for the message.
        array: As in `Outputs.arrays`, perhaps a part of it.

    Raises:
        InvalidRequest: The rows' arrays differ in shape, so that no one tensor holds them.
    """
    if array.dtype.kind != "O" or array.ndim != 1 or not len(array) or not isinstance(array[0], np.ndarray):
        return array
    shapes = {row.shape for row in array}
    if len(shapes) > 1:
        found = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
        raise InvalidRequest(
            f"output {name!r} has another shape for each of these rows ({found}), and no one tensor holds them; send them one by one"
        )
    return np.stack(list(array))


class Head:
    """Turns a runtime's raw outputs into `Outputs`, for one spec.

    Args:
        spec: The model's spec.
        given: What the runtime gives.
        bound: Output of the spec (``probabilities``, ``prediction`` or a tensor's name) → output of the graph, where the
            names do not say it by themselves.
        threshold: A binary classifier predicts its positive label from this probability on.

    Raises:
        ArtifactError: The graph has no output that can be the one the spec needs.
    """

    def __init__(self, spec: ModelSpec, given: tuple[TensorInfo, ...], bound: Mapping[str, str], threshold: float | None) -> None:
        self._labels = spec.labels
        self._is_binary = spec.task == "binary_classification"
        self._is_regression = spec.task == "regression"
        self.threshold = (0.5 if threshold is None else threshold) if self._is_binary else None
        self.is_classifier = spec.is_classifier
        if spec.is_classifier:
            self._sources = {"probabilities": bound.get("probabilities") or _probability_output(spec, given)}
        elif spec.task == "regression":
            self._sources = {"prediction": bound.get("prediction") or given[0].name}
        else:
            self._sources = {o.name: bound.get(o.name, o.name) for o in spec.outputs}
            if len(spec.outputs) == len(given) == 1 and not bound:
                self._sources = {spec.outputs[0].name: given[0].name}
        names = {info.name for info in given}
        lost = [f"{role} ← {source}" for role, source in self._sources.items() if source not in names]
        if lost:
            raise ArtifactError(f"the model has no output for {lost[0]}; it gives {', '.join(sorted(names))}")
        self.wanted = tuple(self._sources.values())

    def shape(self, n: int, raw: Mapping[str, Array]) -> Outputs:
        """Shapes the raw outputs of n rows.

        Raises:
            PredictionFailed: The model gave another number of rows or classes than its spec says. A NaN is no reason to fail
                the rows beside it: it is passed on, and JSON shows it as null.
        """
        if self.is_classifier:
            return self._classified(n, raw[self.wanted[0]])
        arrays = {role: raw[source] for role, source in self._sources.items()}
        if self._is_regression and arrays["prediction"].ndim == 2 and arrays["prediction"].shape[1] == 1:  # noqa: PLR2004  [n, 1]
            arrays["prediction"] = arrays["prediction"][:, 0]
        for role, array in arrays.items():
            if array.ndim == 0 or len(array) != n:
                raise PredictionFailed(
                    f"output {role!r} has the shape {list(array.shape)} for {n} rows; is `batching.enabled` right for this model?"
                )
        return Outputs(n, arrays)

    def _classified(self, n: int, probabilities: Array) -> Outputs:
        if self._is_binary and (probabilities.ndim == 1 or probabilities.shape[-1] == 1):
            positive = probabilities.reshape(-1)
            probabilities = np.stack([1 - positive, positive], axis=1)
        if probabilities.shape != (n, len(self._labels)):
            raise PredictionFailed(
                f"the model gave probabilities of shape {list(probabilities.shape)} for {n} rows and {len(self._labels)} labels"
            )
        # Single precision whatever the framework computes in, so that a version answers alike in all of them.
        probabilities = probabilities.astype(np.float32, copy=False)
        threshold = self.threshold
        index = probabilities.argmax(axis=1) if threshold is None else (probabilities[:, 1] >= threshold).astype(np.intp)
        return Outputs(n, {"probabilities": probabilities}, self._labels, index, threshold)


def _probability_output(spec: ModelSpec, given: tuple[TensorInfo, ...]) -> str:
    by_name = [i.name for name in _PROBABILITY_NAMES for i in given if i.name == name]
    by_shape = [i.name for i in given if i.dtype.startswith("float") and i.shape and i.shape[-1] in (len(spec.labels), 1)]
    by_kind = [i.name for i in given if i.dtype.startswith("float") or i.dtype in ("sequence", "map")]
    found = [*by_name, *by_shape, *by_kind]
    if not found:
        raise ArtifactError(
            f"the model gives {', '.join(i.name for i in given)}, none of which can be probabilities; name it in the artifact's outputs"
        )
    return found[0]


def _plain(array: Array) -> list[Any]:
    if array.dtype.kind == "O":
        return [item.tolist() if isinstance(item, np.ndarray) else item for item in array]
    return array.tolist()  # type: ignore[no-any-return]


def _concatenate(arrays: list[Array]) -> Array:
    if len({a.shape[1:] for a in arrays}) == 1:
        return np.concatenate(arrays)
    ragged = np.empty(sum(len(a) for a in arrays), object)
    # NOTE: one at a time, because numpy would try to make one array of the rows.
    for index, row in enumerate(row for a in arrays for row in a):
        ragged[index] = row
    return ragged
