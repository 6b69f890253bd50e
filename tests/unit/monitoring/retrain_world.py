"""A model that answered for 120 days, its truths, and a training script that is a function: everything that retraining needs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper
from unit.monitoring.logged import DAY_S, Logged

from ekiben.model import Artifact, ModelSpec, Provenance
from ekiben.model.build import build_artifact
from ekiben.model.monitor_spec import MonitorSpec
from ekiben.monitoring.retraining import Retraining
from ekiben.monitoring.training_rows import Rows, read_rows
from ekiben.registry import FolderRegistry
from ekiben.state.control import memory_control

DAYS = 120
A_DAY = 20
N = DAYS * A_DAY
START = 20_000 * DAY_S


class RetrainWorld:
    """The tiny model, whose truth is ``a + b - d > .25``; version 1 is the champion.

    Args:
        folder: Where things are kept.
        artifact: The tiny model.
        champion: The weight of ``a``, b and d in the champion: (1, 1, -1) is always right.
        changed: Fields of its spec.

    Attributes:
        learnt: What the training script got.
        makes: The weights of the version that it will make.
    """

    def __init__(self, folder: Path, artifact: Artifact, *, champion=(1, 0, 0), **changed) -> None:
        self.folder = folder
        self._artifact = artifact
        self.now = START + DAYS * DAY_S
        self.control = memory_control(lambda: self.now)
        self.registry = FolderRegistry(folder / "store", self.control.aliases)
        self.spec: ModelSpec = msgspec.structs.replace(artifact.spec, monitor=MonitorSpec(min_rows=100), **changed)
        self.makes = (1, 1, -1)
        self.learnt: list[tuple[str, Rows]] = []
        self.register("1", champion)
        values = np.random.default_rng(3).uniform(-3, 3, (N, 4)).astype(np.float32)
        truth = values[:, 0] + values[:, 1] - values[:, 3] > 0.25
        self.rows = Logged(
            {name: values[:, i] for i, name in enumerate("abcd")},
            np.where(truth, "yes", "no").tolist(),
            START + np.arange(N) * DAY_S / A_DAY,
        )

    def register(self, version: str, weights) -> str:
        """Registers a version with these weights; returns its tag."""
        graph = onnx.load(self._artifact.path / "model.onnx")
        for tensor in graph.graph.initializer:
            if tensor.name == "weight":
                a, b, d = weights
                tensor.CopyFrom(numpy_helper.from_array(np.array([[0, a], [0, b], [0, 0], [0, d]], np.float32), "weight"))
        file = self.folder / f"{version}.onnx"
        onnx.save(graph, file)
        golden = self._artifact.golden_rows().rows
        made = build_artifact(
            self.folder / f"artifact-{version}",
            spec=self.spec,
            model=self._artifact.manifest.model,
            files={"model.onnx": file},
            provenance=Provenance(created=f"2026-01-0{version}T00:00:00+00:00"),
            golden_rows=golden,
            reference=golden,
        )
        return self.registry.register(made.path, tag=f"tiny:{version}").tag

    def train(self, module: str, file: Path) -> str:
        """The training script."""
        self.learnt.append((module, read_rows(file, self.spec)))
        return self.register(str(len(self.learnt) + 1), self.makes)

    def retraining(self, **parts) -> Retraining:
        given = {"rows": self.rows, "train": self.train, "who": "ann@desk", "holder": "desk:1", "wall": lambda: self.now}
        return Retraining(self.control, self.registry, **(given | parts))

    def events(self) -> list[str]:
        return [event.kind for event in self.control.events.find(model="tiny")]
