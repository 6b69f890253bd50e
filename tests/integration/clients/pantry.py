"""A project with one model for each thing that clients do differently, made once for all tests of clients.

| name | inputs | outputs | what it is for |
|---|---|---|---|
| ``tiny`` | FP32 a, b, c, d; d in -10..10 | prediction, confidence, probabilities | a classifier: labels, classification, bad rows |
| ``image`` | FP32 [2, 3] | doubled [2, 3], total [1] | a tensor, several outputs, bodies of bare bytes |
| ``all_types`` | two values of each datatype | each twice over | every datatype, strings and FP16 among them |
| ``texts`` | BYTES a, b | their concatenation y, the code n of a | strings |
| ``several`` | FP32 a [3], FP32 b, INT64 k | y = a b, z = 2 k | inputs of different shapes and types |
| ``square`` | FP32 [4, 4], no batch dimension | y = x @ x | a tensor that is taken whole |
| ``spin`` | INT64 turns | done = turns | takes as long as it is told to, one row at a time |
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from integration.onnx_graphs import I64, F, info, node, save, save_cases
from integration.running import Project, Running
from onnx import TensorProto, helper

OF_CASES = ("all_types", "several", "square", "texts")
MODELS = sorted(("tiny", "image", "spin", *OF_CASES))
_SIDE = 256
_LEAST_TURNS = 4  # so that no run is short enough for the event loop

_SPECS = {
    "tiny": """
name: tiny
task: binary_classification
labels: ["no", "yes"]
inputs:
  - {name: a, type: float}
  - {name: b, type: float}
  - {name: c, type: float}
  - {name: d, type: float, min: -10, max: 10}
card: {owner: tests}
""",
    "spin": """
name: spin
task: tensor
inputs:
  - {name: turns, type: tensor, dtype: int64, shape: [1]}
outputs:
  - {name: done, dtype: int64, shape: [1]}
batching: {max_batch_size: 1}
timeout_ms: 60000
card: {owner: tests}
""",
}
_SAMPLES = {"spin": [{"turns": [1]}] * 32}

_ADD = """
import sys
from pathlib import Path
from ekiben.registry import open_registry
from ekiben.registry.adding import add_model
from ekiben.registry.model_source import source_of
from ekiben.settings import load_settings

registry = open_registry(load_settings())
for file in map(Path, sys.argv[1:]):
    sample = file.with_suffix(".json")
    add_model(
        registry, Path("models"), file.stem, source_of("onnx", file), sample=sample if sample.exists() else None, tag=f"{file.stem}:1"
    )
"""


def fill(project: Project, folder: Path) -> None:
    """Registers every model in version 1.

    Args:
        project: An empty project.
        folder: Where the models' files go.
    """
    folder.mkdir()
    files = [
        _tiny(folder / "tiny.onnx"),
        _image(folder / "image.onnx"),
        _spin(folder / "spin.onnx"),
        *save_cases(folder, OF_CASES).values(),
    ]
    for name, text in _SPECS.items():
        (project.root / "models" / name).mkdir()
        (project.root / "models" / name / "model.yaml").write_text(text)
    for name, rows in _SAMPLES.items():
        (folder / name).with_suffix(".json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-c", _ADD, *map(str, files)],
        cwd=project.root,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def wait_for_workers(server: Running, n: int, *, seconds: float = 60) -> None:
    """Waits until so many workers listen on the data port; the server is ready when the first of them is."""
    server.wait()
    end = time.monotonic() + seconds
    while sum(listens(pid, server.data_port) for pid in server.workers()) < n:
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.1)


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on a port."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in psutil.Process(pid).net_connections("tcp"))
    return False


def tiny_probabilities(rows: np.ndarray) -> np.ndarray:
    """What ``tiny`` computes: ``[n, 4]`` to ``[n, 2]``, yes where ``a + b - d`` is above .25."""
    score = rows[:, 0].astype(np.float64) + rows[:, 1] - rows[:, 3] - 0.25
    yes = 1 / (1 + np.exp(-score))
    return np.stack([1 - yes, yes], axis=1)


def _tiny(file: Path) -> Path:
    weights = {"weight": np.array([[0, 1], [0, 1], [0, 0], [0, -1]], np.float32), "bias": np.array([0, -0.25], np.float32)}
    nodes = [
        node("Gemm", ["x", "weight", "bias"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
        node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    return save(file, nodes, [info("x", F, ["n", 4])], [info("label", I64, ["n"]), info("probabilities", F, ["n", 2])], weights)


def _image(file: Path) -> Path:
    nodes = [
        node("Add", ["image", "image"], ["doubled"]),
        node("ReduceSum", ["image", "axes"], ["sums"], keepdims=0),
        node("Reshape", ["sums", "column"], ["total"]),
    ]
    outputs = [info("doubled", F, ["n", 2, 3]), info("total", F, ["n", 1])]
    return save(file, nodes, [info("image", F, ["n", 2, 3])], outputs, {"axes": np.array([1, 2]), "column": np.array([-1, 1])})


def _spin(file: Path) -> Path:
    """Multiplies a matrix by itself ``turns`` times and a few, and gives back ``turns``."""
    body = helper.make_graph(
        [node("MatMul", ["m", "m"], ["p"]), node("Clip", ["p", "low", "high"], ["q"]), node("Identity", ["go"], ["on"])],
        "turn",
        [info("i", I64, []), info("go", TensorProto.BOOL, []), info("m", F, [_SIDE, _SIDE])],
        [info("on", TensorProto.BOOL, []), info("q", F, [_SIDE, _SIDE])],
    )
    nodes = [
        node("ReduceMax", ["turns"], ["most"], keepdims=0),
        node("Add", ["most", "least"], ["count"]),
        node("Cast", ["most"], ["seed"], to=F),
        node("Expand", ["seed", "shape"], ["start"]),
        node("Loop", ["count", "", "start"], ["end"], body=body),
        node("ReduceMin", ["end"], ["lowest"], keepdims=0),
        # What the loop gave is used, so that it is not left out, and changes nothing: it is never above the highest value.
        node("Greater", ["lowest", "beyond"], ["never"]),
        node("Cast", ["never"], ["nothing"], to=I64),
        node("Add", ["turns", "nothing"], ["done"]),
    ]
    weights = {
        "least": np.int64(_LEAST_TURNS), "shape": np.array([_SIDE, _SIDE]), "beyond": np.float32(2), "low": np.float32(-1),
        "high": np.float32(1),
    }  # fmt: skip
    return save(file, nodes, [info("turns", I64, ["n", 1])], [info("done", I64, ["n", 1])], weights)
