"""Routes at full load: one load that goes on while the sides take turns.

How a server's connections fall together into batches is settled when a load begins, and lasts as long as it does: two loads of the
same server differ by several percent for that alone. So no side has a load of its own. A route is changed while the load goes on,
and the server's own windows, which count by the second, tell what each side answered.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Final

import msgspec

from ekiben.rollout.router import CHAMPION_ARM
from ekiben.state.control import Control
from ekiben.state.windows import Window
from load_tests.bench.contestants import Workplace
from load_tests.bench.heats import Heat, Served
from load_tests.bench.procfs import CpuTimes, cpu_use
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.results import Load, LoadRecord
from load_tests.bench.route_switch import RouteNotFollowed, RouteSwitch
from load_tests.bench.sides import CHAMPION_VERSION, on_trial, route_of, to_and_fro
from load_tests.bench.wrk import LastingLoad, write_bodies

TURN_S: Final = 3
"""Whole seconds of a turn that count."""

_SWITCH_S: Final = 2.0
"""What a turn takes besides: until the route is in force, and until a second begins."""

_WARM_S: Final = 2.0
_SETTLE_S: Final = 0.5
_WRITTEN_S: Final = 2.0
"""Workers write once a second what happened."""

_TURN_AT_MOST_S: Final = 15
"""Over all turns; one may take longer."""

_TOLERANCE_PERCENT: Final = 5.0

BySecond = Mapping[int, Mapping[tuple[str, str], Window]]
"""Second → (version, arm) → what happened."""


class Turn(msgspec.Struct, frozen=True):
    """A side's turn under the load.

    Attributes:
        side: The side.
        second: The first of its `TURN_S` seconds that count, since the epoch.
        before: The clocks when that began.
        after: The clocks when the last of them was over.
    """

    side: str
    second: int
    before: CpuTimes
    after: CpuTimes


class FullLoad:
    """Measures the sides of one server under one load.

    Args:
        place: Where the load generator finds what it sends.
        control: The control database that the server looks at.
        wrk: The path of the load generator.
        seconds: How long other loads are; the turns of a side take about twice as long together.
        say: Shows a line of progress.
        bodies: What is sent, in turn; None for what the model has.
        wall: Seconds since the epoch.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        *,
        place: Workplace,
        control: Control,
        wrk: str,
        seconds: float,
        say: Callable[[str], None],
        bodies: Sequence[bytes] | None = None,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place = place
        self._control = control
        self._wrk = wrk
        # In pairs: one through the sides and one back.
        self._passes = 2 * max(1, round(seconds / (TURN_S + _SWITCH_S)))
        self._say = say
        self._bodies = bodies
        self._wall = wall
        self._sleep = sleep
        self._cores = os.cpu_count() or 1

    def measure(self, served: Served, switch: RouteSwitch, sides: Sequence[str], connections: int) -> list[LoadRecord]:
        """Loads the server once and gives each side its turns.

        Args:
            served: The server; it is warm.
            switch: Changes the route of its model.
            sides: The sides, the plain one first.
            connections: Requests in flight.

        Returns:
            A record for each turn, in their order. Latency is the server's own, from a request's arrival to its answer, and the longest is
            that of its bin. What was not answered well cannot be told apart by turns: all of it stands in the first one.

        Raises:
            RouteNotFollowed: A route is not in force, or the arm on trial did not get its share.
            LoadGeneratorFailed: The load did not last, nothing was answered, or the server counted other answers than it.
            ServerFailed: The server has ended.
            StateError: The control database cannot be read or written.
        """
        began = math.floor(self._wall())
        order = to_and_fro(sides, self._passes)
        # Where the benchmark is killed, nobody stops it.
        with self._begin(served, connections, at_most_s=_TURN_AT_MOST_S * len(order)) as load:
            self._sleep(_WARM_S)
            turns = [self._turn(served, switch, load, side) for side in order]
            whole = load.stop()
        self._sleep(_WRITTEN_S)
        seen = self._control.windows.by_second(served.heat.model.name, began, self._wall() + 1)
        check_counts(whole, seen)
        for side in sides:
            check_share(side, windows_of([turn for turn in turns if turn.side == side], seen))
        records = [turn_record(turn, seen, heat=served.heat, connections=connections, cores=self._cores) for turn in turns]
        self._tell(served.heat, sides, records, whole)
        return [_with_errors(records[0], whole.errors), *records[1:]]

    def _begin(self, served: Served, connections: int, *, at_most_s: int) -> LastingLoad:
        protocol = served.heat.contestant.protocols[0]
        bodies = self._place.folder / "bodies"
        sent = self._bodies
        write_bodies(bodies, [asked.body for asked in protocol.requests(served.heat.model)] if sent is None else sent)
        return LastingLoad(self._wrk, served.url(protocol), bodies, connections=connections, at_most_s=at_most_s)

    def _turn(self, served: Served, switch: RouteSwitch, load: LastingLoad, side: str) -> Turn:
        switch.put(route_of(side, served.heat.model.name))
        second = math.floor(self._wall() + _SETTLE_S) + 1
        self._wait_until(second)
        before = served.server.cpu_times(clients=(load.pid,))
        self._wait_until(second + TURN_S)
        after = served.server.cpu_times(clients=(load.pid,))
        served.server.check_alive()
        load.check_under_way()
        return Turn(side, second, before, after)

    def _wait_until(self, second: int) -> None:
        self._sleep(max(0.0, second - self._wall()))

    def _tell(self, heat: Heat, sides: Sequence[str], records: list[LoadRecord], whole: Load) -> None:
        where = f"{heat.model.name} · {heat.workers} worker{'' if heat.workers == 1 else 's'} · {records[0].connections} connections"
        for side in sides:
            self._say(f"{side} · {where}: {fmean(r.load.rps for r in records if r.peer == side):,.0f} rps")
        if whole.errors:
            self._say(f"{where}: not answered well: {', '.join(f'{kind}: {count:,}' for kind, count in whole.errors.items())}")


