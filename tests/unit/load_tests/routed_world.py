"""A server under load as the benchmark sees it, in memory: workers that follow routes, windows by the second, a load generator."""

import math
import os
import time

from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.results import Load
from load_tests.bench.sides import CHAMPION_VERSION, PLAIN, on_trial


class World:
    """Time passes when somebody sleeps; then workers follow every route, and a load that is under way is answered.

    Args:
        control: The control database.
        workers: How many workers.
        rates: Side → answers a second; 100 where it is not named.
        shares: Side → percent of them that the arm on trial gives; as it must be where it is not named.
        windows: What is written besides, once: (model, (version, arm), window).
        model: The model that is asked.
    """

    def __init__(self, control, *, workers=1, rates=None, shares=None, windows=(), model="tabular"):
        self.model = model
        self.control, self.workers, self.windows = control, workers, windows
        self.rates, self.shares = rates or {}, shares or {}
        self.now = self.started = math.floor(time.time()) + 0.25
        self.loads = []
        self.counts = {}
        self.in_force = {}
        self.routes = []
        self.counted_percent = 100
        self.errors = {}

    def wall(self):
        return self.now

    def sleep(self, seconds):
        end = self.now + seconds
        while self.now < end:
            second = math.floor(self.now)
            until = min(end, second + 1)
            self._answer(second, until - self.now)
            self.now = until
        self._write()
        self._follow()

    def begin(self, _wrk, url, bodies, *, connections, at_most_s):
        """What stands in the place of `LastingLoad`."""
        assert bodies.read_bytes()
        self.sent = bodies.read_bytes()
        self.loads.append(MemoryLoad(self, url, connections, self.now + at_most_s))
        return self.loads[-1]

    def _follow(self):
        """The workers find what is committed by now; until then they did what they did before."""
        routes = self.in_force = self.control.routes.all()
        self.routes += [] if self.routes[-1:] == [routes] else [routes]
        versions = {model: (CHAMPION_VERSION, *route.versions()) for model, route in routes.items()}
        for n in range(self.workers):
            self.control.workers.say(WorkerState(id=str(n), versions=versions, generation=self.control.generation()))
        written = [(WindowKey(model, *arm, math.floor(self.started)), window) for model, arm, window in self.windows]
        self.control.windows.add("once", written)

    def _answer(self, second, seconds):
        """What is answered in a part of a second."""
        if not (self.loads and self.loads[-1].is_under_way):
            return
        route = self.in_force.get(self.model)
        side = route.rollout.removeprefix(f"{self.model}-") if route else PLAIN
        trial, rate = on_trial(side), self.rates.get(side, 100) * seconds
        share = self.shares.get(side, trial.percent if trial else 0) / 100
        arm = (trial.version, trial.arm) if trial else ("another", "challenger")
        self.loads[-1].answered += rate
        for key, n in ((arm, rate * share), ((CHAMPION_VERSION, "champion"), rate * (1 - share))):
            self.counts[second, key] = self.counts.get((second, key), 0.0) + n

    def _write(self):
        """What happened is written at the latest a second after the second in which it did."""
        written = {(second, key): n for (second, key), n in self.counts.items() if second <= self.now - 2}
        late = [(WindowKey(self.model, *key, second), Window(ok=round(n))) for (second, key), n in written.items()]
        self.control.windows.add("0", late)


class MemoryLoad:
    """A load that goes on until it is stopped, or until its time is over."""

    def __init__(self, world, url, connections, end):
        self.world, self.url, self.connections, self.end = world, url, connections, end
        self.pid = os.getpid()
        self.answered = 0
        self.is_under_way = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_under_way = False

    def check_under_way(self):
        if self.world.now > self.end:
            raise LoadGeneratorFailed("its time is over")

    def stop(self):
        self.is_under_way = False
        answered = round(self.answered * self.world.counted_percent / 100)
        return Load(seconds=1.0, answered=answered, rps=1.0, p50_ms=1.0, p99_ms=1.0, max_ms=1.0, errors=self.world.errors)
