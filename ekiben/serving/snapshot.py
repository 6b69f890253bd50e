"""Which version answers: one immutable picture, made of what should be loaded and what is.

control database ─▶ `wanted_of` (which versions, of which folders) ─▶ the host loads ─▶ `snapshot_of` (who answers what)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from ekiben.errors import EkibenError, RolloutRefused
from ekiben.registry import CHALLENGER, CHAMPION, Registry, Version
from ekiben.rollout.fitting import check_fit
from ekiben.rollout.router import CHAMPION_ARM, RoutingTable
from ekiben.rollout.transitions import PREVIOUS
from ekiben.serving.arm_record import ArmRecord
from ekiben.serving.control_view import ControlView
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.state.routes import Route

logger = logging.getLogger("ekiben.host")

Key = tuple[str, str]
"""Model and version."""


class Way(msgspec.Struct, frozen=True):
    """The way of a model's requests, looked up once: its champion, and the arms that may answer in its place.

    Attributes:
        champion: What answers by default.
        record: What happens to its requests.
        table: Who answers which.
        arms: Arm → its version and what happens to its requests.
        former: The former champion, where it answers while the champion is broken; None where nothing does, or it is not loaded.
    """

    champion: LoadedVersion
    record: ArmRecord
    table: RoutingTable
    arms: dict[str, tuple[LoadedVersion, ArmRecord]]
    former: LoadedVersion | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """Which version answers.

    Attributes:
        default: Model → the version that answers when none is asked for, but for what its routes say: its champion.
        loaded: (model, version) → every version in memory.
        problems: ``model`` or ``model:version`` → why it is not served.
        aliases: (model, alias) → the version it names, for the aliases that are served, where that version is loaded.
        models: Names of the models that are to be served.
        unloaded: Names of those that somebody had unloaded.
        ways: Model → the way of its requests.
    """

    default: dict[str, LoadedVersion] = {}
    loaded: dict[Key, LoadedVersion] = {}
    problems: dict[str, str] = {}
    aliases: dict[Key, str] = {}
    models: tuple[str, ...] = ()
    unloaded: frozenset[str] = frozenset()
    ways: dict[str, Way] = {}


class Wanted(msgspec.Struct):
    """What should be loaded.

    Attributes:
        view: What it was made of.
        versions: Model → ``champion`` and ``challenger`` → its version, where there is one that can be read.
        routed: Model → the other versions that its route names.
        problems: As in `Snapshot`.
        unloaded: As in `Snapshot`.
    """

    view: ControlView
    versions: dict[str, dict[str, Version]]
    routed: dict[str, list[Version]]
    problems: dict[str, str]
    unloaded: frozenset[str]

    def all(self) -> dict[Key, Version]:
        """Each version once; the champions first."""
        first = [named for versions in self.versions.values() for named in versions.values()]
        return {(v.model, v.version): v for v in (*first, *(v for versions in self.routed.values() for v in versions))}


def wanted_of(view: ControlView, registry: Registry, folder: Sequence[str]) -> Wanted:
    """What the control database says should be loaded; reads the store and not the database, in a thread.

    Args:
        view: What the database says.
        registry: Where versions are.
        folder: The models of the models folder.
    """
    unloaded = frozenset(model for model, loaded in view.loads.items() if not loaded)
    wanted = Wanted(view, {model: {} for model in (*folder, *view.loads) if model not in unloaded}, {}, {}, unloaded)
    for model, versions in wanted.versions.items():
        aliases = view.aliases.get(model, {})
        for alias, reference in ((CHAMPION, model), (CHALLENGER, f"{model}:challenger")):
            try:
                versions[alias] = registry.resolve(reference, aliases)
            except EkibenError as e:
                if alias == CHAMPION:
                    wanted.problems[model] = str(e)
                if named := aliases.get(alias):
                    wanted.problems[f"{model}:{named}"] = str(e)
        there = {stored.version for stored in versions.values()}
        for version in sorted((view.routes.get(model, Route()).versions() | _standby(versions.get(CHAMPION), aliases)) - there):
            try:
                wanted.routed.setdefault(model, []).append(registry.resolve(f"{model}:{version}", aliases))
            except EkibenError as e:
                wanted.problems[f"{model}:{version}"] = str(e)
    return wanted


def _standby(champion: Version | None, aliases: Mapping[str, str]) -> set[str]:
    """The former champion, where the champion's spec has it answer while the champion is broken: it stays loaded for that."""
    former = aliases.get(PREVIOUS)
    if former is None or champion is None:
        return set()
    try:
        return {former} if champion.artifact().spec.breaker.fallback == "previous" else set()
    except EkibenError:
        return set()  # loading it says what is wrong with it


