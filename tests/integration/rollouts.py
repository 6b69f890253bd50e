"""Rollouts of a small real model: its good and bad versions, and the people who roll them out."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import onnx
from integration.running import Project, Running
from onnx import TensorProto, helper, numpy_helper

from ekiben.model import Artifact, CardSpec, InputSpec, ModelFile, ModelSpec, Provenance
from ekiben.model.build import build_artifact
from ekiben.model.spec import dump_spec

NAMES = "abcdef"
LABELS = ("no", "yes")
FAULTY = Path(__file__).with_name("faulty_models")
_WEIGHTS = np.array([1.0, -0.8, 0.6, 0.5, -0.4, 0.0])
_NOISE = 0.35


# ── the models ───────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[n, 6]`` in -1..1, and for each whether it really is a yes."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-1, 1, (n, len(NAMES))).astype(np.float32)
    return rows, rows @ _WEIGHTS + rng.normal(0, _NOISE, n) > 0


def fitted(seed: int) -> np.ndarray:
    """A linear classifier's six weights and its bias, trained on a draw of its own."""
    rows, truth = draw(4000, seed)
    solved, *_ = np.linalg.lstsq(np.c_[rows, np.ones(len(rows))], truth * 2.0 - 1, rcond=None)
    return solved * 4


def saved_graph(path: Path, weights: np.ndarray, *, ballast: int = 0) -> Path:
    """A linear classifier as ONNX; with ``ballast`` beside it a square matrix of that size, whose product counts for nothing."""
    dense = np.zeros((len(NAMES), 2), np.float32)
    dense[:, 1] = weights[:-1]
    constants = {"weight": dense, "bias": np.array([0, weights[-1]], np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["linear"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    if ballast:
        rng = np.random.default_rng(1)
        constants |= {
            "wide": rng.normal(0, 0.01, (len(NAMES), ballast)).astype(np.float32),
            "square": rng.normal(0, 0.01, (ballast, ballast)).astype(np.float32),
            "narrow": np.zeros((ballast, 2), np.float32),
        }
        nodes[1:1] = [
            helper.make_node("MatMul", ["x", "wide"], ["widened"]),
            helper.make_node("MatMul", ["widened", "square"], ["squared"]),
            helper.make_node("MatMul", ["squared", "narrow"], ["nothing"]),
            helper.make_node("Add", ["linear", "nothing"], ["scores"]),
        ]
    else:
        nodes.insert(1, helper.make_node("Identity", ["linear"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(NAMES)])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def made(folder: Path, name: str, kind: str, *, seed: int = 2, ballast: int = 0, **more: Any) -> Artifact:
    """One artifact of a model: ``good``, or what a file in ``faulty_models`` makes of it, or ``unfit`` with another input.

    ``more`` are further fields of its spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [*NAMES[:-1], "other"] if kind == "unfit" else list(NAMES)
    features = FAULTY / f"{kind}.py"
    rows, _ = draw(300, seed=3)
    seen = [[round(float(v), 6) for v in row] for row in rows if row[-1] < 0.75]
    target = folder / f"{name}-{kind}-{seed}"
    return build_artifact(
        target,
        spec=ModelSpec(
            name=name,
            task="binary_classification",
            labels=LABELS,
            inputs=tuple(InputSpec(name=n, type="float") for n in names),
            card=CardSpec(owner="tests"),
            **more,
        ),
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": saved_graph(folder / f"{name}-{kind}-{seed}.onnx", fitted(seed), ballast=ballast)},
        provenance=Provenance(created=f"2026-01-01T00:00:{seed:02d}Z"),
        golden_rows=seen[:32],
        reference=seen[:100] if kind != "slow" else seen[:40],
        features=features if features.exists() else None,
    )


def register(project: Project, versions: Sequence[tuple[Artifact, str]]) -> None:
    """Registers artifacts under versions, in their order, so that the first of a model is its champion."""
    script = (
        "import sys, pathlib; from ekiben.registry import open_registry; from ekiben.settings import load_settings;"
        "r = open_registry(load_settings());"
        "[r.register(pathlib.Path(p), tag=t) for p, t in zip(sys.argv[1::2], sys.argv[2::2])]"
    )
    pairs = [text for artifact, version in versions for text in (str(artifact.path), f"{artifact.spec.name}:{version}")]
    subprocess.run([sys.executable, "-c", script, *pairs], cwd=project.root, env=project.env, check=True, timeout=120)
    for spec in {artifact.spec.name: artifact.spec for artifact, _ in reversed(versions)}.values():
        (project.root / "models" / spec.name).mkdir(exist_ok=True)
        (project.root / "models" / spec.name / "model.yaml").write_text(dump_spec(spec))


def corrupt(project: Project, tag: str) -> None:
    """Changes a byte of a version's model after it was registered."""
    file = project.stored(tag) / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def detached(server: Running) -> list[str]:
    """Files of the control database that a worker holds though they are deleted: it would work on what nobody else sees."""
    links = []
    for file in (file for pid in server.workers() for file in Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # closed since the folder was read
            links.append(file.readlink())
    return [str(target) for target in links if "control.db" in target.name and str(target).endswith("(deleted)")]


def copied(project: Project, root: Path) -> Project:
    """Another project with a copy of the models and the store."""
    other = Project(root)
    for part in ("models", "bentoml"):
        shutil.copytree(project.root / part, root / part, dirs_exist_ok=True)
    return other


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan(project: Project, *steps: Any, name: str = "plan", analysis: dict[str, Any] | None = None, **more: Any) -> str:
    """Writes a plan with short bakes; returns its file's name."""
    judged = {"interval": "1s", "minRequests": 30, **(analysis or {})}
    (project.root / f"{name}.yaml").write_text(json.dumps({"steps": steps, "analysis": judged, **more}))
    return f"{name}.yaml"


def ekiben(project: Project, *words: str) -> Any:
    """What an ``ekiben`` command answers, as JSON."""
    return json.loads(project.run("ekiben", *words, "--json").stdout)


class Admin:
    """The admin API of a running server, with the key in its home."""

    def __init__(self, server: Running) -> None:
        key = (server.project.root / "home" / "admin.key").read_text().strip()
        # A connection each: a worker that is killed takes those it has with it.
        self._client = httpx.Client(
            base_url=f"{server.url}/admin/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=10,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(self._client.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return self._answer(self._client.post(path, json=body if body is not None else {}))

    def status(self, model: str) -> Any:
        return self.get(f"/rollouts/{model}")

    def events(self, model: str) -> list[Any]:
        return self.get(f"/models/{model}/events", limit=1000)

    def until(self, model: str, *, is_so: Callable[[Any], bool], seconds: float) -> Any:
        """Waits until the status of a model's rollout is as wanted; returns it."""
        end = time.monotonic() + seconds
        while not is_so(status := self.status(model)):
            assert time.monotonic() < end, f"{model} is not there after {seconds} s: {told(status)}"
            time.sleep(0.2)
        return status

    def until_ended(self, model: str, *, seconds: float = 60) -> Any:
        return self.until(model, is_so=lambda s: s["status"] in ("Completed", "RolledBack", "Aborted"), seconds=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @staticmethod
    def _answer(answer: httpx.Response) -> Any:
        assert answer.status_code < 300, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json()


def told(status: Any) -> str:
    """Where a rollout stands, some lines."""
    measured = [f"{m['metric']} {m['outcome']} {status['now'] - m['time']:.1f} s ago: {m['message']}" for m in status["measurements"]]
    return "\n".join([f"{status['status']} in step {status['step']}: {status['message']}; next: {status['next']}", *measured])


def event_of(events: Iterable[Any], kind: str) -> Any:
    """The one event of a kind."""
    (found,) = [e for e in events if e["kind"] == kind]
    return found
