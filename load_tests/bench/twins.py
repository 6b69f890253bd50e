"""What the inference log and the guards cost: one Ekiben that serves the same model several times, each with something else on or off.

The models are asked in turns, each with a load of its own. They share the server, its memory and the machine's moods, and what they
differ in is their spec. How a load's connections fall together into batches is settled when it begins, so there are many short turns.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ekiben.guards.key_operations import ControlKeys
from ekiben.guards.principal import PREDICT
from ekiben.model.guard_spec import LimitsSpec, RateSpec
from ekiben.model.monitor_spec import LogSpec
from ekiben.model.spec import ModelSpec
from load_tests.bench.heats import Heat, Served, noting_failure, serving
from load_tests.bench.models import BenchModel
from load_tests.bench.procfs import cpu_use
from load_tests.bench.results import LoadRecord, Results
from load_tests.bench.routing_promises import rate
from load_tests.bench.sides import GUARDED, PLAIN, TWIN_MODELS, UNLOGGED, to_and_fro
from load_tests.bench.trial import Trial
from load_tests.bench.wrk import run_wrk, write_bodies

TURN_S: Final = 2
_PASSES_A_SECOND: Final = 0.8
_WARM_S: Final = 1.0
_IN_FORCE_S: Final = 1.0
"""Workers look twice a second for new keys."""

_AMPLE: Final = 1e9
_RATES: Final = (
    RateSpec(per="key", requests=_AMPLE),
    RateSpec(per="key", rows=_AMPLE, algorithm="sliding_window"),
    RateSpec(per="ip", requests=_AMPLE),
)


def name_of(twin: str, model: str) -> str:
    """What a model is called where it is a twin."""
    return model if twin == PLAIN else f"{model}-{twin.removeprefix(PLAIN + '-')}"


def twins_of(spec: ModelSpec) -> dict[str, ModelSpec]:
    """The specs of a model and its twins, by twin: as it is, without the inference log, and limited in every way that limits none.

    Who asks the last brings an API key; the breaker is on in all of them.
    """
    own: dict[str, dict[str, Any]] = {
        PLAIN: {},
        UNLOGGED: {"log": LogSpec(enabled=False)},
        GUARDED: {"limits": LimitsSpec(max_rows=1000, rates=_RATES, concurrent=10_000)},
    }
    return {twin: msgspec.structs.replace(spec, name=name_of(twin, spec.name), **changed) for twin, changed in own.items()}


class TwinsTrial(Trial):
    """Measures the twins of a course."""

    def run(self, results: Results) -> None:
        """Measures everything and adds it to the results; a server that fails is taken down, and the others go on."""
        course = self._course
        twins = tuple(twin for twin in (UNLOGGED, GUARDED) if twin in course.sides)
        for round_ in range(course.rounds if twins else 0):
            for name in (name for name in TWIN_MODELS if name in course.models):
                for workers in course.workers:
                    heat = Heat(self._server, self._models[name], workers, round_)
                    with noting_failure(heat, results, self._say):
                        results.twins += self._measure(heat, (PLAIN, *twins))

    def _measure(self, heat: Heat, twins: tuple[str, ...]) -> list[LoadRecord]:
        key = ControlKeys(self._control, who="benchmark", wall=self._wall).create("benchmark", [PREDICT]).key
        records = []
        passes = 2 * max(1, round(self._course.seconds * _PASSES_A_SECOND))
        place = msgspec.structs.replace(self._place, ekiben_models=self._place.ekiben_twins)
        with serving(heat, place) as served:
            protocol = served.heat.contestant.protocols[0]
            served.check(protocol)
            self._sleep(_IN_FORCE_S)
            write_bodies(self._place.folder / "bodies", [asked.body for asked in protocol.requests(heat.model)])
            for connections in (number for number in self._course.models[heat.model.name] if number > 1):
                for twin in twins:
                    self._load(served, twin, connections, _WARM_S, key)
                turns = [self._load(served, twin, connections, TURN_S, key) for twin in to_and_fro(twins, passes)]
                records += turns
                self._tell(turns, twins)
        return records

    def _load(self, served: Served, twin: str, connections: int, seconds: float, key: str) -> LoadRecord:
        heat, protocol = served.heat, served.heat.contestant.protocols[0]
        url = served.url(protocol).replace(protocol.path(heat.model), protocol.path(_renamed(heat.model, twin)))
        headers = {"X-API-Key": key} if twin == GUARDED else None
        before = served.server.cpu_times()
        load = run_wrk(self._wrk, url, self._place.folder / "bodies", connections=connections, seconds=seconds, headers=headers)
        served.server.check_alive()
        return LoadRecord(
            peer=twin,
            model=heat.model.name,
            workers=heat.workers,
            connections=connections,
            round=heat.round,
            load=load,
            cpu=cpu_use(before, served.server.cpu_times(), load.answered, self._cores),
        )

    def _tell(self, turns: list[LoadRecord], twins: tuple[str, ...]) -> None:
        first = turns[0]
        where = f"{first.model} · {first.workers} worker{'' if first.workers == 1 else 's'} · {first.connections} connections"
        for twin in twins:
            chosen = [r for r in turns if r.peer == twin]
            self._say(f"{twin} · {where}: {rate(chosen) or 0:,.0f} rps")


def _renamed(model: BenchModel, twin: str) -> BenchModel:
    return msgspec.structs.replace(model, name=name_of(twin, model.name))