def snapshot_of(wanted: Wanted, available: Mapping[Key, LoadedVersion], refused: Mapping[Key, str], old: Snapshot) -> Snapshot:
    """Who answers, as far as it is loaded.

    Args:
        wanted: What should be loaded.
        available: What is in memory, perhaps more than is wanted.
        refused: What was tried and cannot be loaded, with why.
        old: Who answered until now: a champion goes on until its successor is loaded.
    """
    problems = dict(wanted.problems)
    loaded = {key: available[key] for key in wanted.all() if key in available}
    problems |= {f"{model}:{version}": why for (model, version), why in refused.items() if (model, version) in wanted.all()}
    default: dict[str, LoadedVersion] = {}
    ways: dict[str, Way] = {}
    for model, versions in wanted.versions.items():
        if champion := _champion(model, versions.get(CHAMPION), loaded, old.default.get(model), problems):
            default[model] = loaded[model, champion.version] = champion
            former = wanted.view.aliases.get(model, {}).get(PREVIOUS) if champion.spec.breaker.fallback == "previous" else None
            ways[model] = _way(champion, wanted.view.routes.get(model) or Route(), loaded, problems, former)
    aliases = {
        (model, alias): stored.version
        for model, versions in wanted.versions.items()
        for alias, stored in versions.items()
        if (model, stored.version) in loaded
    }
    return Snapshot(default, loaded, problems, aliases, tuple(wanted.versions), wanted.unloaded, ways)


def _champion(
    model: str, wanted: Version | None, loaded: Mapping[Key, LoadedVersion], former: LoadedVersion | None, problems: dict[str, str]
) -> LoadedVersion | None:
    """What answers for a model: its champion, else whatever answered until now."""
    if wanted is not None:
        if found := loaded.get((model, wanted.version)):
            return found
        if why := problems.get(wanted.tag):
            problems[model] = f"{wanted.tag} was refused: {why}"
        elif former is None:
            problems[model] = "is being loaded"
    if former is not None and model in problems:
        logger.error("%s: %s goes on answering; %s", model, former.version, problems[model])
    return former


def _way(champion: LoadedVersion, route: Route, loaded: Mapping[Key, LoadedVersion], problems: dict[str, str], former: str | None) -> Way:
    """The way of a model's requests, with the arms, and the former champion, that are loaded and fit the champion."""
    fitting = {champion.version}
    on_trial = {a.version for a in route.arms} | {s.version for s in route.shadows} | ({former} if former is not None else set())
    for version in sorted(on_trial - fitting):
        if (other := loaded.get((champion.model, version))) is None:
            continue
        try:
            check_fit(champion.spec, champion.version, other.spec, version)
        except RolloutRefused as e:
            problems[f"{champion.model}:{version}"] = str(e)
        else:
            fitting.add(version)
    arms = {}
    for arm in route.arms:
        if arm.version in fitting:
            served = loaded[champion.model, arm.version]
            arms[arm.name] = (served, served.record.arm(arm.name))
    table = RoutingTable(champion.version, route, champion.spec.routing, fitting)
    standby = loaded[champion.model, former] if former is not None and former in fitting and former != champion.version else None
    return Way(champion, champion.record.arm(CHAMPION_ARM), table, arms, standby)
