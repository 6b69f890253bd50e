"""Which versions are loaded: load, swap, drain, unload.

The host keeps one immutable snapshot of which version answers for which model. A change (an alias was moved, a model got
its first version, somebody had one loaded or unloaded) makes a new snapshot and swaps it in, so that a request sees either
the old or the new and nothing between. What fails to load is reported and never replaces what runs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ekiben.errors import EkibenError, NotReady, StateError, UnknownModel
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Registry, Version
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.loading import load_checked

logger = logging.getLogger("ekiben.host")

POLL_S = 0.5


class Snapshot(msgspec.Struct, frozen=True):
    """Which version answers.

    Attributes:
        default: Model → the version that answers when none is asked for.
        loaded: (model, version) → every version in memory.
        problems: ``model`` or ``model:version`` → why it is not served.
        aliases: (model, alias) → the version it names, for the aliases that are served, where that version is loaded.
        models: Names of the models that are to be served.
        unloaded: Names of those that somebody had unloaded.
    """

    default: dict[str, LoadedVersion] = {}
    loaded: dict[tuple[str, str], LoadedVersion] = {}
    problems: dict[str, str] = {}
    aliases: dict[tuple[str, str], str] = {}
    models: tuple[str, ...] = ()
    unloaded: frozenset[str] = frozenset()


class Wanted(msgspec.Struct):
    """What should be loaded.

    Attributes:
        versions: Model → ``champion`` and ``challenger`` → its version, where there is one that can be read.
        problems: As in `Snapshot`.
        unloaded: As in `Snapshot`.
    """

    versions: dict[str, dict[str, Version]]
    problems: dict[str, str]
    unloaded: frozenset[str]


class Host:
    """Holds the loaded versions of the models it is given, and of those that somebody had loaded.

    Args:
        models: Names of the models to serve, from the models folder.
        registry: Where versions and aliases are, and what was asked to be loaded or unloaded.
        metrics: This process's collectors.
        providers: ONNX Runtime's execution providers to prefer.
        on_change: Called in the event loop after each swap.

    Attributes:
        folder: The models of the models folder.
        snapshot: Which version answers now.
        loading: Versions being loaded.
        metrics: This process's collectors.
    """

    def __init__(
        self,
        models: Sequence[str],
        registry: Registry,
        metrics: Metrics,
        *,
        providers: tuple[str, ...] = (),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = tuple(models)
        self.snapshot = Snapshot(problems=dict.fromkeys(models, "is being loaded"), models=self.folder)
        self.loading: set[tuple[str, str]] = set()
        self.metrics = metrics
        self._registry = registry
        self._providers = providers
        self._on_change = on_change
        self._generation: tuple[int, ...] = ()
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._drains: dict[asyncio.Task[None], tuple[str, str]] = {}

    # ── what the data plane asks ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models to serve: those of the models folder and those that were loaded, without those unloaded."""
        return self.snapshot.models

    @property
    def unloading(self) -> set[tuple[str, str]]:
        """Versions that answer what they have taken, and then go."""
        return set(self._drains.values())

    def find(self, model: str, version: str | None) -> LoadedVersion:
        """The version that answers.

        Raises:
            UnknownModel: No such model is served, it was unloaded, or this version of it is not loaded.
            NotReady: The model is served and has no version that could be loaded.
        """
        snapshot = self.snapshot
        found = snapshot.default.get(model) if version is None else snapshot.loaded.get((model, version))
        if found is not None:
            return found
        if model in snapshot.unloaded:
            raise UnknownModel(
                f"{model} was unloaded; `ekiben models load {model}` loads it, and so does POST /v2/repository/models/{model}/load "
                "where EKIBEN_REPOSITORY_API is on"
            )
        if model not in (*self.folder, *snapshot.models):
            raise UnknownModel(f"there is no model {model!r}; this server has {', '.join(self.models) or 'none'}")
        if version is None:
            raise NotReady(f"{model} is not ready: {snapshot.problems.get(model, 'no version is loaded')}", retry_after_s=2.0)
        if why := snapshot.problems.get(f"{model}:{version}"):
            raise NotReady(f"{model}:{version} is not ready: {why}", retry_after_s=2.0)
        versions = sorted(v for m, v in snapshot.loaded if m == model)
        raise UnknownModel(f"version {version!r} of {model} is not loaded; loaded: {', '.join(versions) or 'none'}")

    def not_ready(self) -> list[str]:
        """Why the server is not ready, a line a model; empty when every model of the folder has a version that answers.

        What was unloaded is not missed, and what was loaded beyond the folder does not take the server down when it fails.
        """
        snapshot = self.snapshot
        if not self.folder and not snapshot.models:
            return ["there are no models to serve: the models folder is empty"]
        missing = [m for m in self.folder if m not in snapshot.default and m not in snapshot.unloaded]
        return [f"{m}: {snapshot.problems.get(m, 'no version is loaded')}" for m in missing]

    def write_metrics(self) -> None:
        """Writes what the loaded versions' metrics have gathered; in the event loop."""
        for version in self.snapshot.loaded.values():
            version.write_metrics()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Loads what should be served, then watches for changes until `stop`."""
        await self.refresh()
        # What is loaded now stays: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._write_metrics())]

    async def stop(self) -> None:
        """Answers what is queued and unloads everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._drains, *(v.drain() for v in self.snapshot.loaded.values()))

    async def refresh(self) -> None:
        """Brings what is loaded in line with the registry, now; tries again what failed before.

        Raises:
            StateError: The control database cannot be read; nothing has changed.
        """
        async with self._refreshing:
            await self._refresh()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                async with self._refreshing:
                    if await asyncio.to_thread(self._registry.generation) != self._generation:
                        await self._refresh()
            except StateError as e:
                logger.warning("the control database cannot be read, serving goes on unchanged: %s", e)
            except Exception:
                logger.exception("the models cannot be looked for, serving goes on unchanged")

    async def _write_metrics(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self.write_metrics()

    async def _refresh(self) -> None:
        """Brings the snapshot in line with the registry; not twice at once.

        Raises:
            StateError: The control database cannot be read; nothing has changed.
        """
        generation = await asyncio.to_thread(self._registry.generation)
        old = self.snapshot
        wanted = await asyncio.to_thread(self._wanted)
        loaded: dict[tuple[str, str], LoadedVersion] = {}
        for stored in {v.tag: v for versions in wanted.versions.values() for v in versions.values()}.values():
            key = (stored.model, stored.version)
            if key in old.loaded:
                loaded[key] = old.loaded[key]
                continue
            try:
                loaded[key] = await self._load(stored)
            except Exception as e:
                logger.exception("refused %s", stored.tag)
                wanted.problems[stored.tag] = str(e) if isinstance(e, EkibenError) else f"{type(e).__name__}: {e}"
        default = self._defaults(wanted.versions, loaded, old, wanted.problems)
        for kept in default.values():
            loaded[kept.model, kept.version] = kept
        aliases = {
            (model, alias): stored.version
            for model, versions in wanted.versions.items()
            for alias, stored in versions.items()
            if (model, stored.version) in loaded
        }
        self.snapshot = Snapshot(default, loaded, wanted.problems, aliases, tuple(wanted.versions), wanted.unloaded)
        self._generation = generation
        self._on_change()
        for key, version in old.loaded.items():
            if key not in loaded:
                self._unload(version)

    def _wanted(self) -> Wanted:
        """What the registry says should be loaded. Runs in a thread."""
        asked = self._registry.loads.all()
        unloaded = frozenset(model for model, loaded in asked.items() if not loaded)
        wanted = Wanted({model: {} for model in (*self.folder, *asked) if model not in unloaded}, {}, unloaded)
        for model, versions in wanted.versions.items():
            for alias, reference in (("champion", model), ("challenger", f"{model}:challenger")):
                try:
                    versions[alias] = self._registry.resolve(reference)
                except StateError:
                    raise
                except EkibenError as e:
                    if alias == "champion":
                        wanted.problems[model] = str(e)
                    if named := self._registry.aliases.get(model).get(alias):
                        wanted.problems[f"{model}:{named}"] = str(e)
        return wanted

    def _defaults(
        self,
        wanted: Mapping[str, Mapping[str, Version]],
        loaded: Mapping[tuple[str, str], LoadedVersion],
        old: Snapshot,
        problems: dict[str, str],
    ) -> dict[str, LoadedVersion]:
        default: dict[str, LoadedVersion] = {}
        for model, versions in wanted.items():
            champion = versions.get("champion")
            if champion is not None and (model, champion.version) in loaded:
                default[model] = loaded[model, champion.version]
                continue
            if champion is not None:
                problems[model] = f"{champion.tag} was refused: {problems[champion.tag]}"
            if model in old.default:
                default[model] = old.default[model]
                logger.error("%s: %s goes on answering; %s", model, old.default[model].version, problems.get(model, ""))
        return default

    async def _load(self, stored: Version) -> LoadedVersion:
        started = time.monotonic()
        self.loading.add((stored.model, stored.version))
        try:
            predictor, manifest, cost = await asyncio.to_thread(load_checked, stored, self._providers)
        finally:
            self.loading.discard((stored.model, stored.version))
        load_s = time.monotonic() - started
        logger.info("loaded %s in %.2f s on %s", stored.tag, load_s, predictor.runtime.device)
        metrics = self.metrics.of(stored.model, stored.version, predictor.spec.labels)
        return LoadedVersion(stored, predictor, manifest=manifest, metrics=metrics, cost=cost, load_s=load_s)

    def _unload(self, version: LoadedVersion) -> None:
        logger.info("unloading %s:%s", version.model, version.version)
        task = asyncio.create_task(version.drain())
        self._drains[task] = (version.model, version.version)
        task.add_done_callback(self._drains.pop)
