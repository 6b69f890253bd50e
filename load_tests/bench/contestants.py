"""Who takes part: how each server is started, and in which protocols it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from load_tests.bench.models import BenchModel
from load_tests.bench.protocols import Protocol, echoed_grpc, grpc, on_data_port, own_json, v2_binary, v2_json
from load_tests.bench.sides import SIDES

PEERS_FOLDER: Final = Path(__file__).resolve().parent / "peers"
PROJECT: Final = PEERS_FOLDER.parents[2]
PEERS: Final = (
    "ekiben", *SIDES, "bentoml", "fastapi", "litserve", "mlserver", "kserve", "triton",
    "echo", "onnx-ceiling", "grpc-echo", "raw",
)  # fmt: skip
DEFAULT_PEERS: Final = ("ekiben", *SIDES, "bentoml", "fastapi", "echo", "onnx-ceiling", "grpc-echo", "raw")


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers of a run find what they need.

    Attributes:
        folder: The run's temporary folder.
        pythons: Environment → its interpreter, for those that were needed.
        ekiben_models: Model → the models folder of the Ekiben that serves it.
        ekiben_twins: Model → that of the Ekiben that serves it and its twins.
    """

    folder: Path
    pythons: dict[str, Path]
    ekiben_models: dict[str, Path]
    ekiben_twins: dict[str, Path] = {}


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A server about to be started.

    Attributes:
        place: Where it finds what it needs.
        model: What it serves.
        workers: How many of its workers serve it.
        port: For its own HTTP.
        second_port: For gRPC, or Ekiben's data port.
    """

    place: Workplace
    model: BenchModel
    workers: int
    port: int
    second_port: int


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """One server in the race.

    Attributes:
        name: As in `PEERS`.
        command: What to run.
        environ: What its environment has on top.
        protocols: How it is asked; the first one also where it is overloaded.
        environment: The environment it needs; empty for the project's own.
        runs_model: False for the echoes.
        is_overloaded: Whether it takes part in the overload too.
    """

    name: str
    command: Callable[[Start], list[str]]
    environ: Callable[[Start], dict[str, str]]
    protocols: tuple[Protocol, ...]
    environment: str = ""
    runs_model: bool = True
    is_overloaded: bool = True

    def expected(self, model: BenchModel, row: int) -> list[float]:
        """What must come for a row."""
        return model.answers[row] if self.runs_model else model.rows[row][: model.classes]


def contestants() -> dict[str, Contestant]:
    """All servers, by name."""
    all_of_them = (
        _ekiben(),
        Contestant(
            name="bentoml",
            command=lambda start: _bentoml("bentoml_service:Bench", start.port),
            environ=lambda start: _bentoml_home(start.place) | _plain_environ(start),
            protocols=(own_json(lambda _model: "/predict", lambda rows: {"x": rows}, lambda answer: answer[0]),),
        ),
        _plain("fastapi", "fastapi_app:build_app", environment="fastapi"),
        Contestant(
            name="litserve",
            command=lambda start: [_python(start, "litserve"), str(PEERS_FOLDER / "litserve_server.py")],
            environ=_plain_environ,
            protocols=(_flat_json(),),
            environment="litserve",
        ),
        *(
            _open_inference(name, environment)
            for name, environment in (("mlserver", "mlserver"), ("kserve", "kserve"), ("triton", "triton"))
        ),
        _plain("echo", "ceiling_app:build_echo", runs_model=False),
        _plain("onnx-ceiling", "ceiling_app:build_onnx"),
        Contestant(
            name="grpc-echo",
            command=lambda _start: [sys.executable, str(PEERS_FOLDER / "grpc_echo.py")],
            environ=_plain_environ,
            protocols=(echoed_grpc(),),
            runs_model=False,
        ),
    )
    return {contestant.name: contestant for contestant in all_of_them}


def _ekiben() -> Contestant:
    own = own_json(lambda model: f"/v1/models/{model.name}:predict", lambda rows: {"instances": rows}, _first_prediction, takes_rows=True)
    json, binary = v2_json(_ekiben_output), v2_binary(_ekiben_output)
    return Contestant(
        name="ekiben",
        command=lambda start: _bentoml("ekiben_service:svc", start.port),
        environ=_ekiben_environ,
        protocols=(own, json, binary, grpc(_ekiben_output), *(on_data_port(protocol) for protocol in (own, json, binary))),
    )


def ekiben_on_trial() -> Contestant:
    """Ekiben for routes that belong to no rollout: without the controller, which would end them."""
    ekiben = _ekiben()
    return msgspec.structs.replace(ekiben, environ=lambda start: ekiben.environ(start) | {"EKIBEN_CONTROLLER": "off"})


def _plain(name: str, app: str, *, environment: str = "", runs_model: bool = True) -> Contestant:
    return Contestant(
        name=name,
        command=lambda start: _uvicorn(_python(start, environment), app, start.workers, start.port),
        environ=_plain_environ,
        protocols=(_flat_json(),),
        environment=environment,
        runs_model=runs_model,
    )


def _flat_json() -> Protocol:
    return own_json(lambda _model: "/predict", lambda rows: {"features": rows[0]}, lambda answer: answer["y"])


def _open_inference(name: str, environment: str) -> Contestant:
    protocols = (v2_json(lambda _model: "y"), grpc(lambda _model: "y"))
    return Contestant(
        name=name,
        command=lambda start: [_python(start, environment), str(PEERS_FOLDER / f"{name}_server.py")],
        # Without it KServe logs every request; the others do not know it.
        environ=lambda start: _plain_environ(start) | {"KSERVE_LOGLEVEL": "WARNING"},
        protocols=protocols,
        environment=environment,
    )


def _python(start: Start, environment: str) -> str:
    return str(start.place.pythons[environment]) if environment else sys.executable


def _bentoml(service: str, port: int) -> list[str]:
    return [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def _uvicorn(python: str, app: str, workers: int, port: int) -> list[str]:
    where = ["--factory", app, "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [python, "-m", "uvicorn", *where, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


def _plain_environ(start: Start) -> dict[str, str]:
    return {
        "BENCH_MODEL": start.model.file,
        "BENCH_NAME": start.model.name,
        "BENCH_FEATURES": str(start.model.features),
        "BENCH_CLASSES": str(start.model.classes),
        "BENCH_WORKERS": str(start.workers),
        "BENCH_PORT": str(start.port),
        "BENCH_GRPC_PORT": str(start.second_port),
        "BENCH_FOLDER": str(start.place.folder),
    }


def _bentoml_home(place: Workplace) -> dict[str, str]:
    return {"BENTOML_HOME": str(place.folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}


def _ekiben_environ(start: Start) -> dict[str, str]:
    return ekiben_environ(start.place.folder) | {
        "EKIBEN_WORKERS": str(start.workers),
        "EKIBEN_DATA_PORT": str(start.second_port),
        "EKIBEN_DATA_HOST": "127.0.0.1",
        "BENCH_MODELS": str(start.place.ekiben_models[start.model.name]),
    }


def ekiben_environ(folder: Path) -> dict[str, str]:
    """What Ekiben's own commands need to find the store of the run in its temporary folder, and the package."""
    return {
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "EKIBEN_HOME": str(folder / "ekiben"),
        "PYTHONPATH": str(PROJECT),
    }


def _ekiben_output(model: BenchModel) -> str:
    return "probabilities" if model.task == "binary_classification" else "y"


def _first_prediction(answer: Any) -> list[float]:
    """The values of a classifier's answer are its probabilities, in the labels' order; those of a tensor model its output."""
    prediction = answer["predictions"][0]
    if "probabilities" in prediction:
        return list(prediction["probabilities"].values())
    return list(prediction["y"])
