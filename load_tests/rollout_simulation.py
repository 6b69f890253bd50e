"""How often rollouts end wrongly, and how many requests they need: simulated, with the analysis that judges real ones.

Run ``python -m load_tests.rollout_simulation`` for the tables. Each simulated rollout goes through the default plan's stages,
is measured every ten seconds and judged by `ekiben.rollout.analysis`; only its requests are drawn at random.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.model.rollout_spec import PlanSpec, seconds
from ekiben.rollout.analysis import Verdict, due, judge, measure
from ekiben.rollout.evidence import Evidence
from ekiben.rollout.plan import ResolvedMetric, analysis_of, default_plan
from ekiben.state.histogram import GROWTH, Histogram
from ekiben.state.measurements import Measurement
from ekiben.state.windows import Window

RATE_PER_S: Final = 50.0
_FARTHEST: Final = 6.0
"""Deviations from the median that latencies are drawn within."""


class Behaviour(msgspec.Struct, frozen=True):
    """How a version behaves.

    Attributes:
        error_rate: Share of requests that fail.
        median_s: Median of the latencies, seconds.
        spread: Standard deviation of the latencies' logarithm: they are lognormal.
    """

    error_rate: float = 0.0
    median_s: float = 0.010
    spread: float = 0.6


class Ending(msgspec.Struct, frozen=True):
    """How a rollout ended.

    Attributes:
        verdict: Successful, or what ended it.
        stage: Index of the stage in which it ended.
        requests: Requests that the challenger computed until then, shadow and all.
        exposed: Those of them that users waited for.
        took_s: Seconds it took.
    """

    verdict: Verdict
    stage: int
    requests: int
    exposed: int
    took_s: float


class _Arm:
    """Requests of one version in one stage, drawn second by second and added up."""

    def __init__(self, behaviour: Behaviour, rng: np.random.Generator) -> None:
        log_growth = math.log(GROWTH)
        median, reach = math.log(behaviour.median_s) / log_growth, _FARTHEST * behaviour.spread / log_growth
        edges = np.arange(math.floor(median - reach), math.ceil(median + reach) + 1)
        below = np.array([0.5 * math.erfc((median - e) * log_growth / behaviour.spread / math.sqrt(2)) for e in edges])
        self._bins = edges[1:]
        self._shares = np.diff(below) / (below[-1] - below[0])
        self._counts: npt.NDArray[np.int64] = np.zeros(len(self._bins), np.int64)
        self._error_rate = behaviour.error_rate
        self._rng = rng
        self._blocks: list[Window] = []
        self.ok = 0
        self.failed = 0

    def draw(self, expected: float) -> None:
        """As many more requests as come when so many are expected."""
        n = int(self._rng.poisson(expected))
        failed = int(self._rng.binomial(n, self._error_rate))
        drawn = self._rng.multinomial(n - failed, self._shares)
        self._counts += drawn
        self._blocks.append(self._window(drawn, n - failed, failed))
        self.ok += n - failed
        self.failed += failed

    def window(self) -> Window:
        """All of them."""
        return self._window(self._counts, self.ok, self.failed)

    def blocks(self) -> list[Window]:
        """Those of each drawing, the latest twelve: two minutes."""
        return self._blocks[-12:]

    def _window(self, counts: npt.NDArray[np.int64], ok: int, failed: int) -> Window:
        filled = counts > 0
        took = Histogram(dict(zip(self._bins[filled].tolist(), counts[filled].tolist(), strict=True)))
        return Window(ok=ok, errors={"PredictionFailed": failed} if failed else {}, latency=took, compute=took)


class _Stage:
    """A stage of a rollout: what each version gets, measured whenever that is due."""

    def __init__(self, champion: Behaviour, challenger: Behaviour, share: float | None, baseline: Window, rng: np.random.Generator) -> None:
        self.is_shadow = share is None
        self.challenger = _Arm(challenger, rng)
        self.champion = _Arm(champion, rng)
        self.baseline = baseline
        self._shares = (1.0, 1.0) if share is None else (share, 1 - share)
        self._measurements: list[Measurement] = []

    def go_on(self, expected: float) -> None:
        """As many more requests as come when so many are expected, of both versions together."""
        self.challenger.draw(expected * self._shares[0])
        self.champion.draw(expected * self._shares[1])

    def look(self, metrics: Sequence[ResolvedMetric], elapsed_s: float) -> Verdict:
        """Measures what is due, and judges."""
        evidence = Evidence(
            model="simulated",
            champion_version="v1",
            challenger_version="v2",
            task="binary_classification",
            labels=("no", "yes"),
            is_shadow=self.is_shadow,
            champion=self.champion.window(),
            challenger=self.challenger.window(),
            baseline=self.baseline,
            blocks=self.challenger.blocks(),
        )
        skipped = set()
        for metric in metrics:
            if due(metric, self._measurements, 0.0, elapsed_s):
                found = measure(metric, evidence, rollout="simulated-1", step=0, now=elapsed_s, query=lambda _: None)
                if found is None:
                    skipped.add(metric.name)
                else:
                    self._measurements.append(found)
        return judge(metrics, self._measurements, skipped)


def stages_of(plan: PlanSpec) -> list[tuple[float | None, float]]:
    """The stages of a plan: the challenger's share of the traffic, None in the shadow, and the seconds that it is watched."""
    stages: list[tuple[float | None, float]] = []
    for step in plan.steps:
        if step.shadow is not None:
            stages.append((None, 0.0))
        elif step.set_weight is not None:
            stages.append((step.set_weight / 100, 0.0))
        elif step.pause is not None and step.pause.duration is not None and stages:
            share, watched_s = stages[-1]
            stages[-1] = (share, watched_s + seconds(step.pause.duration))
    return stages


