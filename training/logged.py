"""Rows of the inference log as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ekiben.model import load_spec
from ekiben.monitoring.training_rows import read_rows
from training.datasets import DataError, Dataset
from training.progress import Steps


def load_logged(file: Path, folder: Path, steps: Steps) -> Dataset:
    """Reads what `ekiben retrain` wrote.

    Args:
        file: Rows whose ground truth is known.
        folder: ``models/<name>``, whose spec says what the inputs and labels are.
        steps: Where progress is shown.

    Raises:
        DataError: A row has a label that the spec has not.
        RetrainingError: The file is none, or lacks an input.
    """
    with steps.step(f"Read the logged rows of {file.name}") as step:
        spec = load_spec(folder / "model.yaml")
        rows = read_rows(file, spec)
        target = rows.target
        if spec.is_classifier:
            strange = sorted(set(target.tolist()) - set(spec.labels))
            if strange:
                raise DataError(f"{file} has rows with the label {strange[0]!r}; the labels are {', '.join(spec.labels)}")
            place = {label: index for index, label in enumerate(spec.labels)}
            target = np.array([place[label] for label in target.tolist()], np.int64)
        step.tell(f"{rows.n:,} rows from {rows.lineage.get('since', 'the log')} on")
    return Dataset("inference log", rows.columns, target, rows.times.astype("datetime64[m]"), rows.lineage)
