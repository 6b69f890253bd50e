"""The figures of a check's report that alerts, gauges and tables need, also of reports that another version wrote."""

from __future__ import annotations

import msgspec

from ekiben.state.checks import Check


class ColumnFigures(msgspec.Struct, frozen=True):
    """What a drift check found of one column.

    Attributes:
        name: The column.
        kind: ``input``, ``score`` or ``class``.
        psi: Its population stability index; None where there is none.
        drifted: Whether it drifted.
        ignored: Whether that counts for nothing.
    """

    name: str
    kind: str = "input"
    psi: float | None = None
    drifted: bool = False
    ignored: bool = False


class MetricFigures(msgspec.Struct, frozen=True):
    """What a quality check found of one metric.

    Attributes:
        value: The metric; None where it is not defined.
        low, high: Its 95 % interval.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


class CoverageFigures(msgspec.Struct, frozen=True):
    """Of how many rows a quality check knew the truth.

    Attributes:
        rows, labelled: All rows, and those whose truth is known.
        due, due_labelled: The same of those so old that their truth should be there.
    """

    rows: int = 0
    labelled: int = 0
    due: int = 0
    due_labelled: int = 0

    @property
    def share(self) -> float | None:
        """The share of the rows that are due whose truth is known; where none is due, of all; None of no rows."""
        rows, labelled = (self.due, self.due_labelled) if self.due else (self.rows, self.labelled)
        return labelled / rows if rows else None


class Figures(msgspec.Struct, frozen=True):
    """A check's figures.

    Attributes:
        columns: Of a drift check.
        metric: Of a quality check, the one that decides.
        metrics: All of them.
        coverage: Of how many rows the truth is known.
    """

    columns: tuple[ColumnFigures, ...] = ()
    metric: str = ""
    metrics: dict[str, MetricFigures] = {}
    coverage: CoverageFigures = CoverageFigures()


def figures_of(check: Check) -> Figures:
    """The figures of a check; none where its report holds none that can be read."""
    try:
        return msgspec.convert(check.report, Figures)
    except msgspec.ValidationError:
        return Figures()
