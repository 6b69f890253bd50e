"""What came of a training run, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ekiben.registry import CHAMPION, Version


@dataclass(frozen=True)
class Outcome:
    """A version and what its manifest says of it.

    Attributes:
        tag: ``name:version``.
        reused: True when it was there already and nothing was trained.
        champion: Whether it is the version that serves.
        framework: The framework that serves it.
        metrics: Measured on held-out rows.
        threshold: A binary classifier predicts its second label from this probability on.
        parity: How the export compares with the original; None when nothing was exported.
        data: Name, window, rows and fingerprint of the training data.
        parameters: Training parameters.
        training_s: Seconds spent fitting, the import of the framework included.
        recipe: Fingerprint of all that decides the outcome.
    """

    tag: str
    reused: bool
    champion: bool
    framework: str
    metrics: Mapping[str, float]
    threshold: float | None
    parity: Mapping[str, Any] | None
    data: Mapping[str, Any]
    parameters: Mapping[str, Any]
    training_s: float | None
    recipe: str | None

    @classmethod
    def of(cls, version: Version, *, reused: bool = False) -> Outcome:
        """Reads a registered version."""
        manifest = version.artifact().manifest
        provenance = manifest.provenance
        return cls(
            tag=version.tag,
            reused=reused,
            champion=CHAMPION in version.aliases,
            framework=manifest.model.framework,
            metrics=manifest.metrics,
            threshold=manifest.threshold,
            parity=manifest.parity,
            data=provenance.data,
            parameters=provenance.parameters,
            training_s=provenance.training_s,
            recipe=provenance.recipe,
        )

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=1)

    def show(self, console: Console) -> None:
        """A table of the metrics, and what was registered."""
        table = Table()
        table.add_column("metric")
        table.add_column(f"{self.metrics.get('rows', 0):,.0f} held-out rows", justify="right")
        for name, value in self.metrics.items():
            if name != "rows":
                table.add_row(name, f"{value:.4f}")
        if self.threshold is not None:
            table.add_row("threshold", f"{self.threshold:.4f}")
        console.print(table)
        found = "registered already, nothing to train" if self.reused else "registered"
        role = "champion" if self.champion else "not the champion; `ekiben models alias` makes it one"
        console.print(f"{self.tag} is {found}; served by {self.framework}; {role}", highlight=False, markup=False, soft_wrap=True)
        if self.parity is not None:
            verdict = "agrees with the original" if self.parity["agrees"] else "was refused"
            console.print(f"The ONNX export {verdict}: {self.parity['reason']}", highlight=False, markup=False, soft_wrap=True)
