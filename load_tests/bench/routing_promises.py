"""What is promised of routes and shadows, each with the figure that was found: one Ekiben against itself, within a round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, TypeVar

from load_tests.bench.figures import median_or_none
from load_tests.bench.results import LoadRecord, Promise, Results, ShadowRecord
from load_tests.bench.sides import PLAIN, ROUTED, ROUTED_MODEL, SHADOWED, SHADOWED_MODELS, SHARE_OF_CAPACITY

ROUTER_PERCENT: Final = 97.0
SHADOW_RATIO: Final = 1.5
SHADOW_PERCENT: Final = 90.0
"""A shadow that leaves out more of its rows than the rest costs little, and shows nothing."""

Case = tuple[int, int]
"""Workers and connections."""
Record = TypeVar("Record", LoadRecord, ShadowRecord)


def judge_routing(results: Results) -> list[Promise]:
    """Holds a run against what is promised; what was not measured is listed all the same, without a case."""
    cases: list[Case | None] = [*sorted({(r.workers, r.connections) for r in results.routed if r.peer == ROUTED})]
    return [
        *(_router(results.routed, case) for case in cases or [None]),
        *(_p99(results.shadows, model) for model in SHADOWED_MODELS),
        *(_computed(results.shadows, model) for model in SHADOWED_MODELS),
    ]


def over_plain(routed: Sequence[LoadRecord], side: str, case: Case) -> float | None:
    """A side's requests a second over those of the plain one, see `ratio_of`."""
    return ratio_of(routed, side, case)


def ratio_of(records: Sequence[LoadRecord], side: str, case: Case, *, base: str = PLAIN) -> float | None:
    """A side's requests a second over those of another in the same round; the median over the rounds, quiet ones if any."""
    ratios = []
    for turns in _quiet_rounds(r for r in records if (r.workers, r.connections) == case and r.peer in (base, side)):
        theirs, ours = (rate([r for r in turns if r.peer == name]) for name in (base, side))
        if theirs and ours is not None:
            ratios.append(ours / theirs)
    return median_or_none(ratios)


def rate(turns: Sequence[LoadRecord]) -> float | None:
    """Requests a second over all of these loads together; None of none."""
    return sum(r.load.answered for r in turns) / sum(r.load.seconds for r in turns) if turns else None


def _router(routed: Sequence[LoadRecord], case: Case | None) -> Promise:
    ratio = None if case is None else over_plain(routed, ROUTED, case)
    return Promise(
        promise=f"router, {ROUTED_MODEL}: rps through it, of those without",
        where="" if case is None else f"{case[0]} worker{'' if case[0] == 1 else 's'}, {case[1]} connections",
        found=None if ratio is None else ratio * 100,
        target=ROUTER_PERCENT,
        unit="%",
    )


def _p99(shadows: Sequence[ShadowRecord], model: str) -> Promise:
    ratios = []
    for turns in _quiet_rounds(r for r in shadows if r.model == model):
        without, under = ([r.p99_ms for r in turns if r.side == side] for side in (PLAIN, SHADOWED))
        if without and under:
            ratios.append(fmean(under) / fmean(without))
    return Promise(
        promise=f"shadow of 100 %, {model}: p99 over that without",
        where=_where(),
        found=median_or_none(ratios),
        target=SHADOW_RATIO,
        unit="x",
        at_most=True,
    )


def _computed(shadows: Sequence[ShadowRecord], model: str) -> Promise:
    chosen = (r for r in shadows if r.model == model and r.computed_percent is not None)
    found = median_or_none(r.computed_percent or 0.0 for turns in _quiet_rounds(chosen) for r in turns)
    return Promise(promise=f"shadow of 100 %, {model}: rows that it computed", where=_where(), found=found, target=SHADOW_PERCENT, unit="%")


def _where() -> str:
    return f"1 worker, {SHARE_OF_CAPACITY:.0%} of its capacity".replace("%", " %")


def _quiet_rounds(records: Iterable[Record]) -> list[list[Record]]:
    """The records round by round: the rounds in which nothing else used much of the machine; all of them, where none was quiet."""
    rounds: dict[int, list[Record]] = {}
    for record in records:
        rounds.setdefault(record.round, []).append(record)
    return [turns for turns in rounds.values() if all(r.is_quiet for r in turns)] or list(rounds.values())
