"""A small world for rollouts: a model with three versions, workers, users and a clock, all in memory."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from ekiben.model import CardSpec, InputSpec, Manifest, ModelFile, ModelSpec, Provenance
from ekiben.model.artifact import FORMAT, MANIFEST
from ekiben.model.rollout_spec import PlanSpec
from ekiben.registry import FolderRegistry
from ekiben.rollout.controller import Controller
from ekiben.rollout.operations import Operations
from ekiben.rollout.plan import plan_from_builtins
from ekiben.state import Control, memory_control
from ekiben.state.histogram import Histogram
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

MODEL = "tiny"
SPEC = ModelSpec(
    name=MODEL,
    task="binary_classification",
    labels=("no", "yes"),
    inputs=(InputSpec(name="a", type="float"), InputSpec(name="b", type="float", nullable=True)),
    card=CardSpec(owner="tests"),
)
START = 1_000_000.0
ANALYSIS = {"interval": "1s", "metrics": [{"name": "errorRate"}], "minRequests": 20}


def plan(*steps, analysis=None, **fields) -> PlanSpec:
    return plan_from_builtins({"steps": list(steps), "analysis": ANALYSIS if analysis is None else analysis, **fields}, file="plan")


class World:
    """All there is; `pass_time` has everything happen that happens in a while.

    Args:
        folder: Where the versions are kept.
        workers: How many serve.
        control: The control database; None has one in memory.
    """

    def __init__(self, folder, *, workers=2, control: Control | None = None) -> None:
        self.now = START
        self.folder = folder
        self.control = memory_control(self.wall) if control is None else control
        self.registry = FolderRegistry(folder / "store", self.control.aliases)
        for version in ("v1", "v2", "v3"):
            self.register(version)
        self.workers = [f"host:{n}:1" for n in range(workers)]
        self.loadable = {"v1", "v2", "v3"}
        self.problems: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.error_rates: dict[str, float] = {}
        self.requests_per_s = 200
        self.controller = self.make_controller()

    def wall(self) -> float:
        return self.now

    def make_controller(self, holder="host:1", control=None, **parts) -> Controller:
        return Controller(
            control or self.control,
            self.registry,
            **{"holder": holder, "wall": self.wall, "clock": self.wall, "query": lambda spec: None, **parts},
        )

    def operations(self, who="ann@desk", plan_folder=None) -> Operations:
        return Operations(self.control, self.registry, who=who, wall=self.wall, plan_folder=plan_folder)

    def register(self, version, spec=SPEC) -> None:
        folder = self.folder / f"{spec.name}-{version}"
        folder.mkdir()
        files = {"model.onnx": b"a model", "golden.json": b'{"rows": [], "outputs": []}', "profile.json": b"{}"}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        manifest = Manifest(
            format=FORMAT,
            spec=spec,
            model=ModelFile(framework="onnx", file="model.onnx"),
            provenance=Provenance(created=f"2026-01-01T00:00:00.{version[1:]}"),
            checksums={name: sha256(content).hexdigest() for name, content in files.items()},
        )
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        self.registry.register(folder, tag=f"{spec.name}:{version}")

    # time ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def speak(self) -> None:
        """Every worker loads what is wanted and says so."""
        aliases, route = self.control.aliases.get(MODEL), self.control.routes.get(MODEL)
        wanted = {*aliases.values(), *(route.versions() if route else ())}
        for worker in self.workers:
            self.control.workers.say(
                WorkerState(
                    id=worker,
                    models=(MODEL,),
                    versions={MODEL: tuple(sorted(wanted & self.loadable))},
                    problems=self.problems,
                    broken=self.broken,
                    generation=self.control.generation(),
                    in_force_at=self.now,
                )
            )

    def answer(self, second: int) -> None:
        """Users ask for a second, by the weights that are in force."""
        aliases, route = self.control.aliases.get(MODEL), self.control.routes.get(MODEL)
        arms = {arm.name: (arm.version, route.weight(arm.name)) for arm in route.arms} if route else {}
        arms["champion"] = (aliases["champion"], 100 - sum(weight for _, weight in arms.values()))
        shadows = dict.fromkeys(["shadow"], (route.shadows[0].version, 100 * route.shadows[0].rate)) if route and route.shadows else {}
        windows = []
        for arm, (version, weight) in {**arms, **shadows}.items():
            n = round(self.requests_per_s * weight / 100)
            failed = round(n * self.error_rates.get(version, 0.0))
            latency = Histogram.of([0.01] * (n - failed))
            window = Window(ok=n - failed, errors={"PredictionFailed": failed} if failed else {}, latency=latency, compute=latency)
            if n:
                windows.append((WindowKey(MODEL, version, arm, second), window))
        for worker in self.workers[:1]:
            self.control.windows.add(worker, windows)

    def pass_time(self, duration_s: float, *, tick=True) -> None:
        """Twice a second: workers speak, users ask, the controller ticks."""
        for _ in range(round(duration_s * 2)):
            self.now += 0.5
            self.speak()
            if self.now == int(self.now):
                self.answer(int(self.now) - 1)
            if tick:
                self.controller.tick()

    # what there is ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def rollout(self):
        return self.control.rollouts.find(model=MODEL, limit=1)[0]

    @property
    def route(self):
        return self.control.routes.get(MODEL)

    @property
    def weight(self) -> float:
        return self.route.weight("challenger") if self.route else 0.0

    def kinds(self) -> list[str]:
        return [event.kind for event in self.control.events.find(model=MODEL, limit=1000)]
