"""The one place that knows Evidently: pages of its interactive charts, each of which needs nothing but itself."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import numpy as np

from ekiben.errors import LogError
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.report_frames import ACTUAL, PREDICTION, Answers, Frames

_DO_NOT_TRACK: Final = "DO_NOT_TRACK"
_GONE: Final = "infer_dtype_from_object"
_TWO: Final = 2


class EvidentlyPages:
    """Evidently, imported and told to send nothing to anybody.

    Raises:
        LogError: It is not installed, or does not work with what is.
    """

    def __init__(self) -> None:
        # It reports its use to its makers unless this is set, to whatever.
        os.environ.setdefault(_DO_NOT_TRACK, "1")
        with _quiet():
            self._evidently, self._presets, self._metrics = _modules()

    def of_data(self, frames: Frames) -> str:
        """Drift of each column, where there is a reference, and how its values are distributed.

        Raises:
            LogError: Evidently cannot draw them.
        """
        definition = self._evidently.DataDefinition(numerical_columns=frames.numerical, categorical_columns=frames.categorical)
        drift = [] if frames.reference is None else [self._presets.DataDriftPreset()]
        return self._page([*drift, self._presets.DataSummaryPreset()], frames.current, frames.reference, definition)

    def of_answers(self, answers: Answers, spec: ModelSpec, threshold: float | None = None) -> str:
        """How good the answers are, and, where there is a reference, whether what is true has drifted.

        Args:
            answers: The answers.
            spec: The version's.
            threshold: From which probability on it predicts the positive class; None means 0.5.

        Raises:
            LogError: Evidently cannot draw them.
        """
        # Where it has probabilities it makes the predictions anew, from one half on unless it is told otherwise.
        limit = threshold if answers.probabilities and len(spec.labels) == _TWO else None
        presets = self._presets
        chosen = presets.ClassificationPreset(probas_threshold=limit) if spec.is_classifier else presets.RegressionPreset()
        drift = [] if answers.reference is None else [self._metrics.ValueDrift(column=ACTUAL)]
        return self._page([chosen, *drift], answers.current, answers.reference, self._definition(answers, spec))

    def _definition(self, answers: Answers, spec: ModelSpec) -> Any:
        made, probabilities = self._evidently, answers.probabilities
        if not spec.is_classifier:
            return made.DataDefinition(
                numerical_columns=[PREDICTION, ACTUAL], regression=[made.Regression(target=ACTUAL, prediction=PREDICTION)]
            )
        about = {"target": ACTUAL, "prediction_labels": PREDICTION}
        if len(spec.labels) == _TWO:
            score = probabilities[0] if probabilities else None
            task = made.BinaryClassification(**about, prediction_probas=score, pos_label=spec.labels[1])
        else:
            task = made.MulticlassClassification(**about, prediction_probas=probabilities or None)
        return made.DataDefinition(numerical_columns=probabilities, categorical_columns=[PREDICTION, ACTUAL], classification=[task])

    def _page(self, metrics: list[Any], current: Any, reference: Any, definition: Any) -> str:
        dataset = self._evidently.Dataset.from_pandas
        try:
            with _quiet():
                there = None if reference is None else dataset(reference, data_definition=definition)
                found = self._evidently.Report(metrics).run(dataset(current, data_definition=definition), there)
                return str(found.get_html_str(as_iframe=False))
        except Exception as e:  # whatever it raises on columns that it was not made for, as one of a single value
            raise LogError(f"Evidently cannot draw it: {type(e).__name__}: {e}") from e


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: its own ones tell its makers what pandas and scikit-learn will change, and its users nothing."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        with _names_of_old_pandas():
            evidently, presets, metrics = (importlib.import_module(f"evidently{part}") for part in ("", ".presets", ".metrics"))
    except ModuleNotFoundError as e:
        if e.name is not None and e.name.partition(".")[0] in ("evidently", "pandas"):
            raise LogError("a report needs Evidently, which is not installed; `pip install 'ekiben[report]'`") from e
        raise LogError(f"Evidently does not work here: {e}; `pip install 'ekiben[report]'` brings what it needs") from e
    except ImportError as e:
        raise LogError(f"Evidently does not work here: {e}; `pip install 'ekiben[report]'` brings versions that fit") from e
    return evidently, presets, metrics


@contextmanager
def _names_of_old_pandas() -> Iterator[None]:
    """Lends pandas a name, while Evidently is imported.

    NOTE: Evidently 0.7.23 imports it for a test that no report here has, and pandas 3.1 has it no more.
    """
    place = importlib.import_module("pandas.core.dtypes.common")
    if hasattr(place, _GONE):
        yield
        return
    setattr(place, _GONE, np.dtype)
    try:
        yield
    finally:
        delattr(place, _GONE)
