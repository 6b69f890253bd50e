"""What a training script says of its model: the data, the split, how to fit, what to promise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ekiben.model import ModelFile
from ekiben.model.artifact import FEATURES, sha256_of
from ekiben.model.parity import MIN_ROWS
from ekiben.registry.provenance import framework_versions
from training.datasets import Dataset
from training.progress import Step
from training.splits import Split


@dataclass(frozen=True)
class Trained:
    """A fitted model that can be written to files.

    Attributes:
        save: Writes it in its own framework's format into a folder.
        export: Writes it as ONNX into a folder; None serves it in its own framework.
        keep_native: Puts the framework's own file beside an export that is served.
    """

    save: Callable[[Path], ModelFile]
    export: Callable[[Path], ModelFile] | None
    keep_native: bool = False


@dataclass(frozen=True)
class Job:
    """One model to train.

    Attributes:
        folder: ``models/<name>``: the spec, the feature code if there is any, the card.
        data: All rows of the window; the export is compared with the original on up to 10,000 of them.
        split: What to learn from, tune on and judge by.
        fit: Trains on ``split.train``.
        parameters: All that was chosen, the seed among them.
        code: The files that decide how it is trained.
        packages: The packages that decide how it is trained.
        rounds: Units of work that ``fit`` reports.
        floors: Metric → the least that is acceptable.
        min_parity_rows: Rows the export must agree on.
    """

    folder: Path
    data: Dataset
    split: Split
    fit: Callable[[Dataset, Step], Trained]
    parameters: Mapping[str, Any]
    code: tuple[Path, ...]
    packages: tuple[str, ...]
    rounds: int | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    min_parity_rows: int = MIN_ROWS

    @property
    def features(self) -> Path | None:
        """The feature code, where the model has some."""
        file = self.folder / FEATURES
        return file if file.is_file() else None

    def recipe(self) -> str:
        """The fingerprint of all that decides the outcome: equal recipes, equal models."""
        files = [*self.code, self.folder / "model.yaml", *([self.features] if self.features else [])]
        parts = {
            "files": sorted((file.name, sha256_of(file)) for file in files),
            "data": self.data.fingerprint(),
            "train": [self.split.train.n, self.split.test.n],
            "parameters": dict(self.parameters),
            "packages": framework_versions(*self.packages),
        }
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
