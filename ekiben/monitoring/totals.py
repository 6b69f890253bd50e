"""What the collectors of all workers show together, by model and version."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

_OURS = "ekiben_"


class Totals:
    """Samples at one moment.

    Args:
        families: What `Metrics.collect` gives.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self._samples: dict[tuple[str, str, str], list[tuple[dict[str, str], float]]] = {}
        for family in families:
            if not family.name.startswith(_OURS):
                continue
            for sample in family.samples:
                labels = sample.labels
                key = (sample.name, labels.get("model", ""), labels.get("version", ""))
                self._samples.setdefault(key, []).append((labels, sample.value))

    def sum(self, name: str, model: str, version: str, **labels: str) -> float:
        """The sum of the samples of a version that have these labels; 0 where there are none."""
        return sum(value for found, value in self._samples.get((name, model, version), ()) if labels.items() <= found.items())

    def by(self, name: str, label: str, model: str, version: str, **labels: str) -> dict[str, float]:
        """As `sum`, apart for each value of one more label."""
        apart: dict[str, float] = {}
        for found, value in self._samples.get((name, model, version), ()):
            if labels.items() <= found.items():
                apart[found[label]] = apart.get(found[label], 0.0) + value
        return apart
