"""Loaded versions: load, check, warm, swap, drain, unload.

The host keeps one immutable snapshot of which version answers for which model. A change (an alias was moved, a model got
its first version) makes a new snapshot and swaps it in, so that a request sees either the old or the new and nothing
between. What fails to load is reported and never replaces what runs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ekiben.errors import EkibenError, NotReady, StateError, UnknownModel
from ekiben.model.artifact import Manifest, read_artifact
from ekiben.model.predictor import Predictor
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.metrics import Metrics, VersionMetrics
from ekiben.registry import Registry, Version
from ekiben.serving.batch_run import Answer, BatchReport
from ekiben.serving.batcher import Batcher
from ekiben.serving.cost_model import CostModel

logger = logging.getLogger("ekiben.host")

SERVED_ALIASES = ("champion", "challenger")
POLL_S = 0.5
_WARM_SIZES = (1, 2, 8, 32)
_WARM_RUNS = 3
_WARM_LIMIT_S = 0.5


class LoadedVersion:
    """A version in memory, ready to answer.

    Attributes:
        model, version: Its names.
        spec: The spec it was made with.
        manifest: All that is known of it.
        predictor: What computes.
        batcher: What gathers; requests go here.
        load_s: Seconds it took to load, check and warm.
    """

    def __init__(
        self, stored: Version, predictor: Predictor, *, manifest: Manifest, metrics: VersionMetrics, cost: CostModel, load_s: float
    ) -> None:
        self.model = stored.model
        self.version = stored.version
        self.spec: ModelSpec = predictor.spec
        self.manifest = manifest
        self.predictor = predictor
        self.metrics = metrics
        self.load_s = load_s
        self.timeout_s = predictor.spec.timeout_ms / 1000
        # NOTE: no method of this object, which would make a cycle: `gc.freeze` keeps those, and with it the model, for ever.
        self.batcher = Batcher(predictor, clock=time.monotonic, report=partial(_record, metrics), cost=cost)
        metrics.loaded(load_s)


def _record(metrics: VersionMetrics, report: BatchReport) -> None:
    latencies, queue_times, errors = [], [], []
    for pending, result in zip(report.members, report.results, strict=True):
        if isinstance(result, Answer):
            latencies.append(report.ended - pending.received)
            queue_times.append(report.started - pending.queued)
        else:
            errors.append(result)
    if report.outputs is not None:
        metrics.batch(report.rows, latencies, queue_times, report.outputs.class_index)
    if errors:
        metrics.failed(errors)


class Snapshot(msgspec.Struct, frozen=True):
    """Which version answers.

    Attributes:
        default: Model → the version that answers when none is asked for.
        loaded: (model, version) → every version in memory.
        problems: ``model`` or ``model:version`` → why it is not served.
    """

    default: dict[str, LoadedVersion] = {}
    loaded: dict[tuple[str, str], LoadedVersion] = {}
    problems: dict[str, str] = {}


class Host:
    """Holds the loaded versions of the models it is given.

    Args:
        models: Names of the models to serve, from the models folder.
        registry: Where versions and aliases are.
        metrics: This process's collectors.
        providers: ONNX Runtime's execution providers to prefer.
        on_change: Called in the event loop after each swap.
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
        self.models = tuple(models)
        self.snapshot = Snapshot(problems=dict.fromkeys(models, "is being loaded"))
        self._registry = registry
        self._metrics = metrics
        self._providers = providers
        self._on_change = on_change
        self._generation = -1
        self._watcher: asyncio.Task[None] | None = None
        self._drains: set[asyncio.Task[None]] = set()

    # ── what the data plane asks ─────────────────────────────────────────────────────────────────────────────────────

    def find(self, model: str, version: str | None) -> LoadedVersion:
        """The version that answers.

        Raises:
            UnknownModel: No such model is served, or this version of it is not loaded.
            NotReady: The model is served and has no version that could be loaded.
        """
        snapshot = self.snapshot
        found = snapshot.default.get(model) if version is None else snapshot.loaded.get((model, version))
        if found is not None:
            return found
        if model not in self.models:
            raise UnknownModel(f"there is no model {model!r}; this server has {', '.join(self.models) or 'none'}")
        if version is None:
            raise NotReady(f"{model} is not ready: {snapshot.problems.get(model, 'no version is loaded')}", retry_after_s=2.0)
        if why := snapshot.problems.get(f"{model}:{version}"):
            raise NotReady(f"{model}:{version} is not ready: {why}", retry_after_s=2.0)
        versions = sorted(v for m, v in snapshot.loaded if m == model)
        raise UnknownModel(f"version {version!r} of {model} is not loaded; loaded: {', '.join(versions) or 'none'}")

    def not_ready(self) -> list[str]:
        """Why the server is not ready, a line a model; empty when every model has a version that answers."""
        snapshot = self.snapshot
        if not self.models:
            return ["there are no models to serve: the models folder is empty"]
        return [f"{m}: {snapshot.problems.get(m, 'no version is loaded')}" for m in self.models if m not in snapshot.default]

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Loads what should be served, then watches for changes until `stop`."""
        await self._refresh()
        # What is loaded now stays: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Answers what is queued and unloads everything."""
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.gather(*self._drains, *(v.batcher.drain() for v in self.snapshot.loaded.values()))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if await asyncio.to_thread(self._registry.aliases.generation) != self._generation:
                    await self._refresh()
            except StateError as e:
                logger.warning("the control database cannot be read, serving goes on unchanged: %s", e)
            except Exception:
                logger.exception("the models cannot be looked for, serving goes on unchanged")

    async def _refresh(self) -> None:
        """Brings the snapshot in line with the registry.

        Raises:
            StateError: The control database cannot be read; nothing has changed.
        """
        generation = await asyncio.to_thread(self._registry.aliases.generation)
        old = self.snapshot
        wanted, problems = await asyncio.to_thread(self._wanted)
        loaded: dict[tuple[str, str], LoadedVersion] = {}
        for stored in {v.tag: v for versions in wanted.values() for v in versions.values()}.values():
            key = (stored.model, stored.version)
            if key in old.loaded:
                loaded[key] = old.loaded[key]
                continue
            try:
                loaded[key] = await self._load(stored)
            except Exception as e:
                logger.exception("refused %s", stored.tag)
                problems[stored.tag] = str(e) if isinstance(e, EkibenError) else f"{type(e).__name__}: {e}"
        default = self._defaults(wanted, loaded, old, problems)
        for kept in default.values():
            loaded[kept.model, kept.version] = kept
        self.snapshot = Snapshot(default, loaded, problems)
        self._generation = generation
        self._on_change()
        for key, version in old.loaded.items():
            if key not in loaded:
                self._unload(version)

    def _wanted(self) -> tuple[dict[str, dict[str, Version]], dict[str, str]]:
        """For each model, ``champion`` and ``challenger`` where there is one that can be read. Runs in a thread."""
        wanted: dict[str, dict[str, Version]] = {}
        problems: dict[str, str] = {}
        for model in self.models:
            wanted[model] = {}
            for alias, reference in (("champion", model), ("challenger", f"{model}:challenger")):
                try:
                    wanted[model][alias] = self._registry.resolve(reference)
                except StateError:
                    raise
                except EkibenError as e:
                    if alias == "champion":
                        problems[model] = str(e)
                    if named := self._registry.aliases.get(model).get(alias):
                        problems[f"{model}:{named}"] = str(e)
        return wanted, problems

    def _defaults(
        self,
        wanted: Mapping[str, Mapping[str, Version]],
        loaded: Mapping[tuple[str, str], LoadedVersion],
        old: Snapshot,
        problems: dict[str, str],
    ) -> dict[str, LoadedVersion]:
        default: dict[str, LoadedVersion] = {}
        for model in self.models:
            champion = wanted[model].get("champion")
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
        predictor, manifest, cost = await asyncio.to_thread(load_checked, stored, self._providers)
        load_s = time.monotonic() - started
        logger.info("loaded %s in %.2f s on %s", stored.tag, load_s, predictor.runtime.device)
        metrics = self._metrics.of(stored.model, stored.version, predictor.spec.labels)
        return LoadedVersion(stored, predictor, manifest=manifest, metrics=metrics, cost=cost, load_s=load_s)

    def _unload(self, version: LoadedVersion) -> None:
        logger.info("unloading %s:%s", version.model, version.version)
        task = asyncio.create_task(version.batcher.drain())
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)