def windows_of(turns: Sequence[Turn], seen: BySecond) -> dict[tuple[str, str], Window]:
    """(version, arm) → what happened in the seconds of these turns."""
    found: dict[tuple[str, str], Window] = {}
    for turn in turns:
        for second in range(turn.second, turn.second + TURN_S):
            for arm, window in seen.get(second, {}).items():
                found[arm] = found.get(arm, Window()) + window
    return found


def turn_record(turn: Turn, seen: BySecond, *, heat: Heat, connections: int, cores: int) -> LoadRecord:
    """What a side did in a turn.

    Args:
        turn: The turn.
        seen: What happened, by the second.
        heat: The server.
        connections: Requests in flight.
        cores: Cores of the machine.
    """
    total = sum(windows_of([turn], seen).values(), Window())
    p50_ms, p99_ms, max_ms = (round(total.latency.quantile(q) * 1e3, 3) for q in (0.5, 0.99, 1.0))
    return LoadRecord(
        peer=turn.side,
        model=heat.model.name,
        workers=heat.workers,
        connections=connections,
        round=heat.round,
        load=Load(
            seconds=TURN_S,
            answered=total.ok,
            rps=round(total.ok / TURN_S, 1),
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            max_ms=max_ms,
            errors={},
        ),
        cpu=cpu_use(turn.before, turn.after, total.ok, cores),
    )


def check_share(side: str, arms: Mapping[tuple[str, str], Window]) -> None:
    """Makes sure that what is on trial on a side was met by as many as must; a route that nobody followed costs nothing.

    Args:
        side: The side.
        arms: What happened in its turns.

    Raises:
        LoadGeneratorFailed: Nothing was answered.
        RouteNotFollowed: It was not.
    """
    answered = sum(window.requests for window in arms.values())
    if not answered:
        raise LoadGeneratorFailed(f"{side}: no request was answered in its turns")
    trial = on_trial(side)
    version, arm, wanted = (trial.version, trial.arm, trial.percent) if trial is not None else (CHAMPION_VERSION, CHAMPION_ARM, 100.0)
    percent = arms.get((version, arm), Window()).requests / answered * 100
    if abs(percent - wanted) > _TOLERANCE_PERCENT:
        which = "the arm on trial" if trial is not None else "the champion"
        raise RouteNotFollowed(f"{side}: {percent:.1f} % of the requests went to {which}; it must be {wanted:g} %")


def check_counts(whole: Load, seen: BySecond) -> None:
    """Makes sure that the server counted what the load generator got: turns are measured by the server's count alone.

    Args:
        whole: What the load generator got, from its first request to its last.
        seen: What the server counted meanwhile.

    Raises:
        LoadGeneratorFailed: They differ.
    """
    counted = sum(window.ok for arms in seen.values() for window in arms.values())
    if abs(counted - whole.answered) > _TOLERANCE_PERCENT / 100 * whole.answered:
        numbers = f"wrk got {whole.answered:,} answers and the server's windows have {counted:,}"
        raise LoadGeneratorFailed(f"{numbers}; they must be the same within {_TOLERANCE_PERCENT:g} %")


def _with_errors(record: LoadRecord, errors: dict[str, int]) -> LoadRecord:
    return msgspec.structs.replace(record, load=msgspec.structs.replace(record.load, errors=errors))
