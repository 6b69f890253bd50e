"""The models of the benchmark on disk, with the rows that are sent and the answers they must be given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from load_tests.bench import graphs
from load_tests.bench.graphs import Floats

ROWS_SENT: Final = 64
HEAVY_RUN_MS: Final = 4.0


class BenchModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        name: ``tabular``, ``mlp``, ``wide`` or ``heavy``.
        file: Path of the ONNX file; text, because the model travels between processes as JSON.
        task: Its task in Ekiben's words.
        rows: The rows that clients send, in turn.
        answers: What ONNX Runtime gives for them.
        decimals: Decimals with which the rows are written.
    """

    name: str
    file: str
    task: str
    rows: list[list[float]]
    answers: list[list[float]]
    decimals: int

    @property
    def features(self) -> int:
        """Values in a row."""
        return len(self.rows[0])

    @property
    def classes(self) -> int:
        """Values in an answer."""
        return len(self.answers[0])


def make_models(folder: Path, names: list[str]) -> dict[str, BenchModel]:
    """Makes the named models in a folder.

    Args:
        folder: Where the ONNX files go.
        names: Any of ``tabular``, ``mlp``, ``wide`` and ``heavy``.

    Returns:
        Name → model.
    """
    makers: dict[str, Callable[[], tuple[onnx.ModelProto, Floats, str, int]]] = {
        "tabular": _tabular,
        "mlp": _mlp,
        "wide": _wide,
        "heavy": _heavy,
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name in names:
        graph, features, task, decimals = makers[name]()
        file = folder / f"{name}.onnx"
        onnx.save(graph, str(file))
        # The rows are rounded before they are answered: what the client sends is what was computed here.
        rows = np.round(features.astype(np.float64), decimals).tolist()
        answers = graphs.open_session(file).run(["y"], {"x": np.asarray(rows, np.float32)})[0].tolist()
        made[name] = BenchModel(name=name, file=str(file), task=task, rows=rows, answers=answers, decimals=decimals)
    return made


def _tabular() -> tuple[onnx.ModelProto, Floats, str, int]:
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  slow to import, and only this model needs it

    data: Any = load_breast_cancer()
    features = data.data.astype(np.float32)
    return graphs.forest(features, data.target), features[:ROWS_SENT], "binary_classification", 6


def _mlp() -> tuple[onnx.ModelProto, Floats, str, int]:
    return graphs.perceptron(), np.random.default_rng(5).random((ROWS_SENT, 784), np.float32), "tensor", 4


def _wide() -> tuple[onnx.ModelProto, Floats, str, int]:
    return graphs.projection(), np.random.default_rng(5).random((ROWS_SENT, 784), np.float32), "tensor", 4


def _heavy() -> tuple[onnx.ModelProto, Floats, str, int]:
    rows = np.random.default_rng(3).standard_normal((ROWS_SENT, 30), np.float32)
    return graphs.matmul_chain(graphs.layers_for(HEAVY_RUN_MS)), rows, "binary_classification", 4
