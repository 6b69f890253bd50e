from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ekiben.model.artifact import ModelFile
from ekiben.model.spec import dump_spec
from ekiben.registry import FolderRegistry
from ekiben.state.aliases import MemoryAliases
from training.datasets import Dataset
from training.job import Job, Trained
from training.progress import Steps
from training.splits import Split

FLIGHTS = "year,month,day,sched_dep_time,sched_arr_time,arr_delay,carrier,origin,dest,distance,time_hour"
WEATHER = "origin,time_hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib"


@pytest.fixture
def flight_source(tmp_path):
    """Writes a source of flights: lists of CSV lines, without their headings."""

    def write(flights: list[str], weather: list[str]) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        (folder / "flights.csv").write_text("\n".join([FLIGHTS, *flights]) + "\n")
        (folder / "weather.csv").write_text("\n".join([WEATHER, *weather]) + "\n")
        return folder

    return write


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def steps(shown) -> Steps:
    return Steps(Console(file=shown, width=200), clock=lambda: 0.0)


@pytest.fixture
def registry(tmp_path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "store", MemoryAliases())


@pytest.fixture
def tiny_folder(tmp_path, tiny_spec) -> Path:
    """``models/tiny``, without feature code."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(dump_spec(tiny_spec))
    (folder / "README.md").write_text("# tiny\n")
    return folder


@pytest.fixture
def tiny_data() -> Dataset:
    """600 rows for ``tiny``, labelled by the very rule that its graph computes, noise in every tenth row."""
    values = np.random.default_rng(3).uniform(-3, 3, (600, 4)).astype(np.float32)
    target = (values[:, 0] + values[:, 1] - values[:, 3] > 0.25).astype(np.int64)
    target[::10] = 1 - target[::10]
    columns = {name: values[:, i].copy() for i, name in enumerate("abcd")}
    columns["c"][::4] = np.nan
    return Dataset("made up", columns, target, window={"made": "up"})


@pytest.fixture
def tiny_job(tiny_folder, tiny_data, tiny_onnx):
    """Makes jobs that "train" the graph of ``tiny``: its own file is the original, and ``export`` whatever it is told."""

    def save(folder: Path) -> ModelFile:
        (folder / "native.onnx").write_bytes(tiny_onnx.read_bytes())
        return ModelFile(framework="onnx", file="native.onnx")

    def same(folder: Path) -> ModelFile:
        (folder / "model.onnx").write_bytes(tiny_onnx.read_bytes())
        return ModelFile(framework="onnx", file="model.onnx")

    def make(*, export=same, keep_native=False, fit=None, **changed) -> Job:
        trained = Trained(save, export, keep_native=keep_native)
        everything = np.arange(tiny_data.n)
        parts = Split(*(tiny_data.take(everything[start::3]) for start in range(3)))
        fields = {
            "folder": tiny_folder,
            "data": tiny_data,
            "split": parts,
            "fit": fit or (lambda data, step: trained),
            "parameters": {"seed": 0},
            "code": (),
            "packages": ("numpy",),
            "min_parity_rows": tiny_data.n,
        }
        return Job(**(fields | changed))

    return make
