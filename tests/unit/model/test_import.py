"""Importing `ekiben.model` is light: a device and a function pay for nothing they do not use."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ("bentoml", "sklearn", "torch", "onnxruntime", "pandas", "yaml", "onnx", "skops", "pydantic", "sqlalchemy")
TIMES = "from time import perf_counter as now; start = now(); import {module}; print(now() - start)"
ROUNDS = 9


def run(code: str, **variables: str) -> str:
    # Without coverage, which traces this package's imports and not numpy's.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHONDONTWRITE"))}
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environ | variables).stdout


def test_it_loads_no_framework():
    loaded = run("import ekiben.model, sys; print(*sys.modules)").split()

    assert "ekiben.model.predictor" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_running_an_onnx_artifact_loads_onnxruntime_and_no_other_framework(tiny_artifact):
    opening = f"Predictor.open(Path({str(tiny_artifact.path)!r}))"
    code = f"import sys; from pathlib import Path; from ekiben.model import Predictor; {opening}; print(*sys.modules)"
    loaded = run(code).split()

    assert [name for name in HEAVY if name in loaded] == ["onnxruntime"]


def test_it_costs_at_most_half_as_much_again_as_numpy_alone(tmp_path):
    def seconds(module: str) -> float:
        # Both with compiled bytecode, as any installed package has it.
        return float(run(TIMES.format(module=module), PYTHONPYCACHEPREFIX=str(tmp_path)))

    seconds("ekiben.model")
    # The least of several runs in turn: what else the machine does falls on both.
    runs = [(seconds("numpy"), seconds("ekiben.model")) for _ in range(ROUNDS)]
    numpy_s, ekiben_s = (min(times) for times in zip(*runs, strict=True))

    assert ekiben_s <= 1.5 * numpy_s, f"import numpy: {numpy_s * 1000:.0f} ms, import ekiben.model: {ekiben_s * 1000:.0f} ms"
