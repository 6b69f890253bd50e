"""What a model answered beside what was true, as arrays: made of the log joined with ground truth, without a loop over its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.labels import label_of, number_of
from ekiben.model.spec import ModelSpec

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]

_TWO: Final = 2


@dataclass(frozen=True)
class Classes:
    """Answers of a classifier whose truth is known.

    Attributes:
        labels: Its classes; of two, the second is the positive one.
        predicted: ``[n]``, index of the predicted label.
        actual: ``[n]``, index of the real one.
        probabilities: ``[n, k]``, each row's sum 1; None where they are not in the log, or missing.
    """

    labels: tuple[str, ...]
    predicted: Indices
    actual: Indices
    probabilities: Numbers | None = None

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.labels) == _TWO

    def take(self, rows: Indices) -> Classes:
        """Some of the rows."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Classes(self.labels, self.predicted[rows], self.actual[rows], probabilities)


@dataclass(frozen=True)
class Amounts:
    """Answers of a regressor whose truth is known.

    Attributes:
        predicted: ``[n]``.
        actual: ``[n]``.
    """

    predicted: Numbers
    actual: Numbers


def answers_of(table: pa.Table, spec: ModelSpec) -> tuple[Classes | Amounts | None, Mask]:
    """The answers whose truth is known, and of which rows of the table those are, ``[rows of the table]``.

    Args:
        table: The log joined with ground truth, see `ekiben.monitoring.ground_truth.Joined`.
        spec: The model's spec.

    Returns:
        None in the answers' place of a model that answers neither a class nor a number.
    """
    n = table.num_rows
    prediction = column_of(table, "outputs", "prediction")
    if spec.task == "tensor" or prediction is None or pa.types.is_nested(prediction.type):
        return None, np.zeros(n, np.bool_)
    if not spec.is_classifier:
        predicted, actual = _numbers(prediction), _numbers(table["actual"])
        known = np.isfinite(predicted) & np.isfinite(actual)
        return Amounts(predicted[known], actual[known]), known
    classes, truth = _classes(prediction, spec.labels), _classes(table["actual"], spec.labels)
    known = (classes >= 0) & (truth >= 0)
    probabilities = _probabilities(table.filter(pa.array(known)), spec.labels)
    return Classes(spec.labels, classes[known], truth[known], probabilities), known


def column_of(table: pa.Table, struct: str, name: str) -> pa.ChunkedArray | None:
    """A field of a struct column; None where it is not there."""
    if struct not in table.column_names:
        return None
    index = table[struct].type.get_field_index(name)
    return None if index < 0 else pc.struct_field(table[struct], index)


def _classes(column: Any, labels: Sequence[str]) -> Indices:
    """The index of each value's label, -1 where it is none."""
    index = {label: n for n, label in enumerate(labels)}

    def code(value: Any) -> int:
        label = None if value is None else label_of(value, labels)
        return -1 if label is None else index[label]

    codes, values = _encoded(column)
    return np.array([*map(code, values), -1], np.intp)[codes]


def _numbers(column: Any) -> Numbers:
    """Float64, NaN where a value is no finite number."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = pc.cast(column, pa.float64()).to_numpy()
        return np.where(np.isfinite(numbers), numbers, np.nan)
    codes, values = _encoded(column)
    found = [number_of(value) for value in values]
    return np.array([*(np.nan if number is None else number for number in found), np.nan])[codes]


def _encoded(column: Any) -> tuple[Indices, list[Any]]:
    """The place of each value among the different ones, the last place but one for null, and those."""
    coded = column.combine_chunks().dictionary_encode() if isinstance(column, pa.ChunkedArray) else column.dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    values = coded.dictionary.to_pylist()
    return coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.intp), values


def _probabilities(table: pa.Table, labels: tuple[str, ...]) -> Numbers | None:
    """``[n, k]``; of two classes made of the score, of which more is kept than of the others."""
    if len(labels) == _TWO:
        score = column_of(table, "outputs", "score")
        columns = [] if score is None else [1 - _numbers(score), _numbers(score)]
    else:
        columns = _by_label(column_of(table, "outputs", "probabilities"), labels)
    if not columns or table.num_rows == 0:
        return None
    found = np.column_stack(columns)
    sums = found.sum(axis=1, keepdims=True)
    # They are written as float32, and a few in a hundred million do not add up to 1.
    return found / sums if np.isfinite(sums).all() and (sums > 0).all() else None


def _by_label(struct: pa.ChunkedArray | None, labels: tuple[str, ...]) -> list[Numbers]:
    if struct is None:
        return []
    places = [struct.type.get_field_index(label) for label in labels]
    return [] if min(places) < 0 else [_numbers(pc.struct_field(struct, place)) for place in places]
