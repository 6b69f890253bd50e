"""What a cache gains, and what it costs: one Ekiben whose version remembers its answers, against the same version without a cache.

A compute-bound model at full load, twice: with requests of which some ask what was asked before, and with none of these, where all that
a cache does is in vain. Both sides take turns under one load, see `full_load`.
"""

from __future__ import annotations

from itertools import cycle
from typing import Final

import msgspec
import numpy as np

from load_tests.bench.full_load import FullLoad
from load_tests.bench.heats import Heat, noting_failure, serving
from load_tests.bench.models import BenchModel
from load_tests.bench.protocols import Protocol
from load_tests.bench.results import Results
from load_tests.bench.route_switch import RouteSwitch
from load_tests.bench.sides import CACHED, CACHED_MODEL, PLAIN
from load_tests.bench.trial import Trial

REPEATS_PERCENT: Final = (40, 0)
CONNECTIONS: Final = 32
BODIES: Final = 10_000
"""Before they begin anew, a turn is over, and with it the version that had a cache."""


class RememberingTrial(Trial):
    """Measures the cached side of a course."""

    def run(self, results: Results) -> None:
        """Measures everything and adds it to the results; a server that fails is taken down, and the others go on."""
        course = self._course
        for round_ in range(course.rounds if CACHED in course.sides else 0):
            for percent in REPEATS_PERCENT:
                heat = Heat(self._server, self._models[CACHED_MODEL], 1, round_)
                with noting_failure(heat, results, self._say):
                    self._measure(heat, percent, results)

    def _measure(self, heat: Heat, percent: int, results: Results) -> None:
        """One server under one load, without and with a cache.

        Raises:
            RouteNotFollowed: The version with the cache is not in force.
        """
        protocol = heat.contestant.protocols[0]
        load = FullLoad(
            place=self._place,
            control=self._control,
            wrk=self._wrk,
            seconds=self._course.seconds,
            say=self._say,
            bodies=bodies_of(protocol, heat.model, percent),
            wall=self._wall,
            sleep=self._sleep,
        )
        switch = RouteSwitch(self._control, heat.model.name, heat.workers, sleep=self._sleep)
        with serving(heat, self._place) as served, switch:
            served.check(protocol)
            self._say(f"{percent} % of the requests repeat:")
            records = load.measure(served, switch, (PLAIN, CACHED), CONNECTIONS)
        results.cached += [msgspec.structs.replace(record, repeats_percent=percent) for record in records]


def bodies_of(protocol: Protocol, model: BenchModel, percent: int) -> list[bytes]:
    """Requests of one row each: so many percent of them, spread evenly, ask the model's own rows in turn, each other one a row of its own.

    Args:
        protocol: How it is asked.
        model: The model.
        percent: How many repeat.
    """
    rng = np.random.default_rng(11)
    own = cycle(model.rows)
    fresh = iter(np.round(rng.standard_normal((BODIES, model.features)), model.decimals).tolist())
    repeats = (np.diff(np.arange(BODIES + 1) * percent // 100) > 0).tolist()
    return [protocol.ask(model, [next(own) if is_repeat else next(fresh)]).body for is_repeat in repeats]
