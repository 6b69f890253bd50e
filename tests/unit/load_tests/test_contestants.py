from pathlib import Path

import msgspec
import pytest

from load_tests.bench.contestants import DEFAULT_PEERS, PEERS, PEERS_FOLDER, PROJECT, Start, Workplace, contestants, ekiben_on_trial
from load_tests.bench.models import BenchModel
from load_tests.bench.protocols import PROTOCOLS, REST
from load_tests.bench.sides import SIDES

FIELD = contestants()
MODEL = BenchModel(name="m", file="/m.onnx", task="binary_classification", rows=[[1.5, 2.0, 3.0]], answers=[[0.25, 0.75]], decimals=1)
PLACE = Workplace(
    folder=Path("/run-folder"),
    pythons={name: Path(f"/{name}/python") for name in ("fastapi", "litserve", "mlserver", "kserve", "triton")},
    ekiben_models={"m": Path("/run-folder/serve-m")},
)
START = Start(place=PLACE, model=MODEL, workers=2, port=4000, second_port=4001)


def _own(name):
    return next(p for p in FIELD[name].protocols if p.name == REST)


def _is_right(name, answer, model=MODEL):
    protocol = _own(name)
    return protocol.is_right(model, answer, {}, FIELD[name].expected(model, 0))


def _answer(values):
    labelled = {"prediction": "yes", "confidence": 0.75, "probabilities": dict(zip(("no", "yes"), values, strict=False))}
    return {
        "ekiben": {"predictions": [labelled], "model_name": "m", "model_version": "1", "id": "a"},
        "bentoml": [values],
        "fastapi": {"y": values},
        "litserve": {"y": values},
        "onnx-ceiling": {"y": values},
    }


def test_everyone_but_the_raw_session_and_the_routes_is_a_server():
    assert {*FIELD, *SIDES, "raw"} == set(PEERS)
    assert set(DEFAULT_PEERS) < set(PEERS)
    assert [name for name, c in FIELD.items() if not c.runs_model] == ["echo", "grpc-echo"]


def test_the_protocols_that_each_is_asked_in():
    spoken = {name: [p.name for p in c.protocols] for name, c in FIELD.items()}

    assert sorted(spoken.pop("ekiben")) == sorted(PROTOCOLS)
    assert spoken.pop("grpc-echo") == ["grpc"]
    assert [spoken.pop(name) for name in ("mlserver", "kserve", "triton")] == [["v2-json", "grpc"]] * 3
    assert set(map(tuple, spoken.values())) == {("rest",)}


@pytest.mark.parametrize("name", sorted(_answer([])))
def test_a_right_answer_is_told_from_a_wrong_one(name):
    assert _is_right(name, msgspec.json.encode(_answer([0.25, 0.75])[name]))
    assert not _is_right(name, msgspec.json.encode(_answer([0.75, 0.25])[name]))
    assert not _is_right(name, msgspec.json.encode(_answer([0.25])[name]))


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"y": null}', b'{"predictions": [{}]}', b"\xff\x01"])
@pytest.mark.parametrize("name", sorted(FIELD))
def test_whatever_else_comes_is_a_wrong_answer(name, answer):
    contestant = FIELD[name]

    assert not any(p.is_right(MODEL, answer, {}, contestant.expected(MODEL, 0)) for p in contestant.protocols)


def test_a_tensor_model_of_ekiben_answers_its_output():
    assert _is_right("ekiben", b'{"predictions": [{"y": [0.25, 0.75]}]}')


def test_the_echo_must_give_back_the_row():
    assert _is_right("echo", b'{"y": [1.5, 2.0]}')
    assert not _is_right("echo", b'{"y": [0.25, 0.75]}')


def test_bodies_hold_one_row_as_each_server_wants_it():
    wanted = {"ekiben": {"instances": [[1.5, 2.0, 3.0]]}, "bentoml": {"x": [[1.5, 2.0, 3.0]]}, "echo": {"features": [1.5, 2.0, 3.0]}}

    for name, body in wanted.items():
        assert [msgspec.json.decode(asked.body) for asked in _own(name).requests(MODEL)] == [body]


def test_ekiben_is_served_as_users_serve_it():
    server = FIELD["ekiben"]

    command, environ = server.command(START), server.environ(START)

    assert command[1:] == ["-m", "bentoml", "serve", "ekiben_service:svc", "--host", "127.0.0.1", "--port", "4000"]
    assert environ["EKIBEN_WORKERS"] == "2"
    assert environ["EKIBEN_DATA_PORT"] == "4001"
    assert environ["BENCH_MODELS"] == "/run-folder/serve-m"
    assert environ["BENTOML_HOME"].startswith("/run-folder")
    assert environ["EKIBEN_HOME"].startswith("/run-folder")
    assert _own("ekiben").path(MODEL) == "/v1/models/m:predict"


def test_for_routes_ekiben_is_served_the_same_but_nobody_ends_them():
    usual, server = FIELD["ekiben"], ekiben_on_trial()

    assert server.environ(START) == usual.environ(START) | {"EKIBEN_CONTROLLER": "off"}
    assert (server.name, server.command(START), server.protocols[0].name) == ("ekiben", usual.command(START), REST)


@pytest.mark.parametrize(("name", "python"), [("fastapi", "/fastapi/python"), ("onnx-ceiling", None), ("echo", None)])
def test_the_others_run_on_the_same_uvicorn_settings(name, python):
    command = FIELD[name].command(START)

    assert python is None or command[0] == python
    assert " ".join(command).endswith("--workers 2 --loop uvloop --http httptools --no-access-log --log-level warning")
    assert FIELD[name].environ(START)["BENCH_MODEL"] == "/m.onnx"


@pytest.mark.parametrize("name", ["litserve", "mlserver", "kserve", "triton"])
def test_a_peer_runs_in_its_own_environment_and_is_told_all_it_needs(name):
    contestant = FIELD[name]

    command, environ = contestant.command(START), contestant.environ(START)

    assert command == [f"/{name}/python", str(PEERS_FOLDER / f"{name}_server.py")]
    assert (environ["BENCH_NAME"], environ["BENCH_PORT"], environ["BENCH_GRPC_PORT"]) == ("m", "4000", "4001")
    assert (environ["BENCH_WORKERS"], environ["BENCH_FEATURES"], environ["BENCH_CLASSES"]) == ("2", "3", "2")


def test_the_files_they_name_are_there():
    for contestant in FIELD.values():
        command = contestant.command(START)
        files = [part for part in command if part.endswith(".py")]
        apps = [part.partition(":")[0] for part in command if ":" in part and "/" not in part]
        assert files or apps
        assert all(Path(file).is_file() for file in files)
        assert all((PEERS_FOLDER / f"{app}.py").is_file() for app in apps)
    assert (PROJECT / "load_tests" / "bench").is_dir()
