"""Who takes part: how each server is started, what it is sent, and where its answer is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from load_tests.bench.models import BenchModel

PEERS_FOLDER: Final = Path(__file__).resolve().parent / "peers"
PROJECT: Final = PEERS_FOLDER.parents[2]
PEERS: Final = ("ekiben", "bentoml", "fastapi", "echo", "onnx-ceiling", "raw")
_TOLERANCE: Final = 2e-3


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers of a run find what they need.

    Attributes:
        folder: The run's temporary folder.
        fastapi_python: The interpreter of the environment that has FastAPI; None where it was not needed.
        ekiben_models: Model → the models folder of the Ekiben that serves it.
    """

    folder: Path
    fastapi_python: Path | None
    ekiben_models: dict[str, Path]


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """One server in the race.

    Attributes:
        name: As in `PEERS`.
        command: What to run, by model, number of workers and port.
        environ: What its environment has on top, by workplace, model and number of workers.
        path: Where it takes predictions, by model.
        wrap: A row → the body that asks for it.
        unwrap: A decoded answer → the values for its row.
        runs_model: False for the echo.
        wrap_rows: Several rows → the body that asks for them together; None where a request holds one row.
    """

    name: str
    command: Callable[[Workplace, int, int], list[str]]
    environ: Callable[[Workplace, BenchModel, int], dict[str, str]]
    path: Callable[[BenchModel], str]
    wrap: Callable[[list[float]], Any]
    unwrap: Callable[[Any], list[float]]
    runs_model: bool = True
    wrap_rows: Callable[[list[list[float]]], Any] | None = None

    def body(self, row: list[float]) -> bytes:
        """The request body for a row."""
        return msgspec.json.encode(self.wrap(row))

    def bodies(self, model: BenchModel) -> list[bytes]:
        """A request body for each row of the model."""
        return [self.body(row) for row in model.rows]

    def bodies_of_rows(self, model: BenchModel, rows_each: int) -> list[bytes]:
        """Request bodies of several rows each, all rows of the model in turn; none where a request holds one row."""
        if self.wrap_rows is None:
            return []
        rows = model.rows
        starts = range(0, len(rows) - rows_each + 1, rows_each)
        return [msgspec.json.encode(self.wrap_rows(rows[start : start + rows_each])) for start in starts]

    def is_right(self, answer: bytes, model: BenchModel, row: int) -> bool:
        """Whether an answer is the one for this row."""
        expected = model.answers[row] if self.runs_model else model.rows[row][: model.classes]
        try:
            found = self.unwrap(msgspec.json.decode(answer))
            return len(found) == len(expected) and all(abs(a - b) < _TOLERANCE for a, b in zip(found, expected, strict=True))
        except (msgspec.DecodeError, LookupError, TypeError, ValueError):
            return False


def contestants() -> dict[str, Contestant]:
    """All servers, by name."""
    all_of_them = (
        Contestant(
            name="ekiben",
            command=lambda _place, _workers, port: _bentoml("ekiben_service:svc", port),
            environ=_ekiben_environ,
            path=lambda model: f"/v1/models/{model.name}:predict",
            wrap=lambda row: {"instances": [row]},
            unwrap=_ekiben_values,
            wrap_rows=lambda rows: {"instances": rows},
        ),
        Contestant(
            name="bentoml",
            command=lambda _place, _workers, port: _bentoml("bentoml_service:Bench", port),
            environ=lambda place, model, workers: _bentoml_home(place) | _plain_environ(model, workers),
            path=lambda _model: "/predict",
            wrap=lambda row: {"x": [row]},
            unwrap=lambda answer: answer[0],
        ),
        _plain("fastapi", "fastapi_app:build_app", lambda place: str(place.fastapi_python)),
        _plain("echo", "ceiling_app:build_echo", lambda _place: sys.executable, runs_model=False),
        _plain("onnx-ceiling", "ceiling_app:build_onnx", lambda _place: sys.executable),
    )
    return {contestant.name: contestant for contestant in all_of_them}


def _plain(name: str, app: str, python: Callable[[Workplace], str], *, runs_model: bool = True) -> Contestant:
    return Contestant(
        name=name,
        command=lambda place, workers, port: _uvicorn(python(place), app, workers, port),
        environ=lambda _place, model, workers: _plain_environ(model, workers),
        path=lambda _model: "/predict",
        wrap=lambda row: {"features": row},
        unwrap=lambda answer: answer["y"],
        runs_model=runs_model,
    )


def _bentoml(service: str, port: int) -> list[str]:
    return [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def _uvicorn(python: str, app: str, workers: int, port: int) -> list[str]:
    where = ["--factory", app, "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [python, "-m", "uvicorn", *where, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


def _plain_environ(model: BenchModel, workers: int) -> dict[str, str]:
    return {
        "BENCH_MODEL": model.file,
        "BENCH_FEATURES": str(model.features),
        "BENCH_CLASSES": str(model.classes),
        "BENCH_WORKERS": str(workers),
    }


def _bentoml_home(place: Workplace) -> dict[str, str]:
    return {"BENTOML_HOME": str(place.folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}


def _ekiben_environ(place: Workplace, model: BenchModel, workers: int) -> dict[str, str]:
    return ekiben_environ(place.folder) | {"EKIBEN_WORKERS": str(workers), "BENCH_MODELS": str(place.ekiben_models[model.name])}


def ekiben_environ(folder: Path) -> dict[str, str]:
    """What Ekiben's own commands need to find the store of the run in its temporary folder, and the package."""
    return {
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "EKIBEN_HOME": str(folder / "ekiben"),
        "PYTHONPATH": str(PROJECT),
    }


def _ekiben_values(answer: Any) -> list[float]:
    """The values of a classifier's answer are its probabilities, in the labels' order; those of a tensor model its output."""
    (prediction,) = answer["predictions"]
    if "probabilities" in prediction:
        return list(prediction["probabilities"].values())
    return list(prediction["y"])
