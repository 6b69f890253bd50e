"""What is promised of the inference log and of the guards: one Ekiben against itself, within a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from load_tests.bench.results import LoadRecord, Promise, Results
from load_tests.bench.routing_promises import Case, ratio_of
from load_tests.bench.sides import GUARDED, PLAIN, TWIN_MODELS, UNLOGGED

LOG_PERCENT: Final = 90.0
GUARDS_PERCENT: Final = 90.0


def judge_twins(results: Results) -> list[Promise]:
    """Holds a run against what is promised; what was not measured is listed all the same, without a case."""
    return [
        promise
        for model in TWIN_MODELS
        for what, base, side, target in (
            ("log", UNLOGGED, PLAIN, LOG_PERCENT),
            ("guards", PLAIN, GUARDED, GUARDS_PERCENT),
        )
        for promise in _promises([r for r in results.twins if r.model == model], model, what, (base, side), target)
    ]


def _promises(records: Sequence[LoadRecord], model: str, what: str, pair: tuple[str, str], target: float) -> list[Promise]:
    base, side = pair
    without, under = ({(r.workers, r.connections) for r in records if r.peer == name} for name in pair)
    cases: list[Case | None] = [*sorted(without & under)]
    found = []
    for case in cases or [None]:
        ratio = None if case is None else ratio_of(records, side, case, base=base)
        found.append(
            Promise(
                promise=f"{what}, {model}: rps with, of those without",
                where="" if case is None else f"{case[0]} worker{'' if case[0] == 1 else 's'}, {case[1]} connections",
                found=None if ratio is None else ratio * 100,
                target=target,
                unit="%",
            )
        )
    return found