def deciding(plan: PlanSpec) -> tuple[ResolvedMetric, ...]:
    """The metrics that can end a rollout."""
    return tuple(metric for metric in analysis_of(plan) if not metric.dry_run)


def simulated(
    champion: Behaviour,
    challenger: Behaviour,
    rng: np.random.Generator,
    *,
    plan: PlanSpec | None = None,
    rate_per_s: float = RATE_PER_S,
) -> Ending:
    """One rollout, from its first stage to its end."""
    plan = default_plan() if plan is None else plan
    metrics = deciding(plan)
    interval_s = min(metric.interval_s for metric in metrics)
    baseline = Window()
    requests = exposed = 0
    took_s = 0.0
    verdict = Verdict(outcome="Running")
    for index, (share, watched_s) in enumerate(stages_of(plan)):
        stage = _Stage(champion, challenger, share, baseline, rng)
        elapsed_s = 0.0
        while verdict.outcome == "Running" or elapsed_s < watched_s:
            stage.go_on(rate_per_s * interval_s)
            elapsed_s += interval_s
            verdict = stage.look(metrics, elapsed_s)
            if verdict.outcome in ("Failed", "Error", "Inconclusive"):
                break
        done = stage.challenger.ok + stage.challenger.failed
        requests, exposed, took_s = requests + done, exposed + (0 if share is None else done), took_s + elapsed_s
        if verdict.outcome != "Successful":
            return Ending(verdict, index, requests, exposed, took_s)
        baseline += stage.champion.window()
        verdict = Verdict(outcome="Running")
    return Ending(Verdict(outcome="Successful"), len(stages_of(plan)), requests, exposed, took_s)


def needed(behaviour: Behaviour, share: float | None, rng: np.random.Generator, *, most: int = 50_000) -> int:
    """Requests after which an innocent challenger has passed a stage, whatever its duration; ``most`` where not even then.

    It is looked at whenever the challenger has ten more. The champion has the rest of the traffic, and before a stage in which
    it has none it had ten thousand requests.
    """
    before = _Arm(behaviour, rng)
    before.draw(10_000)
    stage = _Stage(behaviour, behaviour, share, before.window(), rng)
    metrics = tuple(msgspec.structs.replace(metric, interval_s=0.0, inconclusive_limit=most) for metric in deciding(default_plan()))
    looks = 0
    while stage.challenger.ok + stage.challenger.failed < most:
        stage.go_on(10 / (share or 1.0))
        looks += 1
        if stage.look(metrics, float(looks)).outcome in ("Successful", "Failed"):
            break
    return stage.challenger.ok + stage.challenger.failed


