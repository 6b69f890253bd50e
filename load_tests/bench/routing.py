"""What a route costs: one Ekiben, measured with and without, in turns.

At full load in a closed loop, see `full_load`: the router, and splits. At a constant rate that leaves cores free: a shadow, which is
left out first where there is no room for it.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from ekiben.state.windows import Window
from load_tests.bench.figures import percentile
from load_tests.bench.full_load import FullLoad
from load_tests.bench.heats import Heat, Served, noting_failure, serving
from load_tests.bench.open_loop import Outcome
from load_tests.bench.overload import open_loop_plan, run_open_loop
from load_tests.bench.procfs import CpuUse, cpu_use
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.results import Load, Results, ShadowRecord
from load_tests.bench.route_switch import RouteSwitch
from load_tests.bench.sides import (
    IN_CLOSED_LOOP,
    PLAIN,
    ROUTED_MODEL,
    SHADOWED,
    SHADOWED_MODELS,
    SHARE_OF_CAPACITY,
    on_trial,
    route_of,
    there_and_back,
)
from load_tests.bench.trial import Trial
from load_tests.bench.wrk import run_wrk, write_bodies

SETTLE_S: Final = 1.0
"""How long an open loop runs before it counts: connections are opened, and a version answers its first batches."""

_CONNECTIONS: Final = 32
_WARM_S: Final = 1.0
_TIMER_MS: Final = 2.0
"""The generator's timers count whole milliseconds, and a request here takes less: it must not be charged for that."""

_WRITTEN_S: Final = 2.0
"""Workers write once a second what happened."""


