"""Servers inside the test process, asked through ASGI; and a runtime whose every run a test sees and decides."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from ekiben.errors import StateError
from ekiben.model import CardSpec, InputSpec, ModelSpec, Predictor
from ekiben.model.runtimes.base import Runtime, TensorInfo
from ekiben.model.spec import BatchingSpec
from ekiben.monitoring.metrics import Metrics
from ekiben.registry import Registry
from ekiben.serving.arm_record import ArmRecord
from ekiben.serving.server import Server
from ekiben.settings import Settings
from ekiben.state import Control, MemoryAliases
from ekiben.state.rollouts import Change
from ekiben.state.routes import Route


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        """Runs a coroutine in the loop and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls a function in the loop."""

        async def called() -> Any:
            return function()

        return self.run(called())

    def close(self) -> None:
        """Ends what still runs, as `asyncio.run` does."""
        self.run(self._cancel_all())
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Fallback:
    """What stands behind the front: notes what it gets and answers 418."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope, receive, send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b"fallback"})


class TroubledAliases(MemoryAliases):
    """Aliases whose database fails while `trouble` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None
        self.reads_before_trouble = 0

    def _read(self) -> None:
        if self.trouble is not None:
            if self.reads_before_trouble == 0:
                raise self.trouble
            self.reads_before_trouble -= 1

    def all(self):
        self._read()
        return super().all()

    def generation(self):
        self._read()
        return super().generation()

    def fail(self, *, after: int = 0, error: Exception | None = None) -> None:
        self.reads_before_trouble = after
        self.trouble = error or StateError("the disk is on fire")

    def recover(self) -> None:
        self.trouble = None


class Trouble:
    """What fails of a control database.

    Attributes:
        methods: Names of the methods that fail; None for all of them.
    """

    def __init__(self) -> None:
        self.methods: set[str] | None = set()

    def strike(self, method: str) -> None:
        """Fails where it should."""
        if self.methods is None or method in self.methods:
            raise StateError("the disk is on fire")


class TroubledStore:
    """A store of a control database with troubles."""

    def __init__(self, store: Any, trouble: Trouble) -> None:
        self._store = store
        self._trouble = trouble

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def asked(*args: Any, **kw: Any) -> Any:
            self._trouble.strike(name)
            return method(*args, **kw)

        return asked


def troubled(control: Control, trouble: Trouble) -> Control:
    """A control database that fails as told."""
    stores = {name: TroubledStore(getattr(control, name), trouble) for name in control.__struct_fields__ if name != "name"}
    return Control(name=control.name, **stores)


class Serving:
    """A running server."""

    def __init__(
        self,
        registry: Registry,
        models: list[str],
        *,
        thread: LoopThread,
        home: Path,
        control: Control | None = None,
        tracer: Any = None,
        **settings: Any,
    ) -> None:
        self.thread = thread
        self.registry = registry
        self.fallback = Fallback()
        self.metrics = CollectorRegistry()
        self.server = Server(
            models,
            settings=Settings(
                **{"home": home, "database_url": "sqlite://", "workers": 1, "controller": False, "monitor": False, **settings}
            ),
            registry=registry,
            control=control,
            metrics=Metrics(self.metrics),
            fallback=self.fallback,
            tracer=tracer,
        )
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self.server.app), base_url="http://server")
        self.is_running = False

    def start(self) -> Serving:
        self.thread.run(self.server.start())
        self.is_running = True
        return self

    def stop(self) -> None:
        self.is_running = False
        self.thread.run(self.server.stop())
        self.thread.run(self._client.aclose())

    @property
    def control(self) -> Control:
        return self.server.control

    def route(self, model: str, **route: Any) -> None:
        """Puts a route in force: all that it names is loaded, or refused, when this returns."""
        self.control.rollouts.commit(Change(model=model, route=Route(**route)))
        self.thread.run(self.server.host.refresh())

    def record(self, model: str, version: str, arm: str) -> ArmRecord:
        """What happened to an arm."""
        return self.server.host.snapshot.loaded[model, version].record.arm(arm)

    def request(self, method: str, path: str, **kw: Any) -> httpx.Response:
        return self.thread.run(self._client.request(method, path, **kw))

    def get(self, path: str, **kw: Any) -> httpx.Response:
        return self.request("GET", path, **kw)

    def post(self, path: str, **kw: Any) -> httpx.Response:
        return self.request("POST", path, **kw)

    def predict(self, model: str, instances: list[Any], **kw: Any) -> httpx.Response:
        return self.post(f"/v1/models/{model}:predict", json={"instances": instances}, **kw)

    def raw(self, path: str, messages: list[dict[str, Any]], headers: dict[bytes, bytes] | None = None) -> tuple[int | None, Any]:
        """Sends ASGI messages as they are; returns status and JSON, or (None, None) when nothing was answered."""
        scope = {"type": "http", "method": "POST", "path": path, "headers": list((headers or {}).items())}
        sent: list[dict[str, Any]] = []
        waiting = iter(messages)

        async def receive():
            return next(waiting)

        async def send(message):
            sent.append(message)

        self.thread.run(self.server.app(scope, receive, send))
        return (sent[0]["status"], json.loads(sent[1]["body"])) if sent else (None, None)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels, once what was gathered is written."""
        if self.is_running:
            self.thread.call(self.server.host.write_metrics)
        return sum(
            sample.value
            for family in self.metrics.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class SeenRuntime(Runtime):
    """Computes ``y = a + 10 k`` and keeps the rows of every run.

    Attributes:
        runs: The values of ``a``, run by run.
        poison: A value of ``a`` for which a run fails.
        gate: A run waits for it.
        hold: Called at the begin of each run.
    """

    inputs = (TensorInfo("a", "float32", (None,)), TensorInfo("k", "int64", (None,)), TensorInfo("s", "object", (None,)))
    outputs = (TensorInfo("y", "float32", (None,)),)

    def __init__(self, poison: float | None = None, error: Exception | None = None) -> None:
        self.runs: list[list[float]] = []
        self.threads: set[str] = set()
        self.poison = poison
        self.error = error or RuntimeError("poisoned")
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def run(self, feeds, outputs):
        self.runs.append(feeds["a"].tolist())
        self.threads.add(threading.current_thread().name)
        self.began.set()
        assert self.gate.wait(30)
        if self.poison is not None and (feeds["a"] == np.float32(self.poison)).any():
            raise self.error
        return {"y": (feeds["a"] + 10 * feeds["k"]).astype(np.float32)}

    @property
    def seen(self) -> list[float]:
        """All values of ``a`` in the order they were run."""
        return [value for run in self.runs for value in run]


def seen_predictor(runtime: SeenRuntime | None = None, *, timeout_ms: float = 1000.0, **batching: Any) -> Predictor:
    """A predictor over `SeenRuntime`: a float in ±1e6, an integer, a category."""
    spec = ModelSpec(
        name="seen",
        task="regression",
        inputs=(
            InputSpec(name="a", type="float", min=-1e6, max=1e6),
            InputSpec(name="k", type="int"),
            InputSpec(name="s", type="string", categories=("x", "y")),
        ),
        card=CardSpec(owner="tests"),
        batching=BatchingSpec(**batching),
        timeout_ms=timeout_ms,
    )
    return Predictor(spec, runtime or SeenRuntime())
