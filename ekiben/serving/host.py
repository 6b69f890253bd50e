"""Which versions are loaded: load, swap, drain, unload.

The host keeps one immutable snapshot of who answers what. A change (an alias was moved, a rollout went on, somebody had a
model loaded or unloaded) makes a new snapshot at once, of what is loaded, and swaps it in, so that a request sees either the
old or the new and nothing between. What is not loaded yet is loaded beside that, and swapped in when it is there: a version
that takes long to load holds nothing up. What fails to load is reported and never replaces what runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from ekiben.errors import EkibenError, NotReady, StateError, UnknownModel
from ekiben.monitoring.inference_log import InferenceLog
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Registry, Version
from ekiben.serving.arm_record import Taken
from ekiben.serving.breaker_news import BreakerNews
from ekiben.serving.control_link import ControlLink
from ekiben.serving.control_view import ControlView, LastKnown, read_view
from ekiben.serving.load_meter import LoadMeter
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.loading import load_checked
from ekiben.serving.memory import give_back_memory, keep_for_good
from ekiben.serving.shadowing import arrange_records, close_shadows, let_go
from ekiben.serving.snapshot import Key, Snapshot, Wanted, snapshot_of, wanted_of
from ekiben.state import Control
from ekiben.state.events import Event
from ekiben.state.workers import WorkerState

logger = logging.getLogger("ekiben.host")

POLL_S = 0.5
_LOADS_AT_ONCE: Final = 2
_USED_S: Final = 10.0

TakenFrom = tuple[str, str, str, Taken]
"""Model, version and arm, and what happened to it."""


class Host:
    """Holds the loaded versions of the models it is given, and of those that somebody had loaded.

    Args:
        models: Names of the models to serve, from the models folder.
        registry: Where versions are.
        control: What should be loaded and who answers.
        metrics: This process's collectors.
        link: Hears whether the control database answers.
        last_known: Keeps what it said last; None keeps nothing.
        providers: ONNX Runtime's execution providers to prefer.
        on_change: Called in the event loop after each swap.
        log: Where answered rows are logged; None for nowhere.
        redis_url: Where versions share remembered answers; empty for nowhere.

    Attributes:
        folder: The models of the models folder.
        snapshot: Who answers now.
        loading: Versions being loaded.
        metrics: This process's collectors.
        link: As given.
        in_force: The generation that is in force, all of it loaded or refused.
        in_force_at: Since when, seconds since the epoch.
    """

    def __init__(
        self,
        models: Sequence[str],
        registry: Registry,
        control: Control,
        metrics: Metrics,
        *,
        link: ControlLink,
        last_known: LastKnown | None = None,
        providers: tuple[str, ...] = (),
        on_change: Callable[[], None] = lambda: None,
        log: InferenceLog | None = None,
        redis_url: str = "",
    ) -> None:
        self.folder = tuple(models)
        self.snapshot = Snapshot(problems=dict.fromkeys(models, "is being loaded"), models=self.folder)
        self.metrics = metrics
        self.link = link
        self.in_force: tuple[int, ...] = ()
        self.in_force_at = 0.0
        self._registry = registry
        self._control = control
        self._last_known = last_known
        self._providers = providers
        self._on_change = on_change
        self._log = log
        self._redis_url = redis_url
        self._meter = LoadMeter()
        self._wanted = Wanted(ControlView(), {}, {}, {}, frozenset())
        self._available: dict[Key, LoadedVersion] = {}
        self._refused: dict[Key, str] = {}
        self._loads: dict[Key, asyncio.Task[None]] = {}
        self._load_slots = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._drains: dict[asyncio.Task[None], Key] = {}
        self._left: list[TakenFrom] = []
        self._left_news: list[BreakerNews] = []

    # ── what the data plane asks ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models to serve: those of the models folder and those that were loaded, without those unloaded."""
        return self.snapshot.models

    @property
    def loading(self) -> set[Key]:
        """Versions that are being loaded."""
        return set(self._loads)

    @property
    def unloading(self) -> set[Key]:
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
        if self._log is not None:
            self.metrics.log_up(not self._log.problem)
        for version in self.snapshot.loaded.values():
            version.write_metrics()

    def take_records(self) -> list[TakenFrom]:
        """What happened to each arm since this was asked last, also of versions that are gone meanwhile; in the event loop."""
        left, self._left = self._left, []
        return [*left, *(taken for version in self._available.values() for taken in _taken(version))]

    def take_news(self, worker: str) -> list[Event]:
        """What breakers did since this was asked last; in the event loop."""
        left, self._left_news = self._left_news, []
        return [event for news in (*left, *(v.record.news for v in self._available.values())) for event in news.take(worker)]

    def say(self, worker: str) -> WorkerState:
        """What this worker has loaded and follows, and which of it is broken."""
        versions: dict[str, tuple[str, ...]] = {}
        for model, version in sorted(self.snapshot.loaded):
            versions[model] = (*versions.get(model, ()), version)
        return WorkerState(
            id=worker, models=self.models, versions=versions, problems=self.snapshot.problems,
            generation=self.in_force, in_force_at=self.in_force_at, broken=self.broken(),
        )  # fmt: skip

    def broken(self) -> dict[str, str]:
        """``model:version`` → why it counts as broken; others answer on, so it makes the server no less ready."""
        return {
            f"{model}:{version}": why
            for (model, version), served in sorted(self.snapshot.loaded.items())
            if (why := served.breaker.problem())
        }

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Loads what should be served, then watches for changes until `stop`.

        While the control database is away, what was known last is served; where nothing is known, the server is not ready and
        goes on asking.
        """
        try:
            await self.refresh()
        except StateError as e:
            self.link.failed("read", e)
            await self._start_without(e)
        keep_for_good()
        works = (self._watch(), self._write_metrics(), self._meter.run(), self._keep_what_is_there())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _start_without(self, error: StateError) -> None:
        view = await asyncio.to_thread(self._last_known.read) if self._last_known is not None else None
        if view is None:
            self.snapshot = Snapshot(problems=dict.fromkeys(self.folder, str(error)), models=self.folder)
            return
        async with self._refreshing:
            self._follow(await asyncio.to_thread(wanted_of, view, self._registry, self.folder))
        await self._loaded()

    async def stop(self) -> None:
        """Answers what is queued and unloads everything."""
        for task in (*self._tasks, *self._loads.values()):
            task.cancel()
        close_shadows(self.snapshot)
        await asyncio.gather(*self._drains, *(v.drain() for v in self._available.values()))

    async def refresh(self) -> None:
        """Brings what is loaded in line with the control database, now; tries again what failed before.

        Raises:
            StateError: The control database cannot be read; nothing has changed.
        """
        async with self._refreshing:
            await self._refresh()
        await self._loaded()

    async def _loaded(self) -> None:
        """Waits until everything that is being loaded is there, or refused."""
        while self._loads:
            await asyncio.wait(self._loads.values())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                async with self._refreshing:
                    if await asyncio.to_thread(self._control.generation) != self._wanted.view.generation:
                        await self._refresh()
                self.link.answered("read")
            except StateError as e:
                self.link.failed("read", e)
            except Exception:
                logger.exception("the models cannot be looked for, serving goes on unchanged")

    async def _keep_what_is_there(self) -> None:
        """Once more when all parts have been used a little, and are imported."""
        await asyncio.sleep(_USED_S)
        await asyncio.to_thread(keep_for_good)

    async def _write_metrics(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                self.write_metrics()
            except Exception:
                logger.exception("the metrics cannot be written")

    async def _refresh(self) -> None:
        """Brings the snapshot in line with the control database; not twice at once.

        Raises:
            StateError: It cannot be read; nothing has changed.
        """
        view = await asyncio.to_thread(read_view, self._control, self._registry)
        self._refused.clear()
        self._follow(await asyncio.to_thread(wanted_of, view, self._registry, self.folder))
        self.link.answered("read")
        if self._last_known is not None:
            await asyncio.to_thread(self._last_known.write, view)

    def _follow(self, wanted: Wanted) -> None:
        """Has what is wanted answer, as far as it is loaded, and begins to load the rest."""
        self._wanted = wanted
        for key, stored in wanted.all().items():
            if key not in self._available and key not in self._loads:
                self._loads[key] = asyncio.create_task(self._load(stored))
        self._swap()

    def _swap(self) -> None:
        """Puts a new snapshot in force and lets go of what it does not hold."""
        old = self.snapshot
        snapshot = snapshot_of(self._wanted, self._available, self._refused, old)
        arrange_records(snapshot, self._wanted.view.routes, self._meter)
        self.snapshot = snapshot
        if not self._loads.keys() & self._wanted.all().keys() and self.in_force != self._wanted.view.generation:
            self.in_force, self.in_force_at = self._wanted.view.generation, self.metrics.wall()
        self._on_change()
        for key in [key for key in self._available if key not in snapshot.loaded]:
            self._unload(self._available.pop(key))

    async def _load(self, stored: Version) -> None:
        """Loads a version and has it answer, or notes why it cannot."""
        key = (stored.model, stored.version)
        try:
            async with self._load_slots:
                started = time.monotonic()
                predictor, manifest, cost = await asyncio.to_thread(load_checked, stored, self._providers, self._registry.policy)
                load_s = time.monotonic() - started
                if self._tasks:  # while it serves; at the start that is done once for all
                    await asyncio.to_thread(keep_for_good)
        except Exception as e:
            logger.exception("refused %s", stored.tag)
            self._refused[key] = str(e) if isinstance(e, EkibenError) else f"{type(e).__name__}: {e}"
        else:
            logger.info("loaded %s in %.2f s on %s", stored.tag, load_s, predictor.runtime.device)
            self._available[key] = LoadedVersion(
                stored,
                predictor,
                manifest=manifest,
                metrics=self.metrics,
                cost=cost,
                load_s=load_s,
                log=self._log,
                redis_url=self._redis_url,
            )
        finally:
            self._loads.pop(key, None)
        try:
            self._swap()
        except Exception:
            logger.exception("%s is loaded and cannot be put to use", stored.tag)

    def _unload(self, version: LoadedVersion) -> None:
        logger.info("unloading %s:%s", version.model, version.version)
        let_go(version)
        task = asyncio.create_task(self._drain(version))
        self._drains[task] = (version.model, version.version)
        task.add_done_callback(self._drains.pop)

    async def _drain(self, version: LoadedVersion) -> None:
        await version.drain()
        self._left += _taken(version)
        self._left_news.append(version.record.news)
        del version
        await asyncio.to_thread(give_back_memory)


def _taken(version: LoadedVersion) -> list[TakenFrom]:
    return [(version.model, version.version, arm, taken) for arm, taken in version.record.take()]
