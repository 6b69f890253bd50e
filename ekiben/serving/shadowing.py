"""Which records keep what: exposures while a rollout runs, the champion's batches for its shadows, weights for the metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ekiben.rollout.router import CHAMPION_ARM
from ekiben.serving.load_meter import LoadMeter
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.shadow import ShadowRunner
from ekiben.serving.snapshot import Snapshot
from ekiben.state.routes import Route
from ekiben.state.windows import SHADOW


def arrange_records(snapshot: Snapshot, routes: Mapping[str, Route], meter: LoadMeter) -> None:
    """Has the versions of a snapshot record what its routes need.

    Args:
        snapshot: The one that is to be in force.
        routes: What it was made of.
        meter: How busy the event loop is.
    """
    samples = {model: way.record.sample for model, way in snapshot.ways.items()}
    for (model, version), served in snapshot.loaded.items():
        route = routes.get(model) or Route()
        way = snapshot.ways.get(model)
        table = way.table if way is not None else None
        is_champion = table is not None and table.champion.version == version
        shadows = {s.version: s.rate for s in table.shadows} if table is not None and is_champion else {}
        _arrange_shadows(served, {snapshot.loaded[model, other]: rate for other, rate in shadows.items()}, meter)
        on_trial = {arm.name for arm in route.arms if arm.version == version}
        for name in {*served.record.arms, *on_trial, *([CHAMPION_ARM] if is_champion else ()), *([SHADOW] if route.shadows else ())}:
            record = served.record.arm(name)
            record.sample = samples.get(model, record.sample)
            record.exposes = bool(route.rollout) and (name in on_trial or name == SHADOW or (name == CHAMPION_ARM and is_champion))
            if name in on_trial:
                record.metrics.weight(route.weight(name))
            elif name == CHAMPION_ARM:
                record.metrics.weight(100 - sum(route.weight(arm.name) for arm in route.arms) if is_champion else 0.0)
            else:
                record.metrics.no_weight()


def let_go(served: LoadedVersion) -> None:
    """A version goes: its shadows end, and its arms have no share of the traffic any more."""
    for shadow in served.record.shadows:
        shadow.close()
    for record in served.record.arms.values():
        record.metrics.no_weight()


def close_shadows(snapshot: Snapshot) -> None:
    """Ends all shadows."""
    for served in snapshot.loaded.values():
        for shadow in served.record.shadows:
            shadow.close()


def _arrange_shadows(champion: LoadedVersion, wanted: Mapping[LoadedVersion, float], meter: LoadMeter) -> None:
    """Keeps the shadows that stay, ends those that go, begins new ones."""
    former = champion.record.shadows
    records = {served.record.arm(SHADOW): (served, rate) for served, rate in wanted.items()}
    kept = [s for s in former if s.record in records and records[s.record][1] == s.rate]
    for shadow in former:
        if shadow not in kept:
            shadow.close()
    there = {s.record for s in kept}
    new = [
        ShadowRunner(served.predictor, record, rate=rate, meter=meter, clock=time.monotonic, log=served.record.log)
        for record, (served, rate) in records.items()
        if record not in there
    ]
    champion.record.shadows = (*kept, *new)
