"""Puts the benchmark's models where Ekiben serves from: registered in the store, each in a models folder of its own.

As a program: ``python -m load_tests.bench.ekiben_store FOLDER`` reads a list of `BenchModel` as JSON on standard input. It
runs apart from the benchmark because BentoML decides where its store is when it is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

from ekiben.model.artifact import Artifact, ModelFile, Provenance
from ekiben.model.build import build_artifact
from ekiben.model.guard_spec import CacheSpec
from ekiben.model.spec import CardSpec, InputSpec, ModelSpec, OutputSpec, dump_spec
from ekiben.registry import Registry, open_registry
from ekiben.registry.provenance import framework_versions, now
from ekiben.settings import load_settings
from load_tests.bench.models import BenchModel
from load_tests.bench.sides import CACHED_MODEL, CACHED_VERSION, CHAMPION_VERSION, SECOND_VERSION, TWIN_MODELS
from load_tests.bench.twins import twins_of

_LABELS: Final = ("no", "yes")


def models_folder(folder: Path, name: str) -> Path:
    """The models folder that has only this model."""
    return folder / f"serve-{name}"


def twins_folder(folder: Path, name: str) -> Path:
    """The models folder that has this model and its twins."""
    return folder / f"twins-{name}"


def spec_of(model: BenchModel) -> ModelSpec:
    """The model's spec: named numbers and two labels for a classifier, a tensor in and out for the others; defaults elsewhere."""
    card = CardSpec(owner="the benchmark")
    if model.task == "binary_classification":
        inputs = tuple(InputSpec(name=f"x{n}", type="float") for n in range(model.features))
        return ModelSpec(name=model.name, task="binary_classification", inputs=inputs, labels=_LABELS, card=card)
    tensor = InputSpec(name="x", type="tensor", dtype="float32", shape=(model.features,))
    output = OutputSpec(name="y", dtype="float32", shape=(model.classes,))
    return ModelSpec(name=model.name, task="tensor", inputs=(tensor,), outputs=(output,), card=card)


def add_model(model: BenchModel, folder: Path, registry: Registry) -> None:
    """Registers a model twice and writes its spec.

    The first version is the champion; the second has the same files, for what needs another version. The model that is measured with
    a cache has a third, which remembers its answers, and those that have twins are registered as these, too.

    Args:
        model: The model.
        folder: A folder for its artifact and its models folder.
        registry: Where to register it.
    """
    spec = spec_of(model)
    artifact = _artifact(model, spec, folder / f"artifact-{model.name}")
    for version in (CHAMPION_VERSION, SECOND_VERSION):
        registry.register(artifact.path, tag=f"{model.name}:{version}")
    if model.name == CACHED_MODEL:
        remembers = msgspec.structs.replace(spec, cache=CacheSpec(enabled=True))
        registry.register(_artifact(model, remembers, folder / f"artifact-{model.name}-cached").path, tag=f"{model.name}:{CACHED_VERSION}")
    _write(spec, models_folder(folder, model.name))
    if model.name in TWIN_MODELS:
        for twin in twins_of(spec).values():
            _write(twin, twins_folder(folder, model.name))
            if twin.name != model.name:
                registry.register(_artifact(model, twin, folder / f"artifact-{twin.name}").path, tag=f"{twin.name}:{CHAMPION_VERSION}")


def _write(spec: ModelSpec, folder: Path) -> None:
    file = folder / spec.name / "model.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(dump_spec(spec))


def _artifact(model: BenchModel, spec: ModelSpec, folder: Path) -> Artifact:
    return build_artifact(
        folder,
        spec=spec,
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": Path(model.file)},
        provenance=Provenance(created=now(), frameworks=framework_versions("onnx", "onnxruntime")),
        golden_rows=model.rows,
        reference=model.rows,
    )


def main() -> None:
    """Reads the models and adds them."""
    folder = Path(sys.argv[1])
    registry = open_registry(load_settings())
    for model in msgspec.json.decode(sys.stdin.buffer.read(), type=list[BenchModel]):
        add_model(model, folder, registry)


if __name__ == "__main__":
    main()