Draw = Callable[[np.random.Generator], tuple[Behaviour, Behaviour]]


def _alike(rng: np.random.Generator) -> tuple[Behaviour, Behaviour]:
    behaviour = Behaviour(float(rng.uniform(0, 0.04)), spread=float(rng.uniform(0.3, 1.0)))
    return behaviour, behaviour


def _both_bad(_rng: np.random.Generator) -> tuple[Behaviour, Behaviour]:
    return Behaviour(0.08), Behaviour(0.08)


def _more_errors(_rng: np.random.Generator) -> tuple[Behaviour, Behaviour]:
    return Behaviour(0.02), Behaviour(0.08)


def _slower(rng: np.random.Generator) -> tuple[Behaviour, Behaviour]:
    spread = float(rng.uniform(0.3, 1.0))
    return Behaviour(0.01, 0.010, spread), Behaviour(0.01, 0.030, spread)


CASES: Final[dict[str, tuple[Draw, Literal["goes on", "rolled back"]]]] = {
    "no difference, errors 0 to 4 %": (_alike, "goes on"),
    "both fail at 8 %": (_both_bad, "goes on"),
    "errors 2 % to 8 %": (_more_errors, "rolled back"),
    "p95 tripled": (_slower, "rolled back"),
}


def endings(draw: Draw, n: int, seed: int, *, plan: PlanSpec | None = None) -> Iterator[Ending]:
    """The endings of n rollouts."""
    for child in np.random.SeedSequence(seed).spawn(n):
        rng = np.random.default_rng(child)
        yield simulated(*draw(rng), rng, plan=plan)


def without_shadow() -> PlanSpec:
    """The default plan without its shadow stage, whose traffic would find most of what is wrong before any user sees it."""
    plan = default_plan()
    return msgspec.structs.replace(plan, steps=plan.steps[2:])


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="rollouts a case")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.n} rollouts a case, {RATE_PER_S:g} requests/s, measured every 10 s\n")
    print("| case | plan | rolled back | paused | promoted | median requests of the challenger until then | of these seen by users |")
    print("|---|---|---|---|---|---|---|")
    for name, (draw, _) in CASES.items():
        for plan_name, plan in (("default", default_plan()), ("without shadow", without_shadow())):
            found = list(endings(draw, options.n, options.seed, plan=plan))
            counts = [sum(e.verdict.outcome == outcome for e in found) / len(found) for outcome in ("Failed", "Inconclusive", "Successful")]
            medians = [np.median([e.requests for e in found]), np.median([e.exposed for e in found])]
            print(
                f"| {name} | {plan_name} | {' | '.join(f'{c:.1%}' for c in counts)} | {' | '.join(f'{m:,.0f}' for m in medians)} |",
                flush=True,
            )
    print("\nRequests that an innocent challenger needs to pass a stage, median and 95th percentile of 100:\n")
    print("| errors of both | spread of latencies | shadow | 5 % | 50 % | 100 % |")
    print("|---|---|---|---|---|---|")
    for error_rate in (0.0, 0.01, 0.02, 0.03, 0.04):
        for spread in (0.3, 1.0):
            cells = []
            for share in (None, 0.05, 0.5, 1.0):
                rngs = (np.random.default_rng([options.seed, i]) for i in range(max(1, min(100, options.n))))
                found_n = [needed(Behaviour(error_rate, spread=spread), share, rng, most=20_000) for rng in rngs]
                cells.append(f"{np.median(found_n):,.0f}, {np.quantile(found_n, 0.95):,.0f}")
            print(f"| {error_rate:.0%} | {spread} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