def load_checked(stored: Version, providers: tuple[str, ...]) -> tuple[Predictor, Manifest, CostModel]:
    """Loads a version, checks it (checksums, golden rows) and warms it; fit for a thread.

    Raises:
        ArtifactError: It is refused; the message says why.
    """
    artifact = read_artifact(stored.path)
    artifact.verify()
    predictor = Predictor.of(artifact, providers=providers)
    predictor.replay(artifact)
    return predictor, artifact.manifest, warm(predictor, artifact.golden_rows().rows)


def warm(predictor: Predictor, rows: Sequence[Any]) -> CostModel:
    """Runs batches of several sizes made of the rows given, so that no request pays for first runs; times them."""
    cost = CostModel()
    largest = predictor.spec.batching.max_batch_size
    parsed = predictor.signature.parse_rows(list(rows))
    if not predictor.signature.fixed_shapes:
        parsed = parsed[:1]
    for size in sorted({min(s, largest) for s in (*_WARM_SIZES, largest)}) if parsed else ():
        if cost.seconds(size) > _WARM_LIMIT_S:
            break
        payload = [parsed[n % len(parsed)] for n in range(size)]
        seconds = []
        for _ in range(_WARM_RUNS):
            started = time.monotonic()
            batch = predictor.signature.batch(payload)
            predictor.signature.check(batch)
            predictor.run(batch)
            seconds.append(time.monotonic() - started)
        cost.observe(size, min(seconds))
    return cost
