"""The charts: who answered when and what happened then, quality and drift by month."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from load_tests.demo.record import METRICS, Record
from load_tests.demo.replay import Answer

_SIZE: Final = (11.0, 4.2)
_DPI: Final = 110
_SHOWN: Final = {
    "started": "rollout starts",
    "promoted": "promoted",
    "rolled-back": "rolled back",
    "retrain_started": "training anew",
    "retrain_rejected": "not better: rejected",
}
_COLOURS: Final = ("#3b6ea5", "#d1793a", "#4f9d69", "#8a5fa8", "#b8485a", "#6b7280")
_TITLES: Final = {"roc_auc": "ROC-AUC", "f1": "F1 of late", "brier": "Brier score (low is good)"}
_MOST_COLUMNS: Final = 18
_BRIGHTEST: Final = 1.0


def draw_activity(record: Record, answers: Sequence[Answer], file: Path) -> None:
    """Answers a second by version and arm, and what happened when."""
    figure, axes = _figure()
    arms = sorted({(a.version, a.arm) for a in answers}, key=lambda pair: (pair[0] != record.champion, pair))
    begin = record.months[0].since - record.began if record.months else 0.0
    end = record.months[-1].until - record.began if record.months else record.took_s
    seconds = np.arange(0, end + 1)
    counted = [
        np.histogram([a.time - record.began for a in answers if (a.version, a.arm) == arm], bins=np.append(seconds, end + 2))[0]
        for arm in arms
    ]
    names = [f"{version} ({arm})" for version, arm in arms]
    if counted:
        axes.stackplot(seconds, counted, labels=names, colors=[_COLOURS[i % len(_COLOURS)] for i in range(len(arms))])
        axes.legend(loc="lower left", fontsize=7)
    highest = max((float(np.sum(counted, axis=0).max()) if counted else 1.0), 1.0)
    for month in record.months:
        axes.text((month.since + month.until) / 2 - record.began, -0.13 * highest, month.name[:3], ha="center", fontsize=8)
    happened = [(e["time"], _SHOWN[e["kind"]]) for e in record.events if e["kind"] in _SHOWN]
    for time, what in [*happened, (record.killed_at, "a worker is killed")]:
        at = time - record.began
        if begin <= at <= end:
            axes.axvline(at, color="black", linewidth=0.7, linestyle=":")
            axes.text(at, 1.02 * highest, what, rotation=60, fontsize=7, ha="left", va="bottom")
    axes.set(xlim=(begin, end), ylim=(0, highest), ylabel="answers a second")
    axes.tick_params(labelbottom=False)
    _save(figure, file)


def draw_quality(record: Record, file: Path) -> None:
    """Each metric by month, a line a version and arm, with the intervals."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels = figure.subplots(1, len(METRICS))
    lines = sorted({(q.version, q.arm) for m in record.months for q in m.quality}, key=lambda pair: (pair[0] != record.champion, pair))
    for metric, axes in zip(METRICS, np.atleast_1d(panels), strict=True):
        for number, line in enumerate(lines):
            points = [
                (m.month, *q.metrics[metric])
                for m in record.months
                for q in m.quality
                if (q.version, q.arm) == line and metric in q.metrics
            ]
            _draw_line(axes, points, f"{line[0]} ({line[1]})", _COLOURS[number % len(_COLOURS)])
        axes.set(title=_TITLES[metric])
        axes.set_xticks([m.month for m in record.months], [m.name[:3] for m in record.months], fontsize=8)
        axes.grid(visible=True, alpha=0.3)
    if lines:
        np.atleast_1d(panels)[0].legend(fontsize=7)
    _save(figure, file)


def draw_drift(record: Record, file: Path) -> None:
    """The population stability index of each column by month, of the version that had most rows."""
    figure, axes = _figure()
    drifts = [max(month.drift, key=lambda d: d.rows) if month.drift else None for month in record.months]
    largest = {name: max(d.psi.get(name, 0.0) for d in drifts if d is not None) for d in drifts if d is not None for name in d.psi}
    names = sorted(largest, key=lambda name: -largest[name])[:_MOST_COLUMNS]
    table = np.array([[np.nan if d is None else d.psi.get(name, np.nan) for d in drifts] for name in names]).reshape(
        len(names), len(drifts)
    )
    if table.size:
        image = axes.imshow(table, aspect="auto", cmap="YlOrRd", vmin=0, vmax=_BRIGHTEST)
        figure.colorbar(image, label="PSI against the training data")
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(drifts)), [f"{m.name[:3]}\n{d.version if d else ''}" for m, d in zip(record.months, drifts, strict=True)])
    axes.tick_params(axis="x", labelsize=7)
    _save(figure, file)


def _draw_line(axes: Any, points: Sequence[tuple[Any, ...]], label: str, colour: str) -> None:
    if not points:
        return
    months, values, lows, highs = zip(*points, strict=True)
    axes.plot(months, values, marker="o", label=label, color=colour)
    for month, low, high in zip(months, lows, highs, strict=True):
        if low is not None and high is not None:
            axes.vlines(month, low, high, color=colour, alpha=0.5)


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=_DPI)