class RoutingTrial(Trial):
    """Measures the routes of a course."""

    def run(self, results: Results) -> None:
        """Measures everything and adds it to the results; a server that fails is taken down, and the others go on."""
        course = self._course
        closed = tuple(side for side in course.sides if side in IN_CLOSED_LOOP)
        connections = tuple(number for number in course.models.get(ROUTED_MODEL, ()) if number > 1)
        for round_ in range(course.rounds):
            for workers in course.workers if closed and connections else ():
                heat = Heat(self._server, self._models[ROUTED_MODEL], workers, round_)
                with noting_failure(heat, results, self._say):
                    self._at_full_load(heat, (PLAIN, *closed), connections, results)
            for name in SHADOWED_MODELS if SHADOWED in course.sides else ():
                if name in course.models:
                    heat = Heat(self._server, self._models[name], 1, round_)
                    with noting_failure(heat, results, self._say):
                        results.shadows += self._at_a_rate(heat)

    # ── at full load ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _at_full_load(self, heat: Heat, sides: tuple[str, ...], connections: tuple[int, ...], results: Results) -> None:
        """One server under one closed loop for each number of connections; the sides take turns under it.

        Raises:
            RouteNotFollowed: A route is not in force, or the arm on trial did not get its share.
        """
        full_load = FullLoad(
            place=self._place,
            control=self._control,
            wrk=self._wrk,
            seconds=self._course.seconds,
            say=self._say,
            wall=self._wall,
            sleep=self._sleep,
        )
        with serving(heat, self._place) as served, self._switch(heat) as switch:
            served.check(heat.contestant.protocols[0])
            for number in connections:
                results.routed += full_load.measure(served, switch, sides, number)

    # ── at a rate that leaves cores free ─────────────────────────────────────────────────────────────────────────────

    def _at_a_rate(self, heat: Heat) -> list[ShadowRecord]:
        """One server at a constant rate, without and with a shadow.

        Raises:
            RouteNotFollowed: The shadow is not in force.
            LoadGeneratorFailed: There is no capacity to take a share of, or nothing was answered at that.
        """
        began = self._wall()
        with serving(heat, self._place) as served, self._switch(heat) as switch:
            served.check(heat.contestant.protocols[0])
            self._closed_loop(served, _CONNECTIONS, _WARM_S)
            capacity = self._closed_loop(served, _CONNECTIONS, math.ceil(self._course.seconds / 2))
            if not capacity.answered:
                raise LoadGeneratorFailed(f"no request was answered while the capacity was measured: {capacity.errors}")
            records = []
            for side in there_and_back((PLAIN, SHADOWED)):
                self._take_side(served, switch, side)
                records.append(self._open_turn(served, side, capacity.rps))
            self._sleep(_WRITTEN_S)
        compared = self._shadow_since(heat, began).compared
        return [
            msgspec.structs.replace(r, computed_percent=round(compared / max(r.statuses.get("200", 0), 1) * 100, 1))
            if r.side == SHADOWED
            else r
            for r in records
        ]

    def _open_turn(self, served: Served, side: str, capacity_rps: float) -> ShadowRecord:
        heat, protocol = served.heat, served.heat.contestant.protocols[0]
        plan = open_loop_plan(
            served.url(protocol),
            [asked.body for asked in protocol.requests(heat.model)],
            {},
            rate=SHARE_OF_CAPACITY * capacity_rps,
            seconds=SETTLE_S + self._course.seconds,
            timer_ms=_TIMER_MS,
        )
        before = served.server.cpu_times()
        outcome = run_open_loop(plan)
        served.server.check_alive()
        if not outcome.accepted:
            raise LoadGeneratorFailed(f"{side}: no request was answered with 200: {outcome.statuses}")
        cpu = cpu_use(before, served.server.cpu_times(), len(outcome.accepted), self._cores)
        record = shadow_record(outcome, cpu, heat=heat, side=side, capacity_rps=capacity_rps)
        self._say(f"{_named(heat, side)} · {record.rate:,.0f} rps: p99 {record.p99_ms:.2f} ms")
        return record

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _switch(self, heat: Heat) -> RouteSwitch:
        return RouteSwitch(self._control, heat.model.name, heat.workers, sleep=self._sleep)

    def _take_side(self, served: Served, switch: RouteSwitch, side: str) -> None:
        switch.put(route_of(side, served.heat.model.name))
        # A version that was taken out gives its memory back.
        served.server.wait_until_idle()

    def _closed_loop(self, served: Served, connections: int, seconds: float) -> Load:
        protocol = served.heat.contestant.protocols[0]
        bodies = self._place.folder / "bodies"
        write_bodies(bodies, [asked.body for asked in protocol.requests(served.heat.model)])
        return run_wrk(self._wrk, served.url(protocol), bodies, connections=connections, seconds=seconds)

    def _shadow_since(self, heat: Heat, began: float) -> Window:
        """What happened to the shadow's rows since the server was started."""
        trial = on_trial(SHADOWED)
        assert trial is not None  # only the plain side has nothing on trial
        windows = self._control.windows.sum(heat.model.name, int(began), self._wall() + 1)
        return windows.get((trial.version, trial.arm), Window())


def shadow_record(outcome: Outcome, cpu: CpuUse, *, heat: Heat, side: str, capacity_rps: float) -> ShadowRecord:
    """Sums up what came of an open-loop load, without its first second."""
    latencies = [latency_ms for done_s, latency_ms in outcome.accepted if done_s >= SETTLE_S]
    return ShadowRecord(
        side=side,
        model=heat.model.name,
        round=heat.round,
        capacity_rps=capacity_rps,
        rate=round(outcome.scheduled / outcome.seconds, 1),
        scheduled=outcome.scheduled,
        p50_ms=round(percentile(latencies, 50), 3),
        p99_ms=round(percentile(latencies, 99), 3),
        statuses=dict(sorted(outcome.statuses.items())),
        late_ms=round(outcome.late_ms, 2),
        cpu=cpu,
    )


def _named(heat: Heat, side: str) -> str:
    return f"{side} · {heat.model.name} · {heat.workers} worker{'' if heat.workers == 1 else 's'}"
