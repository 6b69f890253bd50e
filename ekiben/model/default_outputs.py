"""What is answered in a broken version's place: ``breaker.default`` of the spec, for every row alike."""

from __future__ import annotations

import numpy as np

from ekiben.model.outputs import Array, Outputs
from ekiben.model.spec import ModelSpec


class DefaultOutputs:
    """Makes outputs without a model.

    What the spec leaves open of a classifier, its probabilities, is NaN (null in JSON): nobody computed it, and 1 would be a lie.

    Args:
        spec: A checked spec, with ``fallback: default``.
    """

    def __init__(self, spec: ModelSpec) -> None:
        default = spec.breaker.default or {}
        self._labels = spec.labels
        self._class_index: int | None = None
        self._rows: dict[str, Array] = {}
        if spec.is_classifier:
            given = default.get("probabilities") or {}
            self._class_index = spec.labels.index(default["prediction"])
            self._rows["probabilities"] = np.array([[given.get(label, np.nan) for label in spec.labels]], np.float32)
        elif spec.task == "regression":
            self._rows["prediction"] = np.array([default["prediction"]], np.float32)
        else:
            for output in spec.outputs:
                self._rows[output.name] = np.array([default[output.name]], "object" if output.dtype == "string" else output.dtype)

    def outputs(self, n: int) -> Outputs:
        """The outputs of n rows."""
        index = None if self._class_index is None else np.full(n, self._class_index, np.intp)
        return Outputs(n, {name: np.repeat(row, n, axis=0) for name, row in self._rows.items()}, self._labels, index)
